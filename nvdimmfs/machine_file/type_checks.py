"""The types of what a Python program passes: arguments, and the parts of a description."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import attrs

from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine_file.values import number_kind


def require(name: str, value: object, kinds: tuple[type, ...], wanted: str) -> None:
    """TypeError for an argument of another type.  A truth value is a number only where `bool` is among the types."""
    is_wanted = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if not is_wanted:
        raise TypeError(f"{name} must be {wanted}, not {value!r:.80}")


def require_types(machine: MachineDescription) -> None:
    """TypeError if a part of a description has not the type that its class declares, as a part read from a file has."""
    with contextlib.suppress(TypeError):  # such as that of the cache, for a part that has no hash
        _require_types(machine)
        return
    _require_types.__wrapped__(machine)


@functools.lru_cache(maxsize=16)
def _require_types(machine: MachineDescription) -> None:
    for path, wanted, value in _wrong(machine, ""):
        raise TypeError(f"{path} must be {wanted}, not {value!r:.80}")


def _wrong(described: attrs.AttrsInstance, path: str) -> Iterator[tuple[str, str, object]]:
    """The path of each wrong part of an object, what it must be in words, and what it is."""
    for field in attrs.fields(type(described)):
        yield from _wrong_value(getattr(described, field.name), field.type, f"{path}{field.name}")


def _wrong_value(value: object, type_: Any, path: str) -> Iterator[tuple[str, str, object]]:  # noqa: ANN401  # a type
    if get_origin(type_) is tuple:
        if isinstance(value, tuple):
            for index, each in enumerate(value):
                yield from _wrong_value(each, get_args(type_)[0], f"{path}[{index}]")
        else:
            yield path, "a list or a tuple", value
    elif number_kind(type_) is not None:
        if not isinstance(value, int) or isinstance(value, bool):
            yield path, "a whole number", value
    elif not isinstance(value, type_):
        yield path, _WORDS.get(type_) or f"of the class {type_.__name__}", value
    elif attrs.has(type_):
        yield from _wrong(value, f"{path}.")


_WORDS = {str: "a text", bool: "True or False"}
