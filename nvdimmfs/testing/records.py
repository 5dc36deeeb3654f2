"""Sequences of what a machine under test reports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

RecordT = TypeVar("RecordT")


class Records(Sequence[RecordT], Generic[RecordT]):
    """What was reported since the machine booted, the oldest first, and a cursor.

    It grows while the machine is used.  Safe from threads.
    """

    def __init__(self, fetch: Callable[[], None] = lambda: None) -> None:
        """Begin without a record.

        Args:
            fetch: appends what the machine has reported in the meantime; called before each look at the records.
        """
        self._fetch = fetch
        self._lock = threading.Lock()
        self._received: list[RecordT] = []
        self._cursor = 0

    @overload
    def __getitem__(self, index: int) -> RecordT: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RecordT]: ...

    def __getitem__(self, index: int | slice) -> RecordT | Sequence[RecordT]:
        self._fetch()
        return self._received[index]

    def __len__(self) -> int:
        self._fetch()
        return len(self._received)

    def __repr__(self) -> str:
        self._fetch()
        return f"<{type(self).__name__} {', '.join(map(str, self._received))}>"

    def new(self) -> list[RecordT]:
        """What was reported since the last call, or since the boot; the cursor moves past it."""
        self._fetch()
        with self._lock:
            start, self._cursor = self._cursor, len(self._received)
            return self._received[start : self._cursor]

    def append(self, record: RecordT) -> None:
        """Receive a record; the machine calls this."""
        self._received.append(record)
