"""A session of the control channel that receives everything and holds nothing up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import Uevent
from nvdimmfs.formats import control
from nvdimmfs.kernfs import Refusal

#: How many events to keep until they are read: some dozen megabytes.
MOST_EVENTS = 1 << 16

#: Bytes that a read returns at most, unless the first event alone is longer; they fit into one FUSE request.
_READ_SIZE = 1 << 16


class Listener:
    """Keeps uevents and refusals until they are read.

    Args:
        system: the machine's devices, uevents and tree.
        wake: wakes those who poll the channel.
    """

    def __init__(self, system: System, wake: Callable[[], None]) -> None:
        self._system = system
        self._wake = wake
        self._events: deque[Uevent | Refusal] = deque(maxlen=MOST_EVENTS)
        self._lost = 0
        system.listen(self)
        system.tree.refusals.listen(self._add)

    @property
    def has_event(self) -> bool:
        return bool(self._events)

    def close(self) -> None:
        """Stop listening."""
        self._system.stop_listening(self)
        self._system.tree.refusals.stop_listening(self._add)

    def uevent(self, event: Uevent) -> None:
        """Receive a uevent."""
        self._add(event)

    def read(self) -> bytes:
        """The next events, one a line; empty when there are none."""
        lines: list[bytes] = []
        size = 0
        if self._lost:
            lines.append(control.encode(control.Lost(self._lost)))
            self._lost = 0
        while self._events:
            line = control.encode(_message(self._events[0]))
            size += len(line) + 1
            if lines and size > _READ_SIZE:
                break
            lines.append(line)
            self._events.popleft()
        return b"\n".join(lines)

    def _add(self, event: Uevent | Refusal) -> None:
        self._lost += len(self._events) == MOST_EVENTS
        self._events.append(event)
        if len(self._events) == 1:
            self._wake()


def _message(event: Uevent | Refusal) -> control.Message:
    if isinstance(event, Uevent):
        return control.DeviceEvent(event.sequence, event.properties)
    return control.RefusalEvent(**attrs.asdict(event, recurse=False))
