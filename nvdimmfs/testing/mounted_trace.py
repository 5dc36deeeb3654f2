"""Where the trace of a mounted machine is recorded: in the machine, which shows it in the debug folder."""

from __future__ import annotations

import attrs

from nvdimmfs.testing.arguments import DEBUG
from nvdimmfs.testing.mounted_files import MountedFiles
from nvdimmfs.testing.trace import TraceView
from nvdimmfs.traces.event import TraceEvent, TraceState
from nvdimmfs.traces.json_lines import Dropped, decoded

#: The file with the events as JSON Lines.  Opening, reading and writing it is not traced.
_FILE = f"{DEBUG}/trace.jsonl"

#: Bytes that the first line, with the state of the trace, has at most.
_LONGEST_STATE = 4096


@attrs.frozen
class MountedTraceSource:
    """The trace of a mounted machine."""

    _files: MountedFiles

    @property
    def is_on(self) -> bool:
        return self._state().on

    @property
    def next_number(self) -> int:
        return self._state().recorded + 1

    def view(self) -> TraceView:
        events: list[TraceEvent] = []
        dropped = 0
        for line in self._files.read_bytes(_FILE).splitlines():
            match decoded(line):
                case TraceState() as state:
                    dropped += state.dropped
                case Dropped(count):  # while the file was read
                    dropped += len(events) + count
                    events.clear()
                case TraceEvent() as event:
                    events.append(event)
        return TraceView(events, dropped)

    def start(self) -> None:
        self._files.write(_FILE, "on")

    def stop(self) -> None:
        self._files.write(_FILE, "off")

    def clear(self) -> None:
        self._files.write(_FILE, "clear")

    def _state(self) -> TraceState:
        first, _, _ = self._files.read_bytes(_FILE, size=_LONGEST_STATE).partition(b"\n")
        state = decoded(first)
        assert isinstance(state, TraceState), first
        return state
