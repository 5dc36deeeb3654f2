"""The attributes and ioctls of a disk that control the tracing of its requests (kernel/trace/blktrace.c, Linux 6.1).

The settings are stored; no trace is recorded.  A disk has one trace, which its partitions show and change as well.
"""

from __future__ import annotations

import enum
import errno
from typing import Protocol

import attrs

from nvdimmfs.core.attribute import AttributeGroup, HasSystem, KernelAttribute, attribute
from nvdimmfs.core.parse import WHITE_SPACE, c_string, parse_unsigned, parse_unsigned_or_einval
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.block_requests import TraceSetup


class HasTrace(Protocol):
    """A disk, as that to which traced requests are sent.

    Attributes:
        trace: the settings of the running trace; None when requests are not traced.
    """

    trace: Trace | None


class Traced(HasSystem, Protocol):
    """A device with requests: a disk or a partition."""

    @property
    def whole(self) -> HasTrace:
        """The disk; that of a partition."""

    @property
    def first_sector(self) -> int:
        """Its first sector on the disk."""

    @property
    def sectors(self) -> int:
        """Its size in sectors of 512 bytes."""


#: Names of the traced actions, in the order of the bits of `act_mask`.
_ACTIONS = (
    *("read", "write", "flush", "sync", "queue", "requeue", "issue", "complete"),
    *("fs", "pc", "notify", "ahead", "meta", "discard", "drv_data", "fua"),
)
_BITS = {"act_mask": 16, "pid": 32, "start_lba": 64, "end_lba": 64}


class TraceState(enum.Enum):
    """What has become of a trace.  One that an attribute started cannot be started and stopped by ioctls."""

    OF_ATTRIBUTE = "of an attribute"
    SET_UP = "set up"
    RUNNING = "running"
    STOPPED = "stopped"


@attrs.define
class Trace:
    """The settings of a trace.

    Attributes:
        values: the settings, each by the name of its file.
        state: what has become of it.
    """

    values: dict[str, int]
    state: TraceState = TraceState.OF_ATTRIBUTE

    @classmethod
    def of_everything(cls, disk: Traced) -> Trace:
        """The initial settings: trace all actions of all processes on all sectors of a disk or a partition."""
        first = disk.first_sector
        return cls({"act_mask": (1 << 16) - 1, "pid": 0, "start_lba": first, "end_lba": first + disk.sectors})


def set_up_trace(disk: Traced, setup: TraceSetup) -> None:
    """BLKTRACESETUP (do_blk_trace_setup).  EINVAL without buffers, EBUSY when the disk has a trace."""
    if not setup.buffer_size or not setup.buffer_count:
        raise KernelError(errno.EINVAL, "a trace needs buffers")
    if disk.whole.trace is not None:
        raise KernelError(errno.EBUSY, "the disk is traced already")
    trace = Trace.of_everything(disk)
    trace.state = TraceState.SET_UP
    for name in _BITS:
        if value := getattr(setup, name):
            trace.values[name] = value
    disk.whole.trace = trace


def start_trace(disk: Traced) -> None:
    """BLKTRACESTART (blk_trace_startstop).  EINVAL without a trace that was set up by an ioctl or stopped."""
    _change_state(disk, (TraceState.SET_UP, TraceState.STOPPED), TraceState.RUNNING)


def stop_trace(disk: Traced) -> None:
    """BLKTRACESTOP.  EINVAL without a trace that an ioctl has started."""
    _change_state(disk, (TraceState.RUNNING,), TraceState.STOPPED)


def _change_state(disk: Traced, before: tuple[TraceState, ...], after: TraceState) -> None:
    trace = disk.whole.trace
    if trace is None or trace.state not in before:
        raise KernelError(errno.EINVAL, f"there is no trace that is {before[0].value}")
    trace.state = after


def remove_trace(disk: Traced) -> None:
    """BLKTRACETEARDOWN (blk_trace_remove).  EINVAL without a trace."""
    if disk.whole.trace is None:
        raise KernelError(errno.EINVAL, "the disk is not traced")
    disk.whole.trace = None


def _require_open(disk: Traced) -> None:
    """ENXIO if its kernel looks for the request queue of the block device, which has one only while it is open.

    Who has a disk open is not known here; no one has a disk open that is only looked at.
    """
    if disk.system.kernel.disks.closed_disks_have_no_trace:
        raise KernelError(errno.ENXIO, "no one has the disk open")


@attribute("enable")
def enable(disk: Traced) -> str:
    """Whether requests are traced.  ENXIO in Linux 5.10."""
    _require_open(disk)
    return f"{int(disk.whole.trace is not None)}\n"


@enable.on_store
def _store_enable(disk: Traced, data: bytes) -> None:
    """0 ends the trace, any other number starts one or lets a running one continue.  EINVAL for anything else.

    ENXIO in Linux 5.10.
    """
    value = parse_unsigned_or_einval(data)
    _require_open(disk)
    if not value:
        disk.whole.trace = None
    elif disk.whole.trace is None:
        disk.whole.trace = Trace.of_everything(disk)


def _setting(name: str) -> KernelAttribute[Traced]:
    def show(disk: Traced) -> str:
        """The setting of the running trace; `disabled` when no trace is running.  ENXIO in Linux 5.10."""
        _require_open(disk)
        trace = disk.whole.trace
        if trace is None:
            return "disabled\n"
        value = trace.values[name]
        return f"{_action_names(value) if name == 'act_mask' else value}\n"

    def store(disk: Traced, data: bytes) -> None:
        """Change the setting; starts a trace if none is running.  EINVAL for anything but a number.

        `act_mask` also accepts names of actions, separated by commas.  ENXIO in Linux 5.10.
        """
        value = _parse_actions(data) if name == "act_mask" else parse_unsigned_or_einval(data)
        _require_open(disk)
        trace = disk.whole.trace
        if trace is None:
            trace = disk.whole.trace = Trace.of_everything(disk)
        trace.values[name] = value % (1 << _BITS[name])

    return KernelAttribute(name, 0o644, show, store)


def _parse_actions(data: bytes) -> int:
    """Parse a number, or names of actions separated by commas.  EINVAL for an unknown name."""
    try:
        return parse_unsigned(data)
    except KernelError:
        names = c_string(data).strip(WHITE_SPACE).decode("latin-1").lower().split(",")
    mask = 0
    for name in filter(None, names):
        if name not in _ACTIONS:
            raise KernelError(errno.EINVAL, f"{name} is not an action")
        mask |= 1 << _ACTIONS.index(name)
    return mask


def _action_names(mask: int) -> str:
    return ",".join(name for bit, name in enumerate(_ACTIONS) if mask >> bit & 1)


TRACE_GROUP: AttributeGroup[Traced] = AttributeGroup((enable, *(_setting(name) for name in _BITS)), name="trace")
