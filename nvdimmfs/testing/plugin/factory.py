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
    from nvdimmfs.formats.layout_document import LayoutDocument
    from nvdimmfs.testing.machine import Machine

_KindT = TypeVar("_KindT", "Engine", "Machine")


@attrs.frozen
class Baseline:
    """What a machine was at its last checkpoint.

    Attributes:
        layout: that of its memory.
        dump: its dump.
    """

    layout: LayoutDocument
    dump: str


@attrs.define(eq=False)
class Made:
    """A machine of a test.

    Attributes:
        machine: the machine.
        selection: the arguments that it was made with.
        has_new_media: whether its bytes began as those of a new machine.
        checkpoint: its last checkpoint; None when there is none, or when it is not watched.
    """

    machine: Engine | Machine
    selection: Selection
    has_new_media: bool
    checkpoint: Baseline | None = None

    def watch(self) -> None:
        """Keep what the machine is at its checkpoints."""
        self.machine.on_checkpoint(self._keep)

    def _keep(self) -> None:
        self.checkpoint = Baseline(self.machine.layout, self.machine.dump())

    @property
    def title(self) -> str:
        """Its kind and its arguments."""
        return f"{type(self.machine).__name__} ({self.selection})"


class Factory:
    """Makes machines, and closes all of them at the end of the test.

    An argument replaces what the mark of the test sets; `media` is True for a new temporary folder, or a folder.
    """

    def __init__(self, selection: Selection, new_folder: Callable[[], Path], *, watching: bool = False) -> None:
        """Begin without a machine.

        Args:
            selection: the machine that the mark selects.
            new_folder: makes a folder for media.
            watching: whether to keep what machines are at their checkpoints.
        """
        self._selection = selection
        self._new_folder = new_folder
        self._watching = watching
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
        trace: bool = True,
    ) -> Machine:
        """Make a `Machine`.  ValueError and UnavailableError, as from `Machine`."""
        from nvdimmfs.testing.machine import Machine  # which tests of an engine do without

        wanted = {"machine": machine, "memmap": memmap, "ram": ram, "kernel": kernel, "clock": clock}
        return self._make(Machine, wanted, media, trace)

    def engine(
        self,
        machine: AnyMachine | None = None,
        *,
        memmap: str | None = None,
        ram: int | str | None = None,
        kernel: str | None = None,
        media: AnyPath | bool | None = None,
        clock: str | None = None,
        trace: bool = True,
    ) -> Engine:
        """Make an `Engine`.  ValueError, as from `Engine`."""
        wanted = {"machine": machine, "memmap": memmap, "ram": ram, "kernel": kernel, "clock": clock}
        return self._make(Engine, wanted, media, trace)

    def close(self) -> None:
        """Close all machines, the last one first, whichever of them cannot be closed."""
        with contextlib.ExitStack() as stack:
            while self._made:
                stack.callback(self._made.pop(0).machine.close)

    def __iter__(self) -> Iterator[Made]:
        """The machines that it has made and not closed."""
        return iter(tuple(self._made))

    def _make(self, kind: type[_KindT], wanted: dict[str, Any], media: AnyPath | bool | None, trace: bool) -> _KindT:
        selection = attrs.evolve(self._selection, **{key: value for key, value in wanted.items() if value is not None})
        media = selection.media if media is None else media
        folder = self._folder(media)
        arguments = attrs.asdict(selection, recurse=False) | {"media": folder, "trace": trace}
        machine = kind(arguments.pop("machine"), **arguments)
        made = Made(machine, selection, isinstance(media, bool))
        if self._watching:
            made.watch()
        self._made.append(made)
        return machine

    def _folder(self, media: AnyPath | bool) -> AnyPath | None:
        if isinstance(media, bool):
            return self._new_folder() if media else None
        return media
