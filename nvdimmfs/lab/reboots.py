"""Guests that boot again, as by a button: the memory keeps its bytes, and the kernel knows nothing any more."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import attrs

from nvdimmfs.lab.asking import SETTLE, Answer, Call
from nvdimmfs.lab.guest import TOGETHER, Guest
from nvdimmfs.lab.hardware import Hardware
from nvdimmfs.lab.region_order import number_regions

#: The question in a story at which the machine boots again.
REBOOT = "reboot"


def finish_boot(guest: Guest, hardware: Hardware) -> None:
    """Wait for a guest that is booting, and load its modules.  LabError."""
    guest.wait_for_agent()
    guest.load(hardware.platform_modules)
    number_regions(guest, hardware.machine)
    guest.load(hardware.drivers)


@attrs.frozen
class RebootingGuest:
    """A guest that also answers stories in which its machine boots again.

    Attributes:
        guest: the guest.
        hardware: its hardware.
    """

    guest: Guest
    hardware: Hardware

    def ask(self, calls: Iterable[Call], settle: float = SETTLE, together: float = TOGETHER) -> Iterator[Answer]:
        """Ask questions; arguments and errors as `Guest.ask`."""
        for reboots, some in itertools.groupby(calls, lambda call: call["op"] == REBOOT):
            if not reboots:
                yield from self.guest.ask([*some], settle, together)
                continue
            for _ in some:
                self._reboot()
                yield {}

    def _reboot(self) -> None:
        """QEMU ends when a kernel panics and boots again; only here it is to go on."""
        monitor = self.guest.monitor
        monitor.execute("set-action", reboot="reset")
        monitor.execute("system_reset")
        finish_boot(self.guest, self.hardware)
        monitor.execute("set-action", reboot="shutdown")
