"""`nvdimm_factory`: the machines of one test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from nvdimmfs.testing.arguments import AnyPath
from nvdimmfs.testing.engine import Engine
from nvdimmfs.testing.plugin.marks import AnyMachine, Selection

if TYPE_CHECKING:
    from nvdimmfs.testing.machine import Machine

_KindT = TypeVar("_KindT", "Engine", "Machine")


@attrs.frozen(eq=False)
class Made:
    """A machine of a test.

    Attributes:
        machine: the machine.
        selection: the arguments that it was made with.
        has_new_media: whether its bytes began as those of a new machine.
    """

    machine: Engine | Machine
    selection: Selection
    has_new_media: bool

    @property
    def title(self) -> str:
        """Its kind and its arguments."""
        return f"{type(self.machine).__name__} {self.selection}"


class Factory:
    """Makes machines, and closes all of them at the end of the test.

    An argument replaces what the mark of the test sets; `media` is True for a new temporary folder, or a folder.
    """

    def __init__(self, selection: Selection, new_folder: Callable[[], Path]) -> None:
        self._selection = selection
        self._new_folder = new_folder
        self._made: list[Made] = []

    def __call__(
        self,
        machine: AnyMachine | None = None,
        *,
        memmap: str | None = None,
        ram: int | str | None = None,
        kernel: str | None = None,
        media: AnyPath | bool | None = None,
        clock: str | None = None,
    ) -> Machine:
        """Make a `Machine`.  ValueError and UnavailableError, as from `Machine`."""
        from nvdimmfs.testing.machine import Machine  # which tests of an engine do without

        wanted = {"machine": machine, "memmap": memmap, "ram": ram, "kernel": kernel, "clock": clock}
        return self._make(Machine, wanted, media)

    def engine(
        self,
        machine: AnyMachine | None = None,
        *,
        memmap: str | None = None,
        ram: int | str | None = None,
        kernel: str | None = None,
        media: AnyPath | bool | None = None,
        clock: str | None = None,
    ) -> Engine:
        """Make an `Engine`.  ValueError, as from `Engine`."""
        wanted = {"machine": machine, "memmap": memmap, "ram": ram, "kernel": kernel, "clock": clock}
        return self._make(Engine, wanted, media)

    def close(self) -> None:
        """Close all machines, the last one first, whichever of them cannot be closed."""
        with contextlib.ExitStack() as stack:
            while self._made:
                stack.callback(self._made.pop(0).machine.close)

    def __iter__(self) -> Iterator[Made]:
        """The machines that it has made and not closed."""
        return iter(tuple(self._made))

    def _make(self, kind: type[_KindT], wanted: dict[str, Any], media: AnyPath | bool | None) -> _KindT:
        selection = attrs.evolve(self._selection, **{key: value for key, value in wanted.items() if value is not None})
        media = selection.media if media is None else media
        folder = self._folder(media)
        arguments = attrs.asdict(selection, recurse=False) | {"media": folder}
        machine = kind(arguments.pop("machine"), **arguments)
        self._made.append(Made(machine, selection, isinstance(media, bool)))
        return machine

    def _folder(self, media: AnyPath | bool) -> AnyPath | None:
        if isinstance(media, bool):
            return self._new_folder() if media else None
        return media
