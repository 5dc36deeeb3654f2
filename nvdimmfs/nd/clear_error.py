"""CLEAR_ERROR, the command that repairs bad memory, and what the bus updates after it (drivers/nvdimm/bus.c, 6.1)."""

from __future__ import annotations

import errno

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import ArsCapability, BusCommand, ClearError
from nvdimmfs.nd.bus import NvdimmBus
from nvdimmfs.nd.command import Outcome
from nvdimmfs.nd.region import RegionDevice


def account_cleared(bus: NvdimmBus, argument: bytearray) -> None:
    """Remove errors that the firmware cleared from the lists (nvdimm_account_cleared_poison).

    From a region's list they are removed if the whole range lies in the region.
    """
    command = ClearError.from_bytes(argument)
    _account(bus, command.address, command.cleared)


def _account(bus: NvdimmBus, address: int, length: int) -> None:
    if length:
        bus.badrange.forget(address, length)
    sectors = length // SECTOR_SIZE
    for region in bus.children if sectors else ():
        if isinstance(region, RegionDevice) and region.start <= address and address + length - 1 <= region.end:
            region.badblocks.clear((address - region.start) // SECTOR_SIZE, sectors)
            region.notify_badblocks()


def clear_poison(bus: NvdimmBus, address: int, length: int) -> int:
    """Have the platform clear errors before memory is written (nvdimm_clear_poison).

    ENXIO for a range that is not a multiple of the platform's unit, and the errors of the commands.

    Returns:
        The number of bytes that were cleared; all of them where the platform has no such command.
    """
    if not bus.has_control:
        # Its kernel knows of no error; those that a fault rule made end as they would on hardware.
        if any(bus.badrange.within(address, address + length - 1)):
            _account(bus, address, length)
        return length
    capability = bytearray(ArsCapability(address, length).to_bytes())
    _require(bus.send(None, BusCommand.ARS_CAP, capability))
    unit = ArsCapability.from_bytes(capability).clear_error_unit
    if unit.bit_count() != 1 or (address | length) % unit:
        raise KernelError(errno.ENXIO, f"errors are cleared {unit} bytes at a time")
    argument = bytearray(ClearError(address, length).to_bytes())
    _require(bus.send(None, BusCommand.CLEAR_ERROR, argument))
    account_cleared(bus, argument)
    return ClearError.from_bytes(argument).cleared


def _require(outcome: Outcome) -> None:
    if outcome.status < 0:
        raise KernelError(-outcome.status, "the platform refused the command")
