"""What differs between two dumps, in words: devices first, then attributes, links and modes of those in both."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

from nvdimmfs.dumps.text import Row

Rows = Mapping[str, Row]

_DRIVER = re.compile(r"bus/(?P<bus>[^/]+)/drivers/(?P<name>[^/]+)")

#: Where the driver core keeps a link to each device.
_INDEXES = ("bus/", "class/")


def differences(before: Iterable[Row], after: Iterable[Row]) -> list[str]:
    """One line for each difference, sorted by path; empty when there is none."""
    return list(_Comparison({row.path: row for row in before}, {row.path: row for row in after}).lines())


class _Comparison:
    """Two dumps, side by side."""

    def __init__(self, before: Rows, after: Rows) -> None:
        self._before, self._after = before, after
        self._was, self._is = _devices(before), _devices(after)
        self._devices = self._was | self._is
        self._named_twice = _named_twice(self._devices)
        self._changed = self._was ^ self._is
        self._above_changed = {above for path in self._changed for above in _above(path)}
        self._changed_names = {posixpath.basename(path) for path in self._changed}
        self._moved_drivers = {
            posixpath.basename(path)
            for path in self._was & self._is
            if before.get(f"{path}/driver") != after.get(f"{path}/driver")
        }

    def lines(self) -> Iterator[str]:
        skipped = "\n"  # a path that no other begins with
        for path in sorted({*self._before, *self._after}, key=lambda path: path.split("/")):
            old, new = self._before.get(path), self._after.get(path)
            if path in self._changed:
                yield f"{self._device(path)} {'appeared' if old is None else 'is gone'}"
            elif old == new or path.startswith(skipped) or self._is_implied(path):
                continue
            elif old is None or new is None:
                yield self._one_sided(path, old, new)
                skipped = f"{path}/"
            else:
                yield from self._changes(path, old, new)

    def _is_implied(self, path: str) -> bool:
        """Whether another line already reports this difference, which is that of a device or a driver."""
        owner = self._owner(path)
        if owner in self._changed or path in self._above_changed:
            return True
        name = posixpath.basename(path)
        if not path.startswith(_INDEXES):
            return False
        return name in self._changed_names or ("/drivers/" in path and name in self._moved_drivers)

    def _one_sided(self, path: str, old: Row | None, new: Row | None) -> str:
        """What is in one of the dumps only."""
        row = old or new
        assert row is not None, "a path of a dump has a row"
        if self._is_driver(path):
            return self._driver(path, old, new)
        shown = f": {_value(row)}" if new is not None and not row.is_directory else ""
        return f"{self._place(path, row)} {'appeared' if old is None else 'is gone'}{shown}"

    def _changes(self, path: str, old: Row, new: Row) -> Iterator[str]:
        """What changed of something in both dumps."""
        place = self._place(path, new)
        if old.mode[0] != new.mode[0]:
            kind = _kind(new)
            yield f"{self._place(path, old)} became {'an' if kind == 'attribute' else 'a'} {kind}"
            return
        if old.mode != new.mode:
            yield f"mode of {place}: {old.mode[1:]} -> {new.mode[1:]}"
        if (old.content, old.target, old.errno) == (new.content, new.target, new.errno):
            return
        yield self._driver(path, old, new) if self._is_driver(path) else f"{place}: {_value(old)} -> {_value(new)}"

    def _driver(self, path: str, old: Row | None, new: Row | None) -> str:
        names = (posixpath.basename(row.target or "") if row else "none" for row in (old, new))
        return f"driver of {self._device(posixpath.dirname(path))}: {' -> '.join(names)}"

    def _is_driver(self, path: str) -> bool:
        return posixpath.basename(path) == "driver" and posixpath.dirname(path) in self._devices

    def _place(self, path: str, row: Row) -> str:
        owner = self._owner(path)
        if not owner:
            driver = _DRIVER.fullmatch(path)
            return f"driver {driver['name']} of bus {driver['bus']}" if driver else f"{_kind(row)} {path}"
        return f"{_kind(row)} {path.removeprefix(f'{owner}/')} of {self._device(owner)}"

    def _owner(self, path: str) -> str:
        """The device that a path belongs to; empty for none."""
        while path and path not in self._devices:
            path = posixpath.dirname(path)
        return path

    def _device(self, path: str) -> str:
        name = posixpath.basename(path)
        return f"device {path if name in self._named_twice else name}"


def _devices(rows: Rows) -> set[str]:
    """The directories of devices: those below devices/ with a file `uevent`."""
    found = {posixpath.dirname(path) for path in rows if posixpath.basename(path) == "uevent"}
    return {path for path in found if path.startswith("devices/")}


def _above(path: str) -> Iterator[str]:
    """The directories that a path is in."""
    while path := posixpath.dirname(path):
        yield path


def _named_twice(paths: Iterable[str]) -> set[str]:
    """The names that several devices have, such as a dax device of the bus nd and that of the bus dax below it."""
    seen: set[str] = set()
    twice: set[str] = set()
    for path in paths:
        name = posixpath.basename(path)
        (twice if name in seen else seen).add(name)
    return twice


def _kind(row: Row) -> str:
    if row.target is not None:
        return "link"
    return "directory" if row.is_directory else "attribute"


def _value(row: Row) -> str:
    if row.target is not None:
        return row.target
    if row.content is not None:
        return json.dumps(row.content.decode("latin-1"))
    return row.errno or "not readable"
