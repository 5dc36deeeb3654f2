"""Guests that boot again, as by a button: the memory keeps its bytes, and the kernel knows nothing any more."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import attrs

from nvdimmfs.lab.asking import SETTLE, Answer, Call
from nvdimmfs.lab.guest import TOGETHER, Guest
from nvdimmfs.lab.hardware import Hardware
from nvdimmfs.lab.hotplug import is_plug, plug
from nvdimmfs.lab.region_order import number_regions

#: The question in a story at which the machine boots again.
REBOOT = "reboot"


def finish_boot(guest: Guest, hardware: Hardware) -> None:
    """Wait for a guest that is booting, and load its modules.  LabError."""
    guest.wait_for_agent()
    guest.load(hardware.platform_modules)
    number_regions(guest, hardware.machine)
    guest.load(hardware.drivers)


@attrs.define
class RebootingGuest:
    """A guest that also answers stories in which its machine boots again, and in which DIMMs are plugged in.

    Attributes:
        guest: the guest.
        hardware: its hardware.
    """

    guest: Guest
    hardware: Hardware

    def ask(self, calls: Iterable[Call], settle: float = SETTLE, together: float = TOGETHER) -> Iterator[Answer]:
        """Ask questions; arguments and errors as `Guest.ask`, and errors as `hotplug.plug`."""
        for is_of_hardware, some in itertools.groupby(calls, _is_of_hardware):
            if not is_of_hardware:
                yield from self.guest.ask([*some], settle, together)
                continue
            for call in some:
                yield self._plug(call["data"], settle) if is_plug(call) else self._reboot()

    def _reboot(self) -> Answer:
        """QEMU ends when a kernel panics and boots again; only here it is to go on."""
        monitor = self.guest.monitor
        monitor.execute("set-action", reboot="reset")
        monitor.execute("system_reset")
        finish_boot(self.guest, self.hardware)
        monitor.execute("set-action", reboot="shutdown")
        return {}

    def _plug(self, text: str, settle: float) -> Answer:
        machine = plug(self.guest.monitor, self.hardware.machine, text)
        self.hardware = attrs.evolve(self.hardware, machine=machine)
        list(self.guest.ask([{"op": "sleep", "seconds": settle}]))
        return {"wrote": len(text)}


def _is_of_hardware(call: Call) -> bool:
    """Whether QEMU answers a question, rather than the guest's kernel."""
    return call["op"] == REBOOT or is_plug(call)
