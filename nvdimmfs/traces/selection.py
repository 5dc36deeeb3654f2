"""Which events of a trace to show."""

from __future__ import annotations

from collections.abc import Collection

from nvdimmfs.traces.event import Op, TraceEvent

#: The words that select kinds of calls, with what they select.
SELECTORS: dict[str, frozenset[str]] = {
    "opens": frozenset({Op.OPEN}),
    "reads": frozenset({Op.READ}),
    "writes": frozenset({Op.WRITE}),
    "syncs": frozenset({Op.FSYNC}),
    "ioctls": frozenset({Op.IOCTL}),
    "polls": frozenset({Op.POLL}),
    "modules": frozenset({Op.LOAD, Op.UNLOAD}),
    "kernel": frozenset({Op.BOOT, Op.KERNEL}),
}

#: The word that leaves out calls that were accepted.
REFUSED = "refused"


def selects(words: Collection[str], event: TraceEvent) -> bool:
    """Whether an event is of one of the kinds that words select, and was refused if `REFUSED` is among them.

    Without a word for a kind, calls of all kinds are selected.
    """
    if REFUSED in words and not event.is_refused:
        return False
    kinds = [SELECTORS[word] for word in words if word != REFUSED]
    return not kinds or any(event.op in ops for ops in kinds)
