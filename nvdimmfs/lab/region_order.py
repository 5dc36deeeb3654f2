"""The numbers of regions in a guest: those of the machine file.

The kernel registers the regions of an NFIT side by side, so that a boot may number them otherwise than the next.
"""

from __future__ import annotations

from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.guest import Guest
from nvdimmfs.lab.qemu_machine import buses_of_qemu
from nvdimmfs.machine_file.model import MachineDescription

#: The driver of the NFIT, and its device.
_DRIVER = "/sys/bus/acpi/drivers/nfit"
_DEVICE = "ACPI0012:00"

#: How often the driver is bound again before it counts as impossible.
_ATTEMPTS = 20


def number_regions(guest: Guest, machine: MachineDescription) -> None:
    """Have the kernel register the regions of an NFIT until their numbers are those of the machine file.  LabError.

    No driver of namespaces may be loaded yet.
    """
    wanted = [range_.start for bus in buses_of_qemu(machine) if bus.has_nfit for range_ in bus.ranges]
    for _ in range(_ATTEMPTS):
        if len(wanted) < 2 or _addresses(guest)[-len(wanted) :] == wanted:
            return
        guest.shell(f"echo {_DEVICE} > {_DRIVER}/unbind; echo {_DEVICE} > {_DRIVER}/bind")
    raise LabError(f"the guest's kernel did not number the regions as the machine file does, in {_ATTEMPTS} attempts")


def _addresses(guest: Guest) -> list[int]:
    """The first address of each region, by number."""
    printed = guest.shell("cd /sys/bus/nd/devices && cat $(ls -d region* | sort -V | sed s,$,/resource,)").stdout
    return [int(word, 16) for word in printed.split()]
