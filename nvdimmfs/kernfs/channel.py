"""Files that carry messages between a program and the engine: one message for each write(2) and each read(2)."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Protocol

from nvdimmfs.kernfs.node import Node


class Session(Protocol):
    """The engine's end of one open file of a channel."""

    @property
    def has_message(self) -> bool:
        """Whether a read would return a message."""

    @property
    def has_unacknowledged(self) -> bool:
        """Whether its program has yet to act on an event; until then, other programs must not see the change."""

    def read(self) -> bytes:
        """Return the next message; empty when there is none."""

    def write(self, message: bytes) -> None:
        """Accept a message.  Raises `KernelError` to refuse it."""

    def close(self) -> None:
        """End the session: the program closed the file or exited."""


class Channel(Node):
    """A file on which each open(2) starts a session.

    Attributes:
        open_session: starts a session; its argument is the channel, so that the session can wake pollers.
    """

    __slots__ = ("open_session",)

    def __init__(self, name: str, permissions: int, open_session: Callable[[Channel], Session]) -> None:
        super().__init__(name, stat.S_IFREG | permissions)
        self.open_session = open_session

    def wake(self) -> None:
        """Wake all pollers of the channel, because a session has a message."""
        if self.parent is not None:
            self.parent.tree.notified(self)
