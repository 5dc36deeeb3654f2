"""DIMMs that are plugged into a running guest: what a write to `plug` asks for in the debug folder of nvdimmfs.

QEMU gives the guest a DIMM (`device_add`), whose firmware then notifies the kernel, as on the emulated machine.
"""

from __future__ import annotations

from collections.abc import Iterator

from nvdimmfs.lab.asking import Call
from nvdimmfs.lab.hardware import Part, dimm_part
from nvdimmfs.lab.qemu import Qemu
from nvdimmfs.lab.qemu_machine import handle_of_range, require_possible
from nvdimmfs.lab.trees import OWN_FOLDER
from nvdimmfs.machine_file.addition import Extended, extended
from nvdimmfs.machine_file.model import MachineDescription

#: The file that plugs in DIMMs and ranges.
PLUG_FILE = f"{OWN_FOLDER}/plug"

#: Seconds in which a kernel reads the longer NFIT and registers what is new.
REGISTRATION = 1


def is_plug(call: Call) -> bool:
    """Whether a question plugs something in."""
    return call["op"] == "write" and call["path"] == PLUG_FILE


def plug(monitor: Qemu, machine: MachineDescription, text: str) -> MachineDescription:
    """Plug DIMMs into a guest, and return the machine with them.

    Args:
        monitor: QEMU.
        machine: the machine, completed.
        text: what is plugged in, see `machine_file.addition`.

    Raises:
        MachineFileError: with the errors of the text.
        ImpossibleMachineError: for what QEMU cannot give.
        LabError: QEMU refuses it.
    """
    addition = extended(machine, text)
    require_possible(addition.machine)
    for part in _new_parts(addition):
        for backend in part.backends:
            monitor.command(f"object_add memory-backend-ram,id={backend.name},size={backend.size}")
        for word in part.options:
            if not word.startswith("-"):
                monitor.command(f"device_add {word}")
    return addition.machine


def _new_parts(addition: Extended) -> Iterator[Part]:
    """The new DIMMs, each with its range.  Their names need no order: no guest finds two of them at a time."""
    for range_ in addition.new_ranges:
        yield dimm_part(addition.bus, range_, f"plugged{handle_of_range(addition.bus, range_)}")
