"""The attributes of a disk that set up the tracing of its requests (kernel/trace/blktrace.c, Linux 6.1).

Nobody reads the trace; its settings are kept.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

import attrs

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.core.attribute import AttributeGroup, HasSystem, KernelAttribute, attribute
from nvdimmfs.core.parse import WHITE_SPACE, c_string, parse_unsigned, parse_unsigned_or_einval
from nvdimmfs.errors import KernelError

if TYPE_CHECKING:
    from nvdimmfs.kernfs import Bytes


class Traced(HasSystem, Protocol):
    """What has requests: a disk or a partition.

    Attributes:
        trace: how they are traced; None when they are not.
    """

    trace: Trace | None

    @property
    def data(self) -> Bytes:
        """Its bytes."""


#: What can be traced, in the order of the bits of `act_mask`.
_ACTIONS = (
    *("read", "write", "flush", "sync", "queue", "requeue", "issue", "complete"),
    *("fs", "pc", "notify", "ahead", "meta", "discard", "drv_data", "fua"),
)
_BITS = {"act_mask": 16, "pid": 32, "start_lba": 64, "end_lba": 64}


@attrs.define
class Trace:
    """The settings of a trace that is under way.

    Attributes:
        values: the numbers by the name of their file.
    """

    values: dict[str, int]

    @classmethod
    def of_everything(cls, disk: Traced) -> Trace:
        """All actions of all processes in all sectors: what a trace begins with."""
        sectors = disk.data.size // SECTOR_SIZE
        return cls({"act_mask": (1 << 16) - 1, "pid": 0, "start_lba": 0, "end_lba": sectors})


@attribute("enable")
def enable(disk: Traced) -> str:
    """Whether requests are traced."""
    return f"{int(disk.trace is not None)}\n"


@enable.on_store
def _store_enable(disk: Traced, data: bytes) -> None:
    """0 ends the trace, any other number starts one; one under way goes on as it is.  EINVAL for anything else."""
    if not parse_unsigned_or_einval(data):
        disk.trace = None
    elif disk.trace is None:
        disk.trace = Trace.of_everything(disk)


def _setting(name: str) -> KernelAttribute[Traced]:
    def show(disk: Traced) -> str:
        """What is traced; `disabled` while nothing is."""
        if disk.trace is None:
            return "disabled\n"
        value = disk.trace.values[name]
        return f"{_action_names(value) if name == 'act_mask' else value}\n"

    def store(disk: Traced, data: bytes) -> None:
        """Trace that; it starts the trace.  EINVAL for anything but a number.

        For `act_mask` also names of actions with commas between them.
        """
        value = _parse_actions(data) if name == "act_mask" else parse_unsigned_or_einval(data)
        if disk.trace is None:
            disk.trace = Trace.of_everything(disk)
        disk.trace.values[name] = value % (1 << _BITS[name])

    return KernelAttribute(name, 0o644, show, store)


def _parse_actions(data: bytes) -> int:
    """A number, or names of actions with commas between them.  EINVAL for a name that there is not."""
    try:
        return parse_unsigned(data)
    except KernelError:
        names = c_string(data).strip(WHITE_SPACE).decode("latin-1").lower().split(",")
    mask = 0
    for name in filter(None, names):
        if name not in _ACTIONS:
            raise KernelError(errno.EINVAL, f"{name} is no action")
        mask |= 1 << _ACTIONS.index(name)
    return mask


def _action_names(mask: int) -> str:
    return ",".join(name for bit, name in enumerate(_ACTIONS) if mask >> bit & 1)


TRACE_GROUP: AttributeGroup[Traced] = AttributeGroup((enable, *(_setting(name) for name in _BITS)), name="trace")
