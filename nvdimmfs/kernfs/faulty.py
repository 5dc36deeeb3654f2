"""Requests for a file while there are fault rules for such requests."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from nvdimmfs.faults.faults import Caller, Fault, Faults
from nvdimmfs.faults.rule import DEBUG_FOLDER, Fail, Garbage, Operation, Short
from nvdimmfs.kernfs.node import Node
from nvdimmfs.kernfs.pattern import matches_path


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
    if fault is not None and isinstance(fault.rule.action, Fail):
        raise fault.refusal(fault.rule.action)


def faulty_read(place: Place, offset: int, size: int, read: Callable[[int, int], bytes]) -> bytes:
    """Read, or fail as the rule that applies describes.  KernelError."""
    fault = place.decide(place.faults.reads)
    if fault is None:
        return read(offset, size)
    match fault.rule.action:
        case Fail() as failure:
            raise fault.refusal(failure)
        case Short(length):
            return read(offset, min(length, size)) if length else b""
        case Garbage() as garbage:
            return garbage.replaced(len(read(offset, size)), fault.hits)
    return read(offset, size)


def faulty_write(place: Place, offset: int, data: bytes, write: Callable[[int, bytes], int]) -> int:
    """Write, or fail as the rule that applies describes.  KernelError."""
    fault = place.decide(place.faults.writes)
    if fault is None:
        return write(offset, data)
    match fault.rule.action:
        case Fail() as failure:
            raise fault.refusal(failure)
        case Short(length):
            return write(offset, data[:length]) if length else 0
        case Garbage() as garbage:
            return write(offset, garbage.replaced(len(data), fault.hits))
    return write(offset, data)
