"""The uevents of a machine under test."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import overload

import attrs


@attrs.frozen
class Uevent:
    """One uevent, as the kernel sends it.

    Attributes:
        action: `add`, `remove`, `change`, `move`, `online`, `offline`, `bind` or `unbind`.
        devpath: the device's directory below /sys, with a leading slash.
        properties: all variables in the order in which they are sent, ACTION, DEVPATH and SEQNUM included.
    """

    action: str
    devpath: str
    properties: Mapping[str, str]

    @property
    def name(self) -> str:
        """The device's name: the last component of its path."""
        return self.devpath.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.action}@{self.devpath}"


class Events(Sequence[Uevent]):
    """The uevents that were sent since the machine booted, the oldest first, and a cursor.

    It grows while the machine is used.  Safe from threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: list[Uevent] = []
        self._cursor = 0

    @overload
    def __getitem__(self, index: int) -> Uevent: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Uevent]: ...

    def __getitem__(self, index: int | slice) -> Uevent | Sequence[Uevent]:
        return self._received[index]

    def __len__(self) -> int:
        return len(self._received)

    def __repr__(self) -> str:
        return f"<Events {', '.join(map(str, self._received))}>"

    def new(self) -> list[Uevent]:
        """The uevents since the last call, or since the boot, and move the cursor behind them."""
        with self._lock:
            start, self._cursor = self._cursor, len(self._received)
            return self._received[start : self._cursor]

    def append(self, event: Uevent) -> None:
        """Receive an event; the machine calls this."""
        self._received.append(event)
