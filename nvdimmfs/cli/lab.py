"""`nvdimmfs lab`: ask a real Linux kernel, in a virtual machine of QEMU with persistent memory.

Each action is a command of its own, whose module is loaded when it is called: a question costs little more than that.
"""

from __future__ import annotations

import argparse

from nvdimmfs.cli.main import Command, CommandParser

#: Every action.
ACTIONS = (
    Command("ask", "nvdimmfs.cli.lab_ask", "ask a real kernel, and print its answers"),
    Command("record", "nvdimmfs.cli.lab_record", "ask a real kernel several times, and write a recording"),
    Command("replay", "nvdimmfs.cli.lab_replay", "ask nvdimmfs, or a kernel, the questions of recordings again"),
    Command("fuzz", "nvdimmfs.cli.lab_fuzz", "look for answers that differ from a kernel's, on random walks"),
    Command("coverage", "nvdimmfs.cli.lab_coverage", "list what recordings cover, and what none does"),
    Command("build-nfit-test", "nvdimmfs.cli.lab_build", "build the modules of the machine nfit_test for a kernel"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=CommandParser)
    for action in ACTIONS:
        summary = f"{action.summary[:1].upper()}{action.summary[1:]}."
        actions.add_parser(action.name, help=action.summary, description=summary).command = action


def run(arguments: argparse.Namespace) -> int:
    """Not called: each action has a function of its own."""
    raise AssertionError(f"no action: {arguments}")
