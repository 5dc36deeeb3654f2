"""The `nvdimmfs` command: finds the sub-command's module and runs it."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import shlex
import sys
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, NoReturn, Protocol, cast

from nvdimmfs import __version__
from nvdimmfs.class_code import keep_class_code, save_class_code
from nvdimmfs.cli.errors import MISUSED, CommandError, one_line
from nvdimmfs.cli.standard_files import discard_unwritten_output, open_standard_files
from nvdimmfs.errors import FAILED, printable

#: The exit status that a shell reports for SIGPIPE: 128 plus the number of the signal.
PIPE_CLOSED = 141


class Command(NamedTuple):
    """A sub-command: its name, the module that implements it, and its summary."""

    name: str
    module: str
    summary: str


#: Every sub-command.  Its module is loaded only when the command is called.
COMMANDS = (
    Command("mount", "nvdimmfs.cli.mount", "mount a machine with persistent memory"),
    Command("umount", "nvdimmfs.cli.umount", "unmount it and wait until its daemon has ended"),
    Command("start", "nvdimmfs.cli.start", "mount a machine on a new temporary directory, for a shell script"),
    Command("stop", "nvdimmfs.cli.stop", "unmount a machine of `start`, and remove its directory"),
    Command("run", "nvdimmfs.cli.run", "run a command that finds a machine with persistent memory in /sys and /dev"),
    Command("serve", "nvdimmfs.cli.serve", "carry out mount and run from a process that has loaded everything"),
    Command("doctor", "nvdimmfs.cli.doctor", "check what this host supports, and how to improve it"),
    Command("show", "nvdimmfs.cli.show", "draw the layout of a mounted machine's persistent memory"),
    Command("trace", "nvdimmfs.cli.trace", "print what programs ask of a mounted machine, and what its kernel does"),
    Command("dump", "nvdimmfs.cli.dump", "write what belongs to libnvdimm in a mount or in /sys as text"),
    Command("diff", "nvdimmfs.cli.diff", "report in words what differs between two mounts, dumps or /sys"),
    Command("save", "nvdimmfs.cli.save", "save a mounted machine with its persistent memory in a file"),
    Command("plan", "nvdimmfs.cli.plan", "compute what the struct pages of persistent memory cost"),
    Command("machine", "nvdimmfs.cli.machine", "list, draw and check machines"),
    Command("record", "nvdimmfs.cli.record", "write a machine file that describes this host"),
    Command("lab", "nvdimmfs.cli.lab", "ask a real kernel, in a virtual machine with persistent memory"),
)


#: Commands that load most of the program.
_WITH_MANY_CLASSES = frozenset({"mount", "run", "start", "serve"})


class CommandModule(Protocol):
    """The functions that the module of a sub-command must define."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the command and return the exit status, or raise `CommandError`."""


class _Once(argparse.Action):
    """Store the value of an option that has one: given again, it would drop the earlier value silently."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        _refuse_empty(self, values)
        if option_string and getattr(namespace, self.dest) is not self.default:
            parser.error(f"{option_string} is given twice, as {getattr(namespace, self.dest)} and as {values}")
        vars(namespace)[self.dest] = values


class _Each(argparse.Action):
    """Collect the values of an option that can be repeated."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option_string: str | None = None,
    ) -> None:
        _refuse_empty(self, values)
        vars(namespace)[self.dest] = [*(getattr(namespace, self.dest) or []), values]


def _refuse_empty(action: argparse.Action, values: object) -> None:
    """ArgumentError for an empty value: from an unset variable of a script, it would name the working directory."""
    given = values if isinstance(values, list) and action.nargs == argparse.ONE_OR_MORE else [values]
    if "" in given and action.default != "":
        raise argparse.ArgumentError(action, "it is empty")


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, and prints examples and exit statuses in its help."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401  # those of ArgumentParser
        super().__init__(**settings)
        self.register("action", None, _Once)
        self.register("action", "store", _Once)
        self.register("action", "append", _Each)

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)", MISUSED)

    def format_help(self) -> str:
        from nvdimmfs.cli.manual import help_text

        return super().format_help() + help_text(self.prog)


class CommandParser(Parser):
    """A sub-command's parser.  It loads the command's module only when the command is called."""

    command: Command | None = None

    def parse_known_args(  # type: ignore[override]  # the overloads differ only in the namespace's type
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        self.complete()
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:  # argparse leaves them to the outermost parser, whose help has no option of this command
            self.error(f"unrecognized arguments: {shlex.join(unknown)}")
        return parsed, unknown

    def complete(self) -> None:
        """Load the command's module and declare its arguments, once."""
        if self.command is not None:
            if self.command.name in _WITH_MANY_CLASSES:
                keep_class_code()
            module = cast("CommandModule", importlib.import_module(self.command.module))
            self.set_defaults(run=module.run)
            module.configure(self)
            self.command = None


def complete_parser() -> Parser:
    """The parser with the arguments of every sub-command declared, for what documents or completes the command line."""
    parser, commands = _parsers()
    for command in commands:
        _complete_all(command)
    return parser


def preload_commands(names: Collection[str]) -> None:
    """Load the modules of some sub-commands, and declare their arguments, for this process and those that it forks."""
    for command in _parsers()[1]:
        if command.command is not None and command.command.name in names:
            command.complete()


def _complete_all(parser: CommandParser) -> None:
    """Declare the arguments of a command, and of its actions that are commands."""
    parser.complete()
    groups = [group for group in parser._actions if isinstance(group, argparse._SubParsersAction)]
    for action in (action for group in groups for action in group.choices.values()):
        if isinstance(action, CommandParser):
            _complete_all(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        argv: the arguments without the program's name; those of the process when None.
    """
    try:
        open_standard_files()
        status = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        status = PIPE_CLOSED
    except KeyboardInterrupt:
        return _end_by_interrupt()
    except Exception as error:
        print(f"nvdimmfs: {printable(one_line(error))}", file=sys.stderr)
        status = error.status if isinstance(error, CommandError) else FAILED
    discard_unwritten_output()
    return status


def _end_by_interrupt() -> int:
    """End this process by SIGINT, so that a shell sees that its user has interrupted it."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    return 128 + signal.SIGINT


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = parse(argv)
    except SystemExit as end:  # after --help or --version
        return int(end.code or 0)
    status: int = arguments.run(arguments)
    save_class_code()
    return status


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The parsed arguments.  CommandError for a mistake, SystemExit after --help or --version."""
    return _parsers()[0].parse_args(argv)


@functools.cache
def _parsers() -> tuple[Parser, list[CommandParser]]:
    """The program's parser, and those of its sub-commands, which declare their arguments when they are needed.

    They are made once in a process and those that it forks: a warm server has all of them.
    """
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
