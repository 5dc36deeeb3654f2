"""`nvdimmfs lab`: ask a real Linux kernel, in a virtual machine of QEMU with persistent memory."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from nvdimmfs.cli import lab_ask, lab_fuzz, lab_record, lab_replay
from nvdimmfs.cli.lab_options import reported_errors


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    lab_ask.configure(_action(actions, "ask", lab_ask.run, "ask a real kernel, and print its answers"))
    lab_record.configure(
        _action(actions, "record", lab_record.run, "ask a real kernel several times, and write a recording")
    )
    lab_replay.configure(
        _action(actions, "replay", lab_replay.run, "ask nvdimmfs, or a kernel, the questions of recordings again")
    )
    lab_fuzz.configure(
        _action(actions, "fuzz", lab_fuzz.run, "look for answers that differ from a kernel's, on random walks")
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the action and return the exit status."""
    act: Callable[[argparse.Namespace], int] = arguments.act
    with reported_errors():
        return act(arguments)


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[argparse.Namespace], int],
    summary: str,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}.")
    parser.set_defaults(act=act)
    return parser
