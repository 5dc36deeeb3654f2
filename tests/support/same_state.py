"""Whether two machines are in the same state: each object of one stands where an object like it stands in the other."""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Iterator, Mapping

from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.snapshot import _CONSTANT

Pair = tuple[str, object, object]
Items = list[object] | tuple[object, ...]
Members = set[object] | frozenset[object]


class StatesDifferError(Exception):
    """Where the first difference is, and what stands there."""


def require_same_state(one: object, other: object) -> int:
    """Compare two objects with all that they refer to, and return how many were compared.  StatesDifferError.

    An object that is referred to from several places has one counterpart, which is referred to from the same places.
    """
    seen: dict[int, object] = {}
    counterparts: dict[int, object] = {}
    pending: deque[Pair] = deque([("", one, other)])  # near places come first, so that messages are short
    while pending:
        place, here, there = pending.popleft()
        if isinstance(here, _CONSTANT) or here is there:
            _require(here == there and type(here) is type(there), place, here, there)
            continue
        if id(here) in seen:
            _require(seen[id(here)] is there, place, here, there)
            continue
        _require(id(there) not in counterparts and type(here) is type(there), place, here, there)
        seen[id(here)], counterparts[id(there)] = there, here
        pending += _parts(place, here, there)
    return len(seen)


def _require(is_same: bool, place: str, here: object, there: object) -> None:
    if not is_same:
        raise StatesDifferError(f"{place}: {_shown(here)}, and {_shown(there)}")


def _shown(item: object) -> str:
    return f"{type(item).__name__} {item!r:.200}"


def _parts(place: str, here: object, there: object) -> Iterator[Pair]:
    """What two objects of a type refer to, in pairs."""
    match here:
        case MemoryMedia():  # which chunks are kept for a saved state cannot be seen
            assert isinstance(there, MemoryMedia)
            yield f"{place}.contents", list(here.contents()), list(there.contents())
        case bytearray():
            _require(here == there, place, here, there)
        case dict() | types.MappingProxyType():
            yield from _entries(place, here, there)
        case list() | tuple() | deque():
            yield from _items(place, [*here], [*there])
        case set() | frozenset():
            yield from _members(place, here, there)
        case types.FunctionType():
            _require(here.__code__ is there.__code__, place, here, there)
            yield from _items(f"{place}.closure", here.__closure__ or (), there.__closure__ or ())
        case types.CellType():
            yield f"{place}.content", here.cell_contents, there.cell_contents
        case types.MethodType():
            _require(here.__func__ is there.__func__, place, here, there)
            yield f"{place}.self", here.__self__, there.__self__
        case types.BuiltinMethodType():
            _require(here.__name__ == there.__name__, place, here, there)
            yield f"{place}.self", here.__self__, there.__self__
        case functools.partial():
            yield from _items(place, (here.func, *here.args), (there.func, *there.args))
            yield from _entries(place, here.keywords, there.keywords)
        case _:
            yield from _entries(place, _attributes(here), _attributes(there))


def _items(
    place: str, here: list[object] | tuple[object, ...], there: list[object] | tuple[object, ...]
) -> Iterator[Pair]:
    _require(len(here) == len(there), place, here, there)
    for number, (one, other) in enumerate(zip(here, there, strict=True)):
        yield f"{place}[{number}]", one, other


def _entries(place: str, here: Mapping[object, object], there: Mapping[object, object]) -> Iterator[Pair]:
    """The keys and values, in their order, which is a part of the state."""
    _require(len(here) == len(there), place, here, there)
    for (key, value), (other_key, other_value) in zip(here.items(), there.items(), strict=True):
        yield f"{place}: key", key, other_key
        yield f"{place}.{key}", value, other_value


def _members(
    place: str, here: set[object] | frozenset[object], there: set[object] | frozenset[object]
) -> Iterator[Pair]:
    """The members of sets: those that are equal, or the only ones that are not."""
    _require(len(here) == len(there), place, here, there)
    one, other = [*(here - there)], [*(there - here)]
    _require(len(one) == len(other) <= 1, place, here, there)
    yield from _items(place, one, other)


def _attributes(item: object) -> dict[object, object]:
    """The attributes of an instance, in slots and out of them, by name."""
    slots = {
        name: getattr(item, name)
        for class_ in type(item).__mro__
        for name, value in vars(class_).items()
        if isinstance(value, types.MemberDescriptorType) and hasattr(item, name)
    }
    return {**slots, **getattr(item, "__dict__", {})}
