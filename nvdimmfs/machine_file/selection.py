"""A machine with some of its parts replaced: what the command line's options and the arguments of a test select."""

from __future__ import annotations

import attrs

from nvdimmfs.core.clock import ClockMode
from nvdimmfs.kernels.kernel import EMULATED_KERNELS
from nvdimmfs.machine_file import DEFAULT_MEMMAP
from nvdimmfs.machine_file.checks import checked
from nvdimmfs.machine_file.defaults import ram_before_addresses
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.mm.e820 import scan_size
from nvdimmfs.mm.memmap_option import MemmapError, check_memmap
from nvdimmfs.mm.pc_memory_map import MAXIMUM_RAM, MINIMUM_RAM
from nvdimmfs.units import exact_size


class SelectionError(ValueError):
    """A replaced part that a machine cannot have.

    Attributes:
        option: the name of the part, as in `selected`, with which the message begins; empty where the parts contradict
            each other, or memmap= is refused.
        is_of_memmap: memmap= is refused; the message names its entry.
    """

    def __init__(self, option: str, problem: str, *, is_of_memmap: bool = False) -> None:
        super().__init__(f"{option} {problem}" if option else problem)
        self.option = option
        self.is_of_memmap = is_of_memmap


def selected(
    machine: MachineDescription | None,
    *,
    memmap: str | None = None,
    ram: int | str | None = None,
    kernel: str | None = None,
    clock: str | None = None,
) -> MachineDescription:
    """Return the machine with parts replaced, completed and checked.  SelectionError.

    Args:
        machine: the machine, not completed, as replaced parts change the defaults of others; None: 4 GiB of RAM and
            memmap=`DEFAULT_MEMMAP`.
        memmap: legacy ranges, as on the kernel's command line.
        ram: bytes, or a text such as 4G.
        kernel: the kernel that it runs.
        clock: the mode of its clock.
    """
    wanted = machine or MachineDescription(memmap=DEFAULT_MEMMAP)
    if ram is not None and wanted.ram_ranges:
        raise SelectionError("ram", f"{ram}: the machine file gives its RAM by [[ram_range]]")
    if ram is not None:
        wanted = attrs.evolve(wanted, ram=_checked_ram(ram))
    if kernel is not None:
        wanted = attrs.evolve(wanted, kernel=_checked_kernel(kernel))
    if clock is not None:
        wanted = attrs.evolve(wanted, clock=_clock_mode(clock))
    if memmap is not None:
        wanted = attrs.evolve(wanted, memmap=memmap)
    return _completed(wanted)


def _completed(wanted: MachineDescription) -> MachineDescription:
    """Fill in the defaults, which depend on the replaced parts, and check the machine."""
    if wanted.memmap:
        try:
            check_memmap(wanted.memmap, ram_before_addresses(wanted))
        except MemmapError as error:
            raise SelectionError("", str(error), is_of_memmap=True) from None
        except ValueError:
            pass  # the RAM is wrong, as `problems` reports
    machine, problems = checked(wanted)
    for path, problem in problems:
        raise SelectionError("", f"{path}: {problem}" if path else problem)
    return machine


def _checked_ram(ram: int | str) -> int:
    size, rest = (ram, "") if isinstance(ram, int) else scan_size(ram)
    if rest or not size:
        raise SelectionError("ram", f"{_shown(ram)}: must be a size greater than 0, such as 4G")
    if size < MINIMUM_RAM:
        raise SelectionError("ram", f"{ram}: too small; the minimum is {exact_size(MINIMUM_RAM)}")
    if size > MAXIMUM_RAM:
        raise SelectionError("ram", f"{ram}: too large; the maximum is {exact_size(MAXIMUM_RAM)}")
    return size


def _checked_kernel(name: str) -> str:
    if name not in EMULATED_KERNELS:
        raise SelectionError("kernel", f"{_shown(name)}: must be one of {', '.join(EMULATED_KERNELS)}")
    return name


def _clock_mode(name: str) -> ClockMode:
    modes = {mode.value: mode for mode in ClockMode}
    if name not in modes:
        raise SelectionError("clock", f"{_shown(name)}: must be one of {', '.join(modes)}")
    return modes[name]


def _shown(value: int | str) -> int | str:
    """A value in a message; of an empty text, its quotes."""
    return value if value != "" else "''"
