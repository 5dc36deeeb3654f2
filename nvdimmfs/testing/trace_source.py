"""Where the trace of an engine is recorded."""

from __future__ import annotations

import attrs

from nvdimmfs.testing.engine_controls import Turn
from nvdimmfs.testing.trace import TraceView


@attrs.frozen
class RecorderSource:
    """The recorder of a machine in this process; `turn` holds the machine's lock for one call."""

    _turn: Turn

    @property
    def is_on(self) -> bool:
        with self._turn() as machine:
            return machine.system.trace is not None

    @property
    def next_number(self) -> int:
        with self._turn() as machine:
            return machine.system.recorder.recorded + 1

    def view(self) -> TraceView:
        with self._turn() as machine:
            recorder = machine.system.recorder
            return TraceView(recorder.events, recorder.dropped)

    def start(self) -> None:
        with self._turn() as machine:
            machine.system.start_trace()

    def stop(self) -> None:
        with self._turn() as machine:
            machine.system.stop_trace()

    def clear(self) -> None:
        with self._turn() as machine:
            machine.system.recorder.clear()
