"""The kernel's scrubbing of a bus: one range after the other (drivers/acpi/nfit/core.c, Linux 6.1).

The first scrub goes over all ranges twice: a short pass, which returns the errors that the platform already knows, then
a long one.  The platform does not notify the kernel of the end of a scrub; the kernel polls, see `kernels.durations`.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import (
    ARS_PERSISTENT,
    ARS_RETURN_PREVIOUS,
    ARS_VOLATILE,
    ArsCapability,
    ArsRecord,
    ArsStart,
    ArsStatus,
    BusCommand,
)
from nvdimmfs.kernels.durations import SCRUB_POLL, SCRUB_POLL_LIMIT
from nvdimmfs.nd.bus import NvdimmBus
from nvdimmfs.nd.region import RegionDevice

#: The smallest size of a status before its records; four bytes less than the structure has, as some firmware does not
#: count the status word.
_LEAST = 44


class Request(enum.Enum):
    """A requested scrub of a range: short, to return known errors, or long (ARS_REQ_SHORT, ARS_REQ_LONG)."""

    SHORT = ARS_RETURN_PREVIOUS
    LONG = 0


@attrs.define(eq=False)
class _Range:
    """A range that can be scrubbed (struct nfit_spa)."""

    region: RegionDevice
    requests: set[Request] = attrs.Factory(set)


class Scrub:
    """The work that scrubs a bus, and its state.

    Attributes:
        busy: a scrub runs or is scheduled.
        count: the number of completed scrubs of all ranges.
    """

    def __init__(self, bus: NvdimmBus, count: int, on_done: Callable[[], None]) -> None:
        """`on_done`: called whenever all ranges are done."""
        self._bus = bus
        self._on_done = on_done
        self._ranges: list[_Range] = []
        self._current: _Range | None = None
        self._longest = 0
        self._pending = False
        self._next_poll = SCRUB_POLL.nanoseconds
        self._fresh = True
        self.busy = False
        self.count = count

    def add(self, region: RegionDevice) -> None:
        """Add a region, if the platform can scrub it (acpi_nfit_init_ars)."""
        argument = bytearray(ArsCapability(region.start, region.size).to_bytes())
        if self._send(BusCommand.ARS_CAP, argument) < 0:
            return
        self._longest = max(self._longest, ArsCapability.from_bytes(argument).max_ars_out)
        self._ranges.append(_Range(region))

    def begin(self) -> None:
        """Scrub all ranges for the first time (ars_register and acpi_nfit_register_regions).

        The short pass begins at once, unless the platform is busy with a scrub of its own.
        """
        for range_ in list(self._ranges):
            range_.requests = {Request.SHORT, Request.LONG}
            if self._query()[0] >= 0:
                self._start(range_, Request.SHORT)
        self._queue()

    def request(self, kind: Request) -> None:
        """Scrub all ranges, beginning at once (acpi_nfit_ars_rescan).

        EBUSY when all are already waiting for it, ENOTTY without ranges.
        """
        idle = [range_ for range_ in self._ranges if kind not in range_.requests]
        for range_ in idle:
            range_.requests.add(kind)
        if idle:
            self._queue()
            return
        raise KernelError(errno.EBUSY if self._ranges else errno.ENOTTY, "no range that could be scrubbed")

    def _queue(self) -> None:
        """Queue the work, unless it is queued already (sched_ars)."""
        self.busy = True
        if not self._pending:
            self._pending = True
            self._bus.system.queue_work(self._work)

    def _work(self) -> None:
        """Read the result of a scrub, and continue with the next range (acpi_nfit_scrub)."""
        self._pending = False
        if self._bus.dead:  # the bus was unregistered meanwhile
            return
        poll = self._step()
        if poll:
            self._pending = True
            self._next_poll = poll
            self._bus.system.clock.schedule(poll, self._work, f"{self._bus.name}: poll the state of a scrub")
            return
        self.busy = False
        self.count += 1
        self._on_done()

    def _step(self) -> int:
        """Nanoseconds until the next poll; 0 when all ranges are done (__acpi_nfit_scrub)."""
        found, status = self._query()
        if found == -errno.EBUSY:
            return min(SCRUB_POLL_LIMIT.nanoseconds, 2 * self._next_poll)
        self._complete(status)
        return SCRUB_POLL.nanoseconds if self._start_next() else 0

    def _query(self) -> tuple[int, bytearray]:
        """Read the platform's status and add the errors in it (acpi_nfit_query_poison); returns both."""
        status = bytearray(self._longest)
        found = self._send(BusCommand.ARS_STATUS, status)
        if found >= 0:
            self._take_records(status)
        return found, status

    def _send(self, command: BusCommand, argument: bytearray) -> int:
        """Send a command; returns a negative errno when it failed."""
        try:
            return self._bus.send(None, command, argument).status
        except KernelError as refusal:
            return -refusal.errno

    def _take_records(self, status: bytearray) -> None:
        """Add the records of a status, once: it does not change until the next scrub, even if errors are cleared."""
        head = ArsStatus.from_bytes(status)
        if head.out_length < _LEAST or not self._fresh:
            return
        self._fresh = False
        for number in range(head.record_count):
            if head.out_length < _LEAST + (number + 1) * ArsRecord.size():
                return
            record = ArsRecord.from_bytes(status, ArsStatus.size() + number * ArsRecord.size())
            self._bus.badrange.add(record.address, record.length)

    def _complete(self, status: bytearray) -> None:
        """Notify the region that was scrubbed, if the status is for it (ars_complete)."""
        if self._current is None:
            return
        region = self._current.region
        head = ArsStatus.from_bytes(status)
        if head.address < region.start + region.size <= head.address + head.length:
            self._current = None
            region.revalidate_poison()

    def _start_next(self) -> bool:
        """Start the first waiting range and move it to the end; returns whether a scrub runs."""
        for range_ in list(self._ranges):
            kind = next((kind for kind in Request if kind in range_.requests), None)
            if kind is None:
                continue
            refusal = self._start(range_, kind)
            if refusal == -errno.EBUSY:
                return True
            if refusal >= 0:
                self._current = range_
                self._ranges.remove(range_)
                self._ranges.append(range_)
                return True
        return False

    def _start(self, range_: _Range, kind: Request) -> int:
        """Start a range's scrub; a negative errno if it is refused.  A range that cannot be scrubbed is not retried."""
        refusal = self._send(BusCommand.ARS_START, self._start_argument(range_.region, kind))
        if refusal >= 0:
            self._fresh = True
            range_.requests.remove(kind)
        elif refusal != -errno.EBUSY:
            self._ranges.remove(range_)
        return refusal

    @staticmethod
    def _start_argument(region: RegionDevice, kind: Request) -> bytearray:
        memory = ARS_VOLATILE if region.description.volatile else ARS_PERSISTENT
        return bytearray(ArsStart(region.start, region.size, memory, kind.value).to_bytes())
