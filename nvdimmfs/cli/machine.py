"""`nvdimmfs machine`: list the built-in machines, draw a machine, and check machine files."""

from __future__ import annotations

import argparse
import enum
import json
import sys
from collections.abc import Callable

import attrs

from nvdimmfs.cli.errors import MISUSED, CommandError, require_docstrings
from nvdimmfs.cli.show import offer_svg, write_svg
from nvdimmfs.errors import FAILED, printable
from nvdimmfs.machine_file.errors import MachineFileError
from nvdimmfs.machine_file.files import load_machine, machines
from nvdimmfs.machine_file.model import MachineDescription


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _action(actions, "list", _list, "list the built-in machines, one per line")
    _offer_json(listing)
    showing = _action(actions, "show", _show, "draw a machine: address map, DIMMs, and what each range is made of")
    showing.add_argument("machine", metavar="NAME|FILE", help="a name from `machine list`, or a machine file")
    _offer_json(showing)
    offer_svg(showing)
    checking = _action(actions, "check", _check, "report each mistake in machine files, one per line")
    checking.add_argument("machines", metavar="FILE", nargs="+", help="a machine file, or a name from `machine list`")
    _action(actions, "schema", _schema, "print the JSON Schema of machine files, for editors")


def run(arguments: argparse.Namespace) -> int:
    """Run the action and return the exit status."""
    act: Callable[[argparse.Namespace], int] = arguments.act
    return act(arguments)


def described(name_or_path: str, load: Callable[[str], MachineDescription] = load_machine) -> MachineDescription:
    """The machine of a --machine argument.  Several mistakes in its file go to stderr, and CommandError counts them."""
    try:
        return load(name_or_path)
    except MachineFileError as error:
        if len(error.lines) == 1:
            raise CommandError(error.lines[0], MISUSED) from None
        _print_errors(error.lines)
        raise CommandError(f"{name_or_path}: {len(error.lines)} mistakes", MISUSED) from None


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[argparse.Namespace], int],
    summary: str,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}.")
    parser.set_defaults(act=act)
    return parser


def _offer_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _list(arguments: argparse.Namespace) -> int:
    descriptions = [described(name) for name in machines()]
    if arguments.json:
        _print_json([{"name": machine.name, "description": machine.description} for machine in descriptions])
        return 0
    width = max((len(machine.name) for machine in descriptions), default=0)
    for machine in descriptions:
        print(f"{machine.name:<{width}}  {machine.description}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    if arguments.json and arguments.svg is not None:
        raise CommandError("--json and --svg cannot be combined; give one of them", MISUSED)
    machine = described(arguments.machine)
    if arguments.json:
        _print_json(attrs.asdict(machine, value_serializer=_plain))
        return 0
    from nvdimmfs.cli.drawing.described import drawing_of
    from nvdimmfs.cli.drawing.machine_text import machine_text

    drawing = drawing_of(machine)
    if arguments.svg is not None:
        write_svg(drawing, arguments.svg)
    else:
        print(machine_text(drawing), end="")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    status = 0
    for name_or_path in arguments.machines:
        mistakes = _mistakes(name_or_path)
        if mistakes:
            _print_errors(mistakes)
            status = FAILED
    return status


def _mistakes(name_or_path: str) -> list[str]:
    """Each mistake in a machine file; in one that can be read, what its machine refuses at its first boot."""
    try:
        description = load_machine(name_or_path)
    except MachineFileError as error:
        return error.lines
    from nvdimmfs.machine.first_boot import NewMachineError
    from nvdimmfs.machine.machine import Machine

    try:
        Machine.described(description).close()
    except NewMachineError as error:
        return [f"{name_or_path}: {error}"]
    return []


def _schema(_: argparse.Namespace) -> int:
    from nvdimmfs.machine_file.schema import schema_text

    require_docstrings("the schema")
    print(schema_text(), end="")
    return 0


def _print_errors(lines: list[str]) -> None:
    for line in lines:
        print(printable(line), file=sys.stderr)


def _plain(_: object, __: object, value: object) -> object:
    """A value in a form that JSON has."""
    return value.value if isinstance(value, enum.Enum) else value


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
