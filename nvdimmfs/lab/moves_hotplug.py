"""Moves of a walk that plug DIMMs into the running machine, as QEMU's device_add does."""

from __future__ import annotations

from nvdimmfs.lab.hotplug import PLUG_FILE, REGISTRATION
from nvdimmfs.lab.nfit_test import NFIT_TEST
from nvdimmfs.lab.qemu_machine import RANGE_ALIGNMENT, SLOTS
from nvdimmfs.lab.walker import DEVICES, Walker
from nvdimmfs.units import KIB, MIB, align_up

#: The provider of a bus whose DIMMs the firmware announces (acpi_nfit_desc_init, drivers/acpi/nfit/core.c).
_PROVIDER = "ACPI.NFIT"

#: The most DIMMs of a walk, so that slots are left, and so that walks are not about nothing else.
_MOST_DIMMS = 8

_SIZES = (16, 32, 64, 128, 510)
_LABEL_SIZES = (0, 128 * KIB, 128 * KIB, 256 * KIB, MIB)
_GAPS = (0, 0, 2, 16, 128)

#: The share of DIMMs that are not armed.
_NOT_ARMED = 0.1

#: Of the text of an unlabelled DIMM, which has no command for labels.
_WITHOUT_LABELS = 'family = -1\ncommands = ["cmd_call"]\n'


def plug(walker: Walker) -> None:
    """Plug in a DIMM above all memory, in a free slot, and look at it when the kernel has registered it."""
    buses = [each for each in walker.devices("ndbus") if walker.seen(f"{DEVICES}/{each}/provider") == _PROVIDER]
    handles = {int(walker.seen(f"{DEVICES}/{each}/nfit/handle") or "0", 0) for each in walker.devices("nmem")}
    if not buses or NFIT_TEST in walker.names("module") or len(handles) >= _MOST_DIMMS:
        return
    walker.has_plugged = True
    handle = walker.choose(sorted({*range(1, SLOTS + 1)} - handles))
    text = _text(walker, handle, _end_of_memory(walker))
    walker.ask({"op": "write", "path": PLUG_FILE, "data": text})  # its uevents come when the kernel has time for it
    walker.ask({"op": "sleep", "seconds": REGISTRATION})


def _end_of_memory(walker: Walker) -> int:
    """Where the last region ends."""
    regions = [f"{DEVICES}/{each}" for each in walker.devices("region")]
    return max(
        (int(walker.seen(f"{each}/resource"), 0) + int(walker.seen(f"{each}/size")) for each in regions), default=0
    )


def _text(walker: Walker, handle: int, end: int) -> str:
    """The description of a new DIMM, as `machine_file.addition` reads it."""
    start = align_up(end, RANGE_ALIGNMENT) + walker.choose(_GAPS) * MIB
    label, size = walker.choose(_LABEL_SIZES), walker.choose(_SIZES) * MIB
    flags = 'flags = ["not_armed"]\n' if walker.happens(_NOT_ARMED) else ""
    return (
        f"[[bus.dimm]]\nhandle = {handle}\nsize = {size + label}\nlabel = {{ size = {label} }}\n"
        f"{flags}{'' if label else _WITHOUT_LABELS}"
        f'[[bus.range]]\nstart = {start:#x}\nsize = {size}\nrange_index = {2 * handle}\ndimms = ["{handle:#x}"]\n'
    )
