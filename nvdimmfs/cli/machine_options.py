"""The options that select a machine, which several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.errors import printable
from nvdimmfs.machine_file import DEFAULT_MEMMAP
from nvdimmfs.modules.module_files import BOOT_MODULES

if TYPE_CHECKING:  # loaded when a machine is described
    from nvdimmfs.machine.saved import SavedMachine
    from nvdimmfs.machine_file.model import MachineDescription
    from nvdimmfs.machine_file.selection import SelectionError

#: The modes of `core.clock.ClockMode`, which is not loaded to print a help.
CLOCKS = ("real", "steps", "manual")

#: Options that describe a machine, which a saved one contradicts.
_DESCRIBING = ("machine", "memmap", "ram", "kernel")

#: How files are opened that others may append to, too.  A pipe whose reader is slow must not make a machine wait.
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC

#: The end of the name of a file of --trace that gets JSON Lines.
JSON_SUFFIX = ".jsonl"

#: When media are on the host's disk, the default first.
MEDIA_SYNC = ("store", "flush")


@attrs.frozen
class TraceOutput:
    """The file of --trace.

    Attributes:
        file: its descriptor.
        path: its name.
    """

    file: int
    path: str


class _Joined(argparse.Action):
    """Join the values of an option that is given several times with commas."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        vars(namespace)[self.dest] = values if before is None else f"{before},{values}"


def offer_ranges(parser: argparse.ArgumentParser) -> None:
    """Declare the options that select the memory of a machine."""
    parser.add_argument(
        "--machine",
        metavar="NAME|FILE",
        help="a name from `nvdimmfs machine list`, or a machine file; the options below override parts of it",
    )
    parser.add_argument(
        "--memmap",
        metavar="RANGES",
        action=_Joined,
        help="legacy persistent memory, size!start, as on the Linux command line, where several options add up "
        f"(default without --machine: {DEFAULT_MEMMAP})",
    )
    parser.add_argument("--ram", metavar="SIZE", help="the size of the machine's RAM (default without --machine: 4G)")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    offer_ranges(parser)
    parser.add_argument(
        "--restore",
        metavar="FILE",
        help="the machine and the bytes that `nvdimmfs save` has saved in a file; --media then names a new folder",
    )
    parser.add_argument(
        "--kernel",
        metavar="RELEASE",
        help="the kernel to emulate: 5.10, 5.15, 6.1, 6.6, 6.8 or 6.12; or 4.5, 4.3 or rfc, whose differences in "
        "struct pages and pfn devices are emulated (default: 6.1)",
    )
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        help="what advances the machine's clock: the host's time (real); requests alone, so that results are the same "
        "on every host (steps); or writes to sys/kernel/debug/nvdimmfs/clock alone (manual) (default: real)",
    )
    parser.add_argument(
        "--media",
        metavar="FOLDER",
        help="keep the bytes of persistent memory in files in this folder (default: in RAM, lost on unmount)",
    )
    parser.add_argument(
        "--media-sync",
        choices=MEDIA_SYNC,
        help="what survives a power failure of the host: each write of labels, info blocks and BTTs that was answered "
        "(store), or only what fsync(2) or the unmount wrote to the host's disk, which is faster (flush); a killed "
        "daemon loses nothing in either case (default: store)",
    )
    parser.add_argument(
        "--blacklist",
        metavar="MODULE",
        action="append",
        choices=BOOT_MODULES,
        default=[],
        help=f"do not load a module at boot, as modprobe.blacklist=: {', '.join(BOOT_MODULES)}; "
        "sys/kernel/debug/nvdimmfs/modules loads it later",
    )


def offer_files(parser: argparse.ArgumentParser, *, log_default: str) -> None:
    """Declare the files to which a machine writes what happens to it."""
    parser.add_argument(
        "--log",
        metavar="FILE",
        help=f"append the log to a file, with the reason of every refused write (default: {log_default})",
    )
    parser.add_argument(
        "--trace",
        metavar="FILE",
        help="append every call of programs to a file, from the boot on, with what the kernel does because of it; as "
        f"JSON Lines if the name ends in {JSON_SUFFIX}, else as text (`nvdimmfs trace` describes it)",
    )


def opened_log(arguments: argparse.Namespace) -> int | None:
    """The descriptor of the file of --log, for appending; None without the option."""
    return None if arguments.log is None else os.open(arguments.log, _APPEND, 0o644)


def opened_trace(arguments: argparse.Namespace) -> TraceOutput | None:
    """The file of --trace, for appending; None without the option."""
    if arguments.trace is None:
        return None
    return TraceOutput(os.open(arguments.trace, _APPEND | os.O_NONBLOCK, 0o644), arguments.trace)


def saved_machine(arguments: argparse.Namespace) -> SavedMachine | None:
    """The saved machine that --restore names, read and checked; None without the option."""
    if arguments.restore is None:
        return None
    for option in _DESCRIBING:
        if getattr(arguments, option) is not None:
            raise CommandError(
                f"--restore {arguments.restore} has a machine already; --{option} cannot change it", MISUSED
            )
    from nvdimmfs.machine.saved import SavedMachineError, read_saved

    try:
        return read_saved(Path(arguments.restore).absolute())
    except SavedMachineError as error:
        raise CommandError(str(error)) from None


def machine(arguments: argparse.Namespace, saved: SavedMachine | None = None) -> MachineDescription:
    """The selected machine, or the saved one, with the overrides of the other options."""
    from nvdimmfs.machine_file.selection import SelectionError, selected

    named = None if saved is None else saved.description
    if arguments.machine is not None:
        from nvdimmfs.cli.machine import described
        from nvdimmfs.machine_file.files import load_as_written

        named = described(arguments.machine, load_as_written)
    try:
        chosen = selected(
            named, memmap=arguments.memmap, ram=arguments.ram, kernel=arguments.kernel, clock=arguments.clock
        )
    except SelectionError as error:
        raise CommandError(_message(error, arguments.machine), MISUSED) from None
    if arguments.memmap is not None and not chosen.buses:
        _warn_of_no_persistent_memory(arguments.memmap)
    return chosen


def _warn_of_no_persistent_memory(memmap: str) -> None:
    """Warn of ranges that are all of other kinds, as of `@` in the place of `!`, which makes RAM."""
    from nvdimmfs.mm.memmap_option import makes_persistent_memory

    if not makes_persistent_memory(memmap):
        print(
            f"nvdimmfs: warning: --memmap {printable(memmap)} makes no persistent memory; for that, write SIZE!START,"
            " for example 512M!4G",
            file=sys.stderr,
        )


def _message(error: SelectionError, name: str | None) -> str:
    if error.option:
        return f"--{error}"
    return str(error) if name is None or error.is_of_memmap else f"--machine {name} with these options: {error}"


def is_durable(arguments: argparse.Namespace) -> bool:
    """Whether acknowledged writes of metadata to --media survive a power failure of the host."""
    if arguments.media_sync is not None and arguments.media is None:
        raise CommandError(f"--media-sync {arguments.media_sync}: there is no --media FOLDER to sync", MISUSED)
    return arguments.media_sync in (None, "store")
