"""The trace of a machine under test: what was asked of it, its answers, and what its kernel did because of that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol, overload

from nvdimmfs.errors import printable
from nvdimmfs.testing.arguments import DEBUG, AnyPath, Value, data_of, integer, path_of
from nvdimmfs.traces.event import Op, TraceEvent
from nvdimmfs.traces.text import dropped_text, text_of

#: The directories of links to devices; the name of a link is that of its device.
_LINK_TO_DEVICE = re.compile(r"/sys/(?:bus/[^/]+/devices|class/[^/]+|block)(?P<rest>/[^/]+/.*)")

#: How many events before and after one that breaks an assertion the message shows, and how many at most without one.
_NEIGHBOURS = 5
_LAST = 20


class TraceView(Sequence[TraceEvent]):
    """Events, the oldest first, and what a test can assert about them."""

    def __init__(self, events: Sequence[TraceEvent], dropped: int = 0) -> None:
        self._events = tuple(events)
        self._dropped = dropped

    def _view(self) -> TraceView:
        """The events as they are now."""
        return self

    @property
    def events(self) -> tuple[TraceEvent, ...]:
        """The events, the oldest first."""
        return self._view()._events

    @property
    def dropped(self) -> int:
        """How many events that belong in front of these had no room in the trace."""
        return self._view()._dropped

    @overload
    def __getitem__(self, index: int) -> TraceEvent: ...

    @overload
    def __getitem__(self, index: slice) -> TraceView: ...

    def __getitem__(self, index: int | slice) -> TraceEvent | TraceView:
        events = self._view().events
        return TraceView(events[index]) if isinstance(index, slice) else events[index]

    def __len__(self) -> int:
        return len(self._view().events)

    def __iter__(self) -> Iterator[TraceEvent]:
        return iter(self._view().events)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} events>"

    def __str__(self) -> str:
        """The lines of the events, see docs/reference/trace.md."""
        view = self._view()
        return (dropped_text(view.dropped) if view.dropped else "") + "".join(map(text_of, view.events))

    def since(self, mark: int) -> TraceView:
        """The events from a mark on: a number that `Trace.mark` has returned, or that of an event."""
        mark = integer("mark", mark)
        view = self._view()
        first = view.events[0].number if view.events else mark
        return TraceView([each for each in view.events if each.number >= mark], min(view.dropped, max(0, first - mark)))

    def refused(self) -> TraceView:
        """The calls that were refused."""
        view = self._view()
        return TraceView([each for each in view.events if each.is_refused], view.dropped)

    def writes(self, path: AnyPath | None = None) -> TraceView:
        """The calls of write(2) and pwrite(2), refused ones included: to one file, or to all but the debug folder."""
        name = None if path is None else path_of(path)
        view = self._view()
        return TraceView([each for each in view.events if _is_write(each, name)], view.dropped)

    def assert_no_writes(self) -> None:
        """AssertionError if a program wrote to a file, even if the write was refused.

        Ioctls do not count, nor do writes to sys/kernel/debug/nvdimmfs, which no real machine has.

        ValueError if the trace has dropped events, so that it is not known.
        """
        view = self._view()
        for position, event in enumerate(view.events):
            if _is_write(event, None):
                raise AssertionError(f"{event.path} was written to:\n{_neighbourhood(view.events, position)}")
        if view.dropped:
            raise ValueError(f"the trace has dropped {view.dropped} events, and there may be writes among them")

    def assert_wrote(self, path: AnyPath, value: Value | None = None) -> None:
        """AssertionError unless a value was written to a file and the write was accepted.

        Args:
            path: the file's own path, or one through /sys/bus/BUS/devices, /sys/class/CLASS or /sys/block.
            value: as for `Engine.write`; a newline at its end counts for nothing.  None for any value.
        """
        name = path_of(path)
        view = self._view()
        wanted = None if value is None else _line(data_of(value))
        tried = [position for position, each in enumerate(view.events) if _is_write(each, name)]
        for position in tried:
            event = view.events[position]
            if not event.is_refused and (wanted is None or _has_written(event, wanted)):
                return
        what = "nothing" if wanted is None else f"no {wanted.decode(errors='backslashreplace')!r}"
        around = _neighbourhood(view.events, tried[-1] if tried else None)
        raise AssertionError(f"{what} was written to {printable(name)}:\n{around}")


class Source(Protocol):
    """Where a trace is recorded."""

    @property
    def is_on(self) -> bool:
        """Whether calls are recorded."""

    @property
    def next_number(self) -> int:
        """The number that the next event will have."""

    def view(self) -> TraceView:
        """What was recorded, as far as there is room for it."""

    def start(self) -> None:
        """Record from now on."""

    def stop(self) -> None:
        """Record nothing any more."""

    def clear(self) -> None:
        """Forget what was recorded."""


class Trace(TraceView):
    """The trace of a machine: it grows while the machine is used."""

    def __init__(self, source: Source) -> None:
        super().__init__(())
        self._source = source

    def _view(self) -> TraceView:
        """ValueError when nothing was ever recorded: an assertion about that could not fail."""
        view = self._source.view()
        if not view._events and not self._source.is_on:
            raise ValueError("the trace is off and has recorded nothing: call its start() first")
        return view

    @property
    def is_on(self) -> bool:
        """Whether calls are recorded."""
        return self._source.is_on

    def mark(self) -> int:
        """A mark for `since`: the number that the next event will have."""
        return self._source.next_number

    def start(self) -> None:
        """Record from now on."""
        self._source.start()

    def stop(self) -> None:
        """Record nothing any more; what was recorded stays."""
        self._source.stop()

    def clear(self) -> None:
        """Forget what was recorded."""
        self._source.clear()


def _is_write(event: TraceEvent, path: str | None) -> bool:
    """Whether an event is a write to a file, or to any file outside the debug folder of nvdimmfs."""
    if event.op != Op.WRITE:
        return False
    return not event.path.startswith(f"/{DEBUG}/") if path is None else _leads_to(path, event.path)


def _leads_to(path: str, own: str) -> bool:
    """Whether a path leads to the file with this path of its own, perhaps through a link to its device."""
    path = f"/{path.strip('/')}"
    through = _LINK_TO_DEVICE.match(path)
    return path == own or (through is not None and own.startswith("/sys/devices/") and own.endswith(through["rest"]))


def _has_written(event: TraceEvent, wanted: bytes) -> bool:
    """Whether a write wrote these bytes.  Of long data, the beginning and the length are known."""
    data = _line(event.data)
    if event.data_size == len(event.data):
        return data == wanted
    return event.data_size == len(wanted) and wanted.startswith(event.data)


def _line(data: bytes) -> bytes:
    return data.removesuffix(b"\0").removesuffix(b"\n")


def _neighbourhood(events: Sequence[TraceEvent], position: int | None) -> str:
    """The events around one, which is marked; without one, the last events."""
    if not events:
        return "the trace is empty"
    if position is None:
        first, shown = 0, events[-_LAST:]
    else:
        first = max(0, position - _NEIGHBOURS)
        shown = events[first : position + _NEIGHBOURS + 1]
    lines = []
    for place, event in enumerate(shown, first):
        head, *effects = text_of(event).splitlines()
        lines.append(f"{'>' if place == position else ' '} {head}")
        lines += [f"  {effect}" for effect in effects]
    return "\n".join(lines)
