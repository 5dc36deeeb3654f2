"""Where the trace of an engine is recorded."""

from __future__ import annotations

import attrs

from nvdimmfs.core.system import System
from nvdimmfs.testing.engine_controls import Turn
from nvdimmfs.testing.trace import TraceView


@attrs.frozen
class RecorderSource:
    """The recorder of a machine in this process; `turn` holds the machine's lock for one call."""

    _system: System
    _turn: Turn

    @property
    def is_on(self) -> bool:
        return self._system.trace is not None

    @property
    def next_number(self) -> int:
        with self._turn():
            return self._system.recorder.recorded + 1

    def view(self) -> TraceView:
        recorder = self._system.recorder
        with self._turn():
            return TraceView(recorder.events, recorder.dropped)

    def start(self) -> None:
        with self._turn():
            self._system.start_trace()

    def stop(self) -> None:
        with self._turn():
            self._system.stop_trace()

    def clear(self) -> None:
        with self._turn():
            self._system.recorder.clear()
