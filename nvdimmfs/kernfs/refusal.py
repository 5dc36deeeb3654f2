"""Refused requests, for those who want the reasons: a system call returns the errno alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

from nvdimmfs.errors import KernelError, refused_by_host

#: How many bytes of a refused write to keep.
LONGEST_DATA = 256


@attrs.frozen
class Refusal:
    """A request that was refused.

    Attributes:
        operation: `open`, `read`, `write` or `ioctl`.
        path: the file, from the root of the tree, or the device.
        data: the bytes to write, `LONGEST_DATA` of them at most.
        errno: what the caller got.
        reasons: the reason, then those behind it.
        thread: the id of the thread that opened the file; 0 where it is not known.
        time: when, on the host's monotonic clock, in nanoseconds.
    """

    operation: str
    path: str
    data: bytes
    errno: int
    reasons: tuple[str, ...]
    thread: int
    time: int


class Refusals:
    """Passes each refusal on to its listeners."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Refusal], None]] = []

    def listen(self, listener: Callable[[Refusal], None]) -> None:
        """Call `listener` with each refusal from now on."""
        self._listeners.append(listener)

    def stop_listening(self, listener: Callable[[Refusal], None]) -> None:
        """Call `listener` no more."""
        self._listeners.remove(listener)

    def report(
        self, failure: KernelError | OSError, operation: str, path: str, *, thread: int = 0, data: bytes = b""
    ) -> None:
        """A request was refused, by the kernel that is emulated or by the host."""
        if not self._listeners:
            return
        error = failure if isinstance(failure, KernelError) else refused_by_host(failure)
        kept = bytes(data[:LONGEST_DATA])
        refusal = Refusal(operation, path, kept, error.errno, error.reasons, thread, time.monotonic_ns())
        for listener in self._listeners:
            listener(refusal)
