"""What the bus does around CLEAR_ERROR, by which user space has bad memory made good (drivers/nvdimm/bus.c, 6.1)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import ArsCapability, BusCommand, ClearError
from nvdimmfs.nd.claim import Personality
from nvdimmfs.nd.command import Outcome
from nvdimmfs.nd.device import NdDevice
from nvdimmfs.nd.namespace import NamespaceDevice
from nvdimmfs.nd.region import Kind, RegionDevice

if TYPE_CHECKING:
    from nvdimmfs.nd.bus import NvdimmBus

_U64_MASK = (1 << 64) - 1


def refuse_behind_drivers(bus: NvdimmBus, argument: bytearray) -> None:
    """EBUSY when a namespace with a driver lies in the range: its disk clears errors (nd_ns_forget_poison_check).

    The range is as long as user space says that something was cleared, which nothing was yet.
    """
    command = ClearError.from_bytes(argument)
    last = (command.address + command.cleared - 1) & _U64_MASK
    for region in bus.children:
        for device in region.children:
            namespace = _namespace_behind(device) if isinstance(device, NdDevice) else None
            if namespace and command.address <= namespace.start and namespace.start + namespace.size - 1 <= last:
                raise KernelError(errno.EBUSY, f"{namespace.name} is in use")


def _namespace_behind(device: NdDevice) -> NamespaceDevice | None:
    """The namespace of a device with a driver; dax devices do not count."""
    if device.driver is None:
        return None
    if isinstance(device, Personality):
        return device.namespace if device.kind is not Kind.DAX else None
    return device if isinstance(device, NamespaceDevice) else None


def account_cleared(bus: NvdimmBus, argument: bytearray) -> None:
    """Forget errors that the firmware cleared (nvdimm_account_cleared_poison).

    A region's sectors are good again if the range does not leave the region.
    """
    command = ClearError.from_bytes(argument)
    address, length = command.address, command.cleared
    if length:
        bus.badrange.forget(address, length)
    sectors = length // SECTOR_SIZE
    for region in bus.children if sectors else ():
        if isinstance(region, RegionDevice) and region.start <= address and address + length - 1 <= region.end:
            region.badblocks.clear((address - region.start) // SECTOR_SIZE, sectors)
            region.notify_badblocks()


def clear_poison(bus: NvdimmBus, address: int, length: int) -> int:
    """Have the platform clear errors before memory is written (nvdimm_clear_poison).

    ENXIO for a range that is no multiple of what it clears at once, and what the commands are refused with.

    Returns:
        Bytes that were cleared; all of them where there is no platform to ask.
    """
    if not bus.has_control:
        return length
    capability = bytearray(ArsCapability(address, length).to_bytes())
    _require(bus.control(None, BusCommand.ARS_CAP, capability))
    unit = ArsCapability.from_bytes(capability).clear_error_unit
    if unit.bit_count() != 1 or (address | length) % unit:
        raise KernelError(errno.ENXIO, f"errors are cleared {unit} bytes at a time")
    argument = bytearray(ClearError(address, length).to_bytes())
    _require(bus.control(None, BusCommand.CLEAR_ERROR, argument))
    account_cleared(bus, argument)
    return ClearError.from_bytes(argument).cleared


def _require(outcome: Outcome) -> None:
    if outcome.status < 0:
        raise KernelError(-outcome.status, "the platform refuses")
