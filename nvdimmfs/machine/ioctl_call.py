"""An ioctl whose caller is another process, which copies its memory on request (`formats.control`)."""

from __future__ import annotations

import errno
from collections.abc import Callable

from nvdimmfs.core.user_memory import CopyIn, CopyOut, IoctlSteps
from nvdimmfs.errors import KernelError
from nvdimmfs.formats import control
from nvdimmfs.formats.control import Message

#: Bytes of the caller's memory in one message, which must fit into one FUSE request.
PIECE = 1 << 16


class IoctlCall:
    """A running ioctl.  Each access to the caller's memory is split into pieces that fit into a message.

    The kernel reads the same few bytes several times.  Those that the caller has sent already are not asked for again.

    Args:
        conversation: the ioctl.
        ahead: bytes from the argument's address on, which the caller has sent with the call.
    """

    def __init__(self, conversation: IoctlSteps, ahead: bytes = b"") -> None:
        self._conversation = conversation
        self._copy: CopyIn | CopyOut | None = None
        self._copied = bytearray()
        self._sent = 0
        self._seen_at, self._seen = 0, ahead

    def start(self) -> Message:
        """Return the first access to the caller's memory, or the result."""
        return self._next(lambda: next(self._conversation))

    def copied(self, data: bytes, ahead: bytes) -> Message:
        """Continue after the last access succeeded.  EINVAL for more bytes than requested, or none.

        Args:
            data: the bytes that were read.
            ahead: those that follow.  The caller had them at the same time, so they may be read at once.
        """
        copy = self._copy
        if isinstance(copy, CopyIn):
            if not data or len(self._copied) + len(data) > copy.length:
                raise KernelError(errno.EINVAL, f"{len(data)} bytes do not fit the requested length")
            self._copied += data
            if len(self._copied) < copy.length:
                return self._piece(copy)
        elif isinstance(copy, CopyOut) and self._sent < len(copy.data):
            return self._piece(copy)
        received, self._copied = bytes(self._copied), bytearray()
        if isinstance(copy, CopyIn):
            self._seen_at, self._seen = copy.offset, received + ahead
        else:
            self._seen = b""
        return self._next(lambda: self._conversation.send(received))

    def fault(self) -> Message:
        """Continue after the last access failed with EFAULT."""
        return self._next(lambda: self._conversation.throw(KernelError(errno.EFAULT, "bad address in the caller")))

    def _next(self, resume: Callable[[], CopyIn | CopyOut]) -> Message:
        try:
            copy = resume()
            while (known := self._known(copy)) is not None:
                copy = self._conversation.send(known)
        except StopIteration as end:
            return control.Result(end.value)
        self._copy = copy
        self._copied.clear()
        self._sent = 0
        return self._piece(copy)

    def _known(self, copy: CopyIn | CopyOut) -> bytes | None:
        """What an access returns for which the caller need not be asked; None for others."""
        if not _length(copy):
            return b""
        first = copy.offset - self._seen_at
        if isinstance(copy, CopyIn) and first >= 0 and first + copy.length <= len(self._seen):
            return self._seen[first : first + copy.length]
        return None

    def _piece(self, copy: CopyIn | CopyOut) -> Message:
        if isinstance(copy, CopyIn):
            have = len(self._copied)
            return control.ReadMemory(copy.offset + have, min(PIECE, copy.length - have))
        offset = self._sent
        data = copy.data[offset : offset + PIECE]
        self._sent += len(data)
        if copy.result is None or self._sent < len(copy.data):
            return control.WriteMemory(copy.offset + offset, data)
        return control.WriteMemory(copy.offset + offset, data, is_last=True, value=copy.result)


def _length(copy: CopyIn | CopyOut) -> int:
    return copy.length if isinstance(copy, CopyIn) else len(copy.data)
