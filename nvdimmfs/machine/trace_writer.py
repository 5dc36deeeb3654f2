"""Appends a trace to a file of the host, as it is recorded."""

from __future__ import annotations

import logging
import os

from nvdimmfs.traces.event import TraceEvent
from nvdimmfs.traces.forms import TraceForm

log = logging.getLogger(__name__)


class TraceWriter:
    """Writes each event, until the host refuses one: that is logged once, and the machine goes on.

    Args:
        file: the descriptor, open for appending.
        path: the file's name.
        form: how events are written.
    """

    def __init__(self, file: int, path: str, form: TraceForm) -> None:
        self._file = file
        self._path = path
        self._form = form
        self._has_failed = False

    def __call__(self, event: TraceEvent) -> None:
        """Append an event."""
        if self._has_failed:
            return
        lines = memoryview(self._form.event(event).encode())
        try:
            while lines:
                lines = lines[os.write(self._file, lines) :]
        except OSError as failure:
            self._has_failed = True
            log.warning("the trace in %s ends here: %s", self._path, failure.strerror)
