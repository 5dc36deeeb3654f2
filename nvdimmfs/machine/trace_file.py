"""The files of the debug folder that show and control the trace: `trace` as text, `trace.jsonl` as JSON Lines."""

from __future__ import annotations

import errno
import re

from nvdimmfs.core.parse import line
from nvdimmfs.core.system import System
from nvdimmfs.core.trace import LARGEST_SIZE
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Channel, Directory
from nvdimmfs.traces.event import TraceEvent, TraceState
from nvdimmfs.traces.forms import JSON, TEXT, TraceForm

#: Events that one read(2) returns at most.
_EVENTS_AT_ONCE = 64

_SIZE = re.compile(r"size +([0-9]{1,9})")

_USAGE = f"write on, off, clear, follow, or size and a number of lines up to {LARGEST_SIZE}"


class TraceSession:
    """An open file: reading it returns the state of the trace, the events that are kept, then those that follow."""

    has_unacknowledged = False

    def __init__(self, system: System, channel: Channel, form: TraceForm) -> None:
        self._system = system
        self._recorder = system.recorder
        self._channel = channel
        self._form = form
        self._has_begun = False
        self._is_following = False
        self._next = self._recorder.first_number
        self._recorder.listeners.append(self._recorded)

    @property
    def has_message(self) -> bool:
        return not self._has_begun or self._next <= self._recorder.recorded

    def read(self) -> bytes:
        """The next lines; nothing, until there are more."""
        begin = "" if self._has_begun else self._form.state(self._state())
        self._has_begun = True
        return (begin + self._lines()).encode()

    def write(self, message: bytes) -> None:
        """`on` and `off` switch the trace, `clear` forgets it, `size N` sets its size in lines.

        `follow` switches it on as long as this file is open.  EINVAL for anything else.
        """
        text = line(message).strip()
        if text == "on":
            self._system.start_trace()
        elif text == "off":
            self._system.stop_trace()
        elif text == "clear":
            self._recorder.clear()
        elif text == "follow":
            self._follow()
        elif (match := _SIZE.fullmatch(text)) and 0 < (size := int(match[1])) <= LARGEST_SIZE:
            self._recorder.resize(size)
        else:
            raise KernelError(errno.EINVAL, f"{text!r} is no order for the trace: {_USAGE}")

    def close(self) -> None:
        self._recorder.listeners.remove(self._recorded)
        if self._is_following:
            self._system.unfollow_trace()

    def _follow(self) -> None:
        if not self._is_following:
            self._is_following = True
            self._system.follow_trace()

    def _recorded(self, _event: TraceEvent) -> None:
        self._channel.wake()

    def _state(self) -> TraceState:
        recorder = self._recorder
        return TraceState(self._system.trace is not None, recorder.size, recorder.recorded, recorder.dropped)

    def _lines(self) -> str:
        first = self._recorder.first_number
        dropped = self._form.dropped(first - self._next) if first > self._next else ""
        self._next = max(self._next, first)
        events = self._recorder.since(self._next, _EVENTS_AT_ONCE)
        self._next += len(events)
        return dropped + "".join(map(self._form.event, events))


def create_trace_files(system: System, folder: Directory) -> None:
    """Create the files."""
    for name, form in (("trace", TEXT), ("trace.jsonl", JSON)):
        folder.add(_trace_file(system, name, form))


def _trace_file(system: System, name: str, form: TraceForm) -> Channel:
    return Channel(name, 0o600, lambda channel: TraceSession(system, channel, form))
