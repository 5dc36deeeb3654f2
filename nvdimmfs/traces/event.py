"""One event of a trace: a call of a program with its answer and its effects, or what the kernel did by itself."""

from __future__ import annotations

import enum

import attrs

from nvdimmfs.errors import ERRNO_NAMES
from nvdimmfs.traces.effects import Effect


class Op(enum.StrEnum):
    """What an event is about.

    Attributes:
        OPEN, READ, WRITE, FSYNC, POLL: a system call on a file.
        IOCTL: ioctl(2) on a device.
        LOAD, UNLOAD: a module is to be loaded or unloaded.
        BOOT: the machine boots.
        KERNEL: the kernel does work that is due, without a call.
    """

    OPEN = "open"
    READ = "read"
    WRITE = "write"
    FSYNC = "fsync"
    POLL = "poll"
    IOCTL = "ioctl"
    LOAD = "load"
    UNLOAD = "unload"
    BOOT = "boot"
    KERNEL = "kernel"


@attrs.frozen
class TraceState:
    """The state of a trace when its file was opened.

    Attributes:
        on: whether calls are recorded now.
        size: how many lines are kept at most.
        recorded: how many events there were so far.
        dropped: how many of them had no room.
    """

    on: bool
    size: int
    recorded: int
    dropped: int


@attrs.frozen(kw_only=True)
class TraceEvent:
    """A call with its answer, and what the kernel did because of it.

    Attributes:
        number: the events of a machine are numbered from 1, in the order in which they ended.
        time: when it began on the machine's clock, seconds from boot.
        host_time: when it began on the host's clock, seconds since 1970.
        op: the call, see `Op`.
        path: the file or device, from the machine's root, with a leading slash; empty for `boot` and `kernel`.
        pid: the id of the calling process; None where there is none or it is not known.
        command: the name of the calling process; empty where it is not known.
        flags: how the file was opened, such as `O_RDWR|O_TRUNC`; for `open` only.
        request: the ioctl's number and name; for `ioctl` only.
        offset: the place in the file, bytes; for `read` and `write` only.
        size: the bytes to read or write, as the caller gave it.
        data: the bytes that were read, that were to be written, or that an ioctl took from its caller; long ones are
            cut.
        data_size: how many bytes those were before they were cut.
        output: the bytes that an ioctl gave to its caller; long ones are cut.
        output_size: how many bytes those were.
        result: what the call returned; None when it was refused, and for an ioctl whose caller is gone.
        errno: the errno of a refusal, else None.
        reason: why it was refused; empty when the errno is the whole reason.
        effects: what the kernel did, in order.
        omitted: the number of further effects, which had no room.
    """

    number: int = 0
    time: float = 0.0
    host_time: float = 0.0
    op: str
    path: str = ""
    pid: int | None = None
    command: str = ""
    flags: str = ""
    request: str = ""
    offset: int | None = None
    size: int | None = None
    data: bytes = b""
    data_size: int = 0
    output: bytes = b""
    output_size: int = 0
    result: int | None = None
    errno: int | None = None
    reason: str = ""
    effects: tuple[Effect, ...] = ()
    omitted: int = 0

    @property
    def is_refused(self) -> bool:
        """Whether the call was refused."""
        return self.errno is not None

    @property
    def code(self) -> str:
        """The name of the errno, for example `EBUSY`; empty for a call that was not refused."""
        return "" if self.errno is None else ERRNO_NAMES.get(self.errno, str(self.errno))

    @property
    def lines(self) -> int:
        """How many lines it has as text: one for itself, and one for each effect that it keeps."""
        return 1 + len(self.effects)
