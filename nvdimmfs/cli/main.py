"""The `nvdimmfs` command: finds the sub-command's module and runs it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn, Protocol, cast

from nvdimmfs import __version__
from nvdimmfs.cli.errors import FAILED, MISUSED, CommandError, one_line
from nvdimmfs.errors import printable

#: An exit status of a shell's kind: 128 and the number of the signal (SIGPIPE).
PIPE_CLOSED = 141

_STDIN, _STDOUT, _STDERR = range(3)


class Command(NamedTuple):
    """A sub-command: its name, the module that does it, what it does in one line."""

    name: str
    module: str
    summary: str


#: Every sub-command.  A module is loaded when its command is called, no sooner.
COMMANDS = (
    Command("mount", "nvdimmfs.cli.mount", "mount a machine with persistent memory"),
    Command("umount", "nvdimmfs.cli.umount", "unmount a machine and wait until its daemon has ended"),
    Command("run", "nvdimmfs.cli.run", "run a command that finds a machine in /sys, /dev and /proc"),
    Command("doctor", "nvdimmfs.cli.doctor", "report what this host allows, and how to improve it"),
    Command("show", "nvdimmfs.cli.show", "draw the layout of a machine's persistent memory"),
    Command("plan", "nvdimmfs.cli.plan", "compute what the struct pages of persistent memory cost"),
    Command("machine", "nvdimmfs.cli.machine", "list, draw and check machines"),
    Command("record", "nvdimmfs.cli.record", "write a machine file of this computer"),
)


class CommandModule(Protocol):
    """What the module of a sub-command offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it and return the exit status, or raise `CommandError`."""


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, and prints examples and exit statuses in its help."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)", MISUSED)

    def format_help(self) -> str:
        from nvdimmfs.cli.manual import help_text

        return super().format_help() + help_text(self.prog)


class CommandParser(Parser):
    """A sub-command's parser.  It loads the command's module once it is clear that the command is called."""

    command: Command | None = None

    def parse_known_args(  # type: ignore[override]  # the overloads differ in the namespace's type alone
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        self.complete()
        return super().parse_known_args(args, namespace)

    def complete(self) -> None:
        """Load the command's module and declare its arguments, once."""
        if self.command is not None:
            module = cast("CommandModule", importlib.import_module(self.command.module))
            self.set_defaults(run=module.run)
            module.configure(self)
            self.command = None


def complete_parser() -> Parser:
    """The parser with the arguments of every sub-command declared, for what documents or completes the command line."""
    parser, commands = _parsers()
    for command in commands:
        command.complete()
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        argv: the arguments without the program's name; those of the process when None.
    """
    try:
        _hold_standard_files()
        status = _run(argv)
        _write_out()
    except BrokenPipeError:
        status = PIPE_CLOSED
    except Exception as error:
        print(f"nvdimmfs: {printable(one_line(error))}", file=sys.stderr)
        status = error.status if isinstance(error, CommandError) else FAILED
    _leave_nothing_to_write()
    return status


def _hold_standard_files() -> None:
    """Let no other file take the number of stdin, stdout or stderr, should one be closed; Python has None for it then.

    It is closed again in whatever this process executes.
    """
    for number in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # whose number is the first that is free
    sys.stdout = sys.stdout or open(_STDOUT, "w", closefd=False)  # noqa: SIM115  # it stays open
    sys.stderr = sys.stderr or open(_STDERR, "w", closefd=False)  # noqa: SIM115


def _write_out() -> None:
    """Write what was printed.  BrokenPipeError when nobody reads it, CommandError when it cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as failure:
        raise CommandError(f"cannot write to stdout: {failure.strerror}") from None


def _leave_nothing_to_write() -> None:
    """What cannot be written is for nobody: the interpreter would complain of it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parsers()[0].parse_args(argv)
    except SystemExit as end:  # --help and --version are done
        return int(end.code or 0)
    status: int = arguments.run(arguments)
    return status


def _parsers() -> tuple[Parser, list[CommandParser]]:
    """The program's parser, and those of its sub-commands, which declare no arguments yet."""
    parser = Parser(
        prog="nvdimmfs",
        description="Emulate Linux's persistent-memory subsystem (libnvdimm) in user space, as a mount.",
    )
    parser.add_argument("--version", action="version", version=f"nvdimmfs {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=CommandParser)
    made = []
    for command in COMMANDS:
        own = commands.add_parser(command.name, help=command.summary, description=f"{command.summary.capitalize()}.")
        own.command = command
        made.append(own)
    return parser, made
