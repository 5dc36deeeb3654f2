"""The two forms of a trace."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from nvdimmfs.traces.event import TraceEvent, TraceState
from nvdimmfs.traces.json_lines import dropped_line, line_of, state_line
from nvdimmfs.traces.text import dropped_text, state_text, text_of


@attrs.frozen
class TraceForm:
    """How a trace is written: each function returns whole lines.

    Attributes:
        state: the state of the trace.
        event: an event.
        dropped: so many events that were dropped.
    """

    state: Callable[[TraceState], str]
    event: Callable[[TraceEvent], str]
    dropped: Callable[[int], str]


#: For people.
TEXT = TraceForm(state_text, text_of, dropped_text)

#: For programs.
JSON = TraceForm(state_line, line_of, dropped_line)
