"""Requests for a file while there are fault rules for such requests."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

from attrs import define, frozen

from nvdimmfs.faults.faults import Caller, Fault, Faults
from nvdimmfs.faults.rule import DEBUG_FOLDER, Garbage, Lost, Operation, Short
from nvdimmfs.kernfs.node import Node
from nvdimmfs.kernfs.pattern import matches_path

#: Makes the bytes that replace so many others.
Replacement: TypeAlias = Callable[[int], bytes]


@frozen
class Place:
    """A file, and who asks for it.

    Attributes:
        node: the file.
        faults: the rules.
        caller: the process that opened it; None when it is not known.
    """

    node: Node
    faults: Faults
    caller: Caller | None

    def decide(self, candidates: tuple[Fault, ...]) -> Fault | None:
        """The rule that applies to a request now."""
        path = self._path
        return None if path is None else self.faults.decide(candidates, self._matches, path, self.caller)

    def delay(self, operation: Operation) -> int:
        """How long a request must wait, in nanoseconds."""
        path = self._path
        return 0 if path is None else self.faults.delay(operation, self._matches, path, self.caller)

    def decide_poll(self, *, is_notified: bool) -> tuple[Fault | None, int]:
        """The rule that applies to poll(2) now, and the delay of a notification in nanoseconds."""
        path = self._path
        if path is None:
            return None, 0
        return self.faults.decide_poll(is_notified=is_notified, matches=self._matches, where=path, caller=self.caller)

    @property
    def _path(self) -> str | None:
        """The path of the file; None for one that does not fail."""
        path = self.node.path
        return None if path.startswith(f"/{DEBUG_FOLDER}/") else path

    def _matches(self, pattern: str) -> bool:
        return matches_path(self.node, pattern)


def faulty_open(place: Place) -> None:
    """Fail, if a rule applies.  KernelError."""
    fault = place.decide(place.faults.opens)
    if fault is not None:
        fault.refuse()


def faulty_read(place: Place, size: int) -> tuple[int, Replacement | None]:
    """What a rule makes of a read: how many bytes to read, and what replaces them.  KernelError."""
    fault = place.decide(place.faults.reads)
    if fault is None:
        return size, None
    fault.refuse()
    match fault.rule.action:
        case Short(length):
            return min(length, size), None
        case Garbage() as garbage:
            return size, functools.partial(garbage.replaced, hit=fault.hits)
    return size, None


def faulty_write(place: Place, data: bytes) -> bytes:
    """What a rule makes of the bytes of a write.  KernelError."""
    fault = place.decide(place.faults.writes)
    if fault is None:
        return data
    fault.refuse()
    return fault.altered(data)


@define(eq=False)
class Notice:
    """What rules have made of a notification since an open attribute was last read.

    A rule decides once about each notification: when poll(2) finds it.

    Attributes:
        is_reported: poll(2) has reported it, and so does until the attribute is read.
    """

    is_reported: bool = False

    def is_late(self, faults: Faults) -> bool:
        """Whether poll(2) does not report it yet."""
        return self in faults.late


def faulty_notice(notice: Notice, place: Place, *, is_notified: bool) -> bool:
    """Have rules decide what poll(2) reports; whether a notification is lost.

    One that is delayed is in `Faults.late` until it is due, and wakes the pollers then.
    """
    if notice.is_reported or notice.is_late(place.faults):
        return False
    fault, delay = place.decide_poll(is_notified=is_notified)
    if fault is not None and isinstance(fault.rule.action, Lost):
        return True
    if delay:
        place.faults.late.add(notice)
        place.faults.do_later(delay, functools.partial(_report, notice, place))
        return False
    notice.is_reported = is_notified or fault is not None
    return False


def _report(notice: Notice, place: Place) -> None:
    """A delayed notification is due."""
    place.faults.late.discard(notice)
    notice.is_reported = True
    if place.node.parent is not None:
        place.node.parent.tree.notified(place.node)
