"""The options that select a machine, which several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import attrs

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.sizes import exact_size, parse_size
from nvdimmfs.modules.module_files import BOOT_MODULES

if TYPE_CHECKING:  # loaded when a machine is described
    from nvdimmfs.core.clock import ClockMode
    from nvdimmfs.machine_file.model import MachineDescription

DEFAULT_MEMMAP = "512M!4G,256M!6G"

#: The modes of `core.clock.ClockMode`, which is not loaded to print a help.
CLOCKS = ("real", "steps", "manual")

#: When media are on the host's disk, the default first.
MEDIA_SYNC = ("store", "flush")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--machine",
        metavar="NAME|FILE",
        help="a name from `nvdimmfs machine list`, or a machine file; the options below override parts of it",
    )
    parser.add_argument(
        "--memmap",
        metavar="RANGES",
        help="legacy persistent memory, size!start, as on the Linux command line "
        f"(default without --machine: {DEFAULT_MEMMAP})",
    )
    parser.add_argument("--ram", metavar="SIZE", help="the size of the machine's RAM (default without --machine: 4G)")
    parser.add_argument(
        "--kernel",
        metavar="RELEASE",
        help="the kernel to emulate: 6.1; or 4.5, 4.3 or rfc, whose differences in struct pages and pfn devices are "
        "emulated (default: 6.1)",
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


def machine(arguments: argparse.Namespace) -> MachineDescription:
    """The selected machine, with the overrides of the other options."""
    from nvdimmfs.machine_file.model import MachineDescription

    wanted = MachineDescription(memmap=DEFAULT_MEMMAP)
    if arguments.machine is not None:
        from nvdimmfs.cli.machine import described
        from nvdimmfs.machine_file.files import load_as_written

        wanted = described(arguments.machine, load_as_written)
    if arguments.ram is not None:
        wanted = attrs.evolve(wanted, ram=_checked_ram(arguments.ram))
    if arguments.kernel is not None:
        wanted = attrs.evolve(wanted, kernel=_checked_kernel(arguments.kernel))
    if arguments.clock is not None:
        wanted = attrs.evolve(wanted, clock=_clock_mode(arguments.clock))
    if arguments.memmap is not None:
        wanted = attrs.evolve(wanted, memmap=arguments.memmap)
    if wanted.memmap:
        _check_memmap(wanted.memmap, wanted.ram)
    return wanted if arguments.machine is None else _completed(wanted, arguments.machine)


def is_durable(arguments: argparse.Namespace) -> bool:
    """Whether acknowledged writes of metadata to --media survive a power failure of the host."""
    if arguments.media_sync is not None and arguments.media is None:
        raise CommandError(f"--media-sync {arguments.media_sync}: there is no --media FOLDER to sync", MISUSED)
    return arguments.media_sync in (None, "store")


def _completed(wanted: MachineDescription, name: str) -> MachineDescription:
    """Fill in the defaults, which depend on the overrides.  CommandError when those contradict the machine file."""
    from nvdimmfs.machine_file.checks import problems
    from nvdimmfs.machine_file.defaults import completed

    machine = completed(wanted)
    for path, problem in problems(machine):
        raise CommandError(f"--machine {name} with these options: {path}: {problem}", MISUSED)
    return machine


def _check_memmap(memmap: str, ram: int) -> None:
    from nvdimmfs.mm.memmap_option import MemmapError, check_memmap

    try:
        check_memmap(memmap, ram)
    except MemmapError as error:
        raise CommandError(str(error), MISUSED) from None


def _checked_ram(text: str) -> int:
    from nvdimmfs.mm.pc_memory_map import MAXIMUM_RAM, MINIMUM_RAM

    ram = parse_size(text, "--ram")
    if ram < MINIMUM_RAM:
        raise CommandError(f"--ram {text}: too small; the minimum is {exact_size(MINIMUM_RAM)}", MISUSED)
    if ram > MAXIMUM_RAM:
        raise CommandError(f"--ram {text}: too large; the maximum is {exact_size(MAXIMUM_RAM)}", MISUSED)
    return ram


def _clock_mode(name: str) -> ClockMode:
    from nvdimmfs.core.clock import ClockMode

    return ClockMode(name)


def _checked_kernel(name: str) -> str:
    from nvdimmfs.kernels.kernel import EMULATED_KERNELS

    if name not in EMULATED_KERNELS:
        raise CommandError(f"--kernel {name}: must be one of {', '.join(EMULATED_KERNELS)}", MISUSED)
    return name
