"""The processes that call, for the trace."""

from __future__ import annotations

from nvdimmfs.fuse.peers import ProcFolder
from nvdimmfs.kernfs import TracedProcess

#: How many callers are remembered.
_MOST_CALLERS = 256


class Callers:
    """The processes that call, each looked up when it calls for the first time; the last ones are remembered."""

    def __init__(self, proc: ProcFolder) -> None:
        self._proc = proc
        self._known: dict[int, TracedProcess] = {}

    def of_thread(self, thread: int) -> TracedProcess:
        """The process that a thread belongs to."""
        caller = self._known.pop(thread, None) or TracedProcess(*self._proc.identity(thread))
        self._known[thread] = caller
        if len(self._known) > _MOST_CALLERS:
            del self._known[next(iter(self._known))]
        return caller
