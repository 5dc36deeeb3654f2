"""Files over which a program talks with the engine: a message a write(2), a message a read(2)."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Protocol

from nvdimmfs.kernfs.node import Node


class Session(Protocol):
    """What one open file of a channel says and hears."""

    @property
    def has_news(self) -> bool:
        """Whether there is a message to read."""

    @property
    def is_behind(self) -> bool:
        """Whether it still has to act on something before anybody else may see what caused it."""

    def read(self) -> bytes:
        """The next message; empty when there is none."""

    def write(self, message: bytes) -> None:
        """Take a message; `KernelError` refuses it."""

    def close(self) -> None:
        """The file was closed, or whoever had it open died."""


class Channel(Node):
    """A file each of whose opens starts a session.

    Attributes:
        open_session: starts one; it is given the channel, to wake whoever polls it.
    """

    __slots__ = ("open_session",)

    def __init__(self, name: str, permissions: int, open_session: Callable[[Channel], Session]) -> None:
        super().__init__(name, stat.S_IFREG | permissions)
        self.open_session = open_session

    def wake(self) -> None:
        """Wake whoever polls the channel: a session has news."""
        if self.parent is not None:
            self.parent.tree.notified(self)
