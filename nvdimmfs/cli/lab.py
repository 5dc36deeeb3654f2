"""`nvdimmfs lab`: ask a real Linux kernel, in a virtual machine of QEMU with persistent memory."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.lab_options import guest_machine, guest_plan, offer_guest, reported_errors
from nvdimmfs.lab.asking import Call
from nvdimmfs.lab.guest import Guest, GuestPlan
from nvdimmfs.lab.snapshots import booted, resumed

#: The name of stdin in place of a file.
_STDIN = "-"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    summary = "ask a real kernel, and print its answers"
    asking = actions.add_parser("ask", help=summary, description=f"{summary[:1].upper()}{summary[1:]}.")
    asking.set_defaults(act=_ask)
    offer_guest(asking)
    asking.add_argument(
        "--cold", action="store_true", help="boot a guest for this, instead of resuming one that has booted"
    )
    asking.add_argument(
        "--file", metavar="FILE", action="append", default=[], help="copy a file to /root in the guest; can be repeated"
    )
    asking.add_argument(
        "--shell", metavar="LINE", help="have the guest's shell execute a line, instead of asking questions"
    )
    asking.add_argument(
        "steps", metavar="STEPS", nargs="?", help=f"a file with one question on each line, as JSON; {_STDIN} for stdin"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the action and return the exit status."""
    act: Callable[[argparse.Namespace], int] = arguments.act
    return act(arguments)


def _ask(arguments: argparse.Namespace) -> int:
    if (arguments.shell is None) == (arguments.steps is None):
        raise CommandError("ask: give either STEPS or --shell LINE", MISUSED)
    calls = [] if arguments.steps is None else list(_questions(arguments.steps))
    plan = guest_plan(arguments, guest_machine(arguments))
    with reported_errors(), _guest(arguments, plan) as guest:
        for name in arguments.file:
            path = Path(name)
            guest.put(f"/root/{path.name}", path.read_bytes(), path.stat().st_mode & 0o777)
        if arguments.shell is not None:
            return _execute(guest, arguments.shell)
        for call, answer in zip(calls, guest.ask(calls, arguments.settle), strict=True):
            print(json.dumps({**call, "result": answer}), flush=True)
    return 0


def _guest(arguments: argparse.Namespace, plan: GuestPlan) -> AbstractContextManager[Guest]:
    return booted(plan, arguments.timeout) if arguments.cold else resumed(plan, arguments.timeout)


def _execute(guest: Guest, line: str) -> int:
    """Print what a shell line prints.  Returns its exit status, as a shell reports it."""
    done = guest.shell(line)
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(done.stderr)
    sys.stderr.buffer.flush()
    return done.status if done.status >= 0 else 128 - done.status


def _questions(name: str) -> Iterator[Call]:
    """The questions in a file.  CommandError for a line that is none."""
    text = sys.stdin.read() if name == _STDIN else Path(name).read_text()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            call = json.loads(line)
        except ValueError as error:
            raise CommandError(f"{name}, line {number}: not JSON: {error}", MISUSED) from None
        if not isinstance(call, dict) or not isinstance(call.get("op"), str):
            raise CommandError(f'{name}, line {number}: a question is an object with "op", such as "read"', MISUSED)
        yield cast("Call", {key: value for key, value in call.items() if key not in ("result", "unstable")})
