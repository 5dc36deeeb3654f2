"""Who records the calls on a tree's files, as a front end and the engine see it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import attrs


@attrs.frozen
class TracedProcess:
    """A process that makes a call, as a trace names it.

    Attributes:
        pid: its id; None when it is not known.
        command: its name; empty when it is not known.
    """

    pid: int | None
    command: str = ""


class TracedCall(Protocol):
    """A call that is being carried out."""

    def returns(self, result: int, data: bytes = b"") -> None:
        """The call succeeds.

        Args:
            result: what it returns.
            data: the bytes that were read.
        """


class Tracer(Protocol):
    """Records calls."""

    def call(
        self,
        op: str,
        path: str,
        thread: int,
        *,
        flags: int | None = None,
        offset: int | None = None,
        size: int | None = None,
        data: bytes = b"",
    ) -> AbstractContextManager[TracedCall]:
        """Carry out a call in this context; an exception is recorded as its refusal.

        Args:
            op: the system call, such as `read`.
            path: the file's path from the root.
            thread: the id of the calling thread.
            flags: those of open(2).
            offset: the place in the file, bytes.
            size: the bytes to read or write, as the caller gave it.
            data: the bytes to write.
        """
