"""Snapshots: the state of an object and of all objects that it refers to, restored in place.

A copy of the objects would not do: a bound method or the closure of a callback would still refer to the originals.
So no object is copied.  A snapshot lists every object that can change, with what it referred to, and `restore` makes
each refer to the same again.  An object that was made later is unreachable then.

What a class can declare:

- `UNSAVED`, a class variable: names of attributes that do not belong to the state, such as listeners.  They are neither
  restored nor followed.
- `NEVER_CHANGES`, a class variable that is true: neither an instance nor what it refers to changes.
- a method `saved_state`: it returns a function that restores the object's state, any number of times.  The object's
  attributes are not looked at.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import gc
import os
import re
import struct
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import is_
from pathlib import PurePath
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

import attrs

#: Types whose instances never change and refer to nothing that does.
_CONSTANT = (
    int,
    str,
    bytes,
    float,
    type(None),
    type,
    range,
    enum.Enum,
    UUID,
    PurePath,
    re.Pattern,
    struct.Struct,
    types.ModuleType,
    types.CodeType,
)

#: What attrs replaces in a frozen class.
_REFUSED = ("__setattr__", "__delattr__")

#: Stands for an attribute that has no value yet.
_UNSET = object()

_NO_NAMES: frozenset[str] = frozenset()


@runtime_checkable
class SavesItself(Protocol):
    """An object that knows how to save its state."""

    def saved_state(self) -> Callable[[], None]:
        """Save the state; the result restores it, any number of times."""


@attrs.frozen
class _Layout:
    """Where the instances of a class keep their attributes.

    Attributes:
        slots: the descriptors of slots.
        has_dict: they have a __dict__.
        unsaved: names of attributes that do not belong to the state.
        is_frozen: no attribute changes after the construction.
    """

    slots: tuple[types.MemberDescriptorType, ...]
    has_dict: bool
    unsaved: frozenset[str]
    is_frozen: bool


class Snapshot:
    """The state of an object, and of all objects that it refers to, when the snapshot was made.

    TypeError for an object whose state cannot be saved, such as a generator.
    """

    def __init__(self, root: object, *, whole: bool = False) -> None:
        """Save the state.

        Args:
            root: the object.
            whole: save the attributes that `UNSAVED` names as well: the objects are referred to by `root` alone, so
                nothing outlives the reset that these attributes would be about.
        """
        self._is_whole = whole
        self._objects: dict[int, object] = {}
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._lists: list[tuple[list[Any] | bytearray, list[Any] | bytes]] = []
        self._sets: list[tuple[set[Any] | deque[Any], tuple[Any, ...]]] = []
        self._attributes: list[tuple[dict[str, Any], dict[str, Any], frozenset[str]]] = []
        self._slots: list[tuple[types.MemberDescriptorType, object, object]] = []
        self._cells: list[tuple[types.CellType, object]] = []
        self._restorers: list[Callable[[], None]] = []
        pending: list[object] = [root]
        objects = self._objects
        while pending:
            each = pending.pop()
            if id(each) in objects:
                continue
            save = _SAVERS.get(type(each)) or _saver(type(each))
            if save is None:
                continue
            objects[id(each)] = each
            pending.extend(save(self, each))

    def __contains__(self, item: object) -> bool:
        """Whether an object that can change was part of the state."""
        return id(item) in self._objects

    def restore(self) -> None:
        """Restore the state.  Can be called any number of times.

        A dict that has not changed is not written: tables that never change belong to other machines as well, which
        another thread may use.
        """
        for mapping, entries in self._dicts:
            if not _has_same_entries(mapping, entries):
                mapping.clear()
                mapping.update(entries)
        for sequence, items in self._lists:
            sequence[:] = items
        for collection, members in self._sets:
            collection.clear()
            (collection.extend if isinstance(collection, deque) else collection.update)(members)
        for attributes, values, unsaved in self._attributes:
            _restore_attributes(attributes, values, unsaved)
        for slot, owner, value in self._slots:
            if value is not _UNSET:
                slot.__set__(owner, value)
            elif _value(slot, owner) is not _UNSET:
                slot.__delete__(owner)
        for cell, content in self._cells:
            cell.cell_contents = content
        for restore in self._restorers:
            restore()

    # One method for each kind of object: it saves the object and returns what the object refers to.

    def _save_dict(self, item: dict[Any, Any]) -> Iterable[object]:
        self._dicts.append((item, dict(item)))
        return [*item, *item.values()]

    def _save_list(self, item: list[Any]) -> Iterable[object]:
        self._lists.append((item, list(item)))
        return item

    def _save_bytearray(self, item: bytearray) -> Iterable[object]:
        self._lists.append((item, bytes(item)))
        return ()

    def _save_collection(self, item: set[Any] | deque[Any]) -> Iterable[object]:
        self._sets.append((item, tuple(item)))
        return item

    def _save_cell(self, item: types.CellType) -> Iterable[object]:
        try:
            content = item.cell_contents
        except ValueError:  # not assigned yet: it is assigned once, by the function that owns it
            return ()
        self._cells.append((item, content))
        return (content,)

    def _save_by_itself(self, item: SavesItself) -> Iterable[object]:
        self._restorers.append(item.saved_state())
        return ()

    def _save_instance(self, item: object, layout: _Layout) -> Iterable[object]:
        found = []
        unsaved = _NO_NAMES if self._is_whole else layout.unsaved
        for slot in layout.slots:
            if slot.__name__ in unsaved:
                continue
            value = _value(slot, item)
            if not layout.is_frozen:
                self._slots.append((slot, item, value))
            found.append(value)
        if layout.has_dict:
            values = {name: value for name, value in item.__dict__.items() if name not in unsaved}
            self._attributes.append((item.__dict__, values, unsaved))
            found += values.values()
        return found


def _has_same_entries(mapping: dict[Any, Any], entries: dict[Any, Any]) -> bool:
    """Whether a dict has the very same keys and values, in the same order."""
    if len(mapping) != len(entries):
        return False
    return all(map(is_, mapping, entries)) and all(map(is_, mapping.values(), entries.values()))


def _value(slot: types.MemberDescriptorType, owner: object) -> object:
    try:
        return slot.__get__(owner)
    except AttributeError:
        return _UNSET


def _restore_attributes(attributes: dict[str, Any], values: dict[str, Any], unsaved: frozenset[str]) -> None:
    """Restore the attributes of an instance; those that have not changed are not written, which is faster."""
    for name, value in values.items():
        if attributes.get(name, _UNSET) is not value:
            attributes[name] = value
    if len(attributes) > len(values):
        for name in attributes.keys() - values.keys() - unsaved:
            del attributes[name]


_Saver = Callable[[Snapshot, Any], Iterable[object]]


def _items(_: Snapshot, item: Iterable[object]) -> Iterable[object]:
    return item


def _closure(_: Snapshot, item: types.FunctionType) -> Iterable[object]:
    return item.__closure__ or ()


def _self(_: Snapshot, item: types.MethodType | types.BuiltinMethodType) -> Iterable[object]:
    return (item.__self__,)


def _values(_: Snapshot, item: types.MappingProxyType[Any, object]) -> Iterable[object]:
    return item.values()


def _partial(_: Snapshot, item: functools.partial[object]) -> Iterable[object]:
    return (item.func, *item.args, *item.keywords.values())


#: How instances of a type are saved; None for constants.  Completed by `_saver`.
_SAVERS: dict[type, _Saver | None] = {
    dict: Snapshot._save_dict,
    list: Snapshot._save_list,
    bytearray: Snapshot._save_bytearray,
    set: Snapshot._save_collection,
    deque: Snapshot._save_collection,
    types.CellType: Snapshot._save_cell,
    tuple: _items,
    frozenset: _items,
    types.FunctionType: _closure,
    types.MethodType: _self,
    types.BuiltinMethodType: _self,
    types.MappingProxyType: _values,
    functools.partial: _partial,
}


def _saver(type_: type) -> _Saver | None:
    """How instances of a type are saved, decided once for each type."""
    if type_ not in _SAVERS:
        _SAVERS[type_] = _new_saver(type_)
    return _SAVERS[type_]


def _new_saver(type_: type) -> _Saver | None:
    if issubclass(type_, _CONSTANT) or type_ is object or getattr(type_, "NEVER_CHANGES", False):
        return None
    if issubclass(type_, SavesItself):
        return Snapshot._save_by_itself
    for builtin in (dict, list, set, tuple):
        if issubclass(type_, builtin):
            return _SAVERS[builtin]
    layout = _Layout(
        slots=tuple(
            value
            for class_ in type_.__mro__
            for value in vars(class_).values()
            if isinstance(value, types.MemberDescriptorType)
        ),
        has_dict=bool(type_.__dictoffset__),
        unsaved=frozenset().union(*(vars(class_).get("UNSAVED", ()) for class_ in type_.__mro__)),
        is_frozen=attrs.has(type_) and _is_frozen(type_),
    )
    if _hides_state(type_, layout):
        raise TypeError(f"the state of a {type_.__name__} cannot be saved")

    def save(snapshot: Snapshot, item: object) -> Iterable[object]:
        return snapshot._save_instance(item, layout)

    return save


def _hides_state(type_: type, layout: _Layout) -> bool:
    """Whether an instance has more than its attributes, as its class or a base of it is not written in Python."""
    if not layout.has_dict and not any("__slots__" in vars(class_) for class_ in type_.__mro__):
        return True
    pointers = len(layout.slots) + (type_.__dictoffset__ > 0) + (type_.__weakrefoffset__ > 0)
    return type_.__basicsize__ > object.__basicsize__ + pointers * struct.calcsize("P")


def _is_frozen(type_: type) -> bool:
    """Whether attrs made the class immutable: it then replaces __setattr__ and __delattr__ by functions that refuse."""
    return all(getattr(type_, name) is not getattr(object, name) for name in _REFUSED)


class _Pause:
    """Garbage is not collected while any thread is in a context of `without_collection`."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may interrupt the thread that holds it
        self._contexts = 0
        self._was_enabled = False

    def begin(self) -> None:
        with self._lock:
            if not self._contexts:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._contexts += 1

    def end(self) -> None:
        with self._lock:
            self._contexts -= 1
            if not self._contexts and self._was_enabled:
                gc.enable()

    def after_fork(self) -> None:
        """In a process that was forked: its only thread is in no context, and the others' contexts never end."""
        if self._contexts and self._was_enabled:
            gc.enable()
        self._renew()


_PAUSE = _Pause()
os.register_at_fork(after_in_child=_PAUSE.after_fork)


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage in this context: a collection would look at every object of the machine and find none.

    The setting is that of the process, so the last of the threads that are in such a context restores it.  Nothing
    forks in one.
    """
    _PAUSE.begin()
    try:
        yield
    finally:
        _PAUSE.end()
