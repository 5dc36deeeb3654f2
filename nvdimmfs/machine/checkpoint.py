"""Checkpoints: a machine goes back to an earlier state, with all that it had then.

docs/explanation/checkpoints.md explains why the state is restored in place.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import ClassVar, Self

from nvdimmfs.core.system import System
from nvdimmfs.kernfs import TreeCheckpoint
from nvdimmfs.platforms.storage import Storage
from nvdimmfs.snapshot import Snapshot


class CheckpointError(Exception):
    """The machine cannot have a checkpoint, or has none; str() is the message for the user."""


class Checkpoint:
    """The state of a machine between two requests.

    Use it as a context manager to reset the machine at the end, or call `reset`, any number of times.
    """

    #: Not part of a snapshot.
    UNSAVED: ClassVar[frozenset[str]] = frozenset({"_snapshot", "_tree"})

    def __init__(self, machine: object, system: System, storage: Storage) -> None:
        """Save the state.

        Args:
            machine: the object that refers to all others.
            system: its system.
            storage: the bytes of its persistent memory.

        Raises:
            CheckpointError: the bytes are in files, which cannot be saved in a moment.
        """
        if not storage.can_be_reset:
            raise CheckpointError("a machine with --media cannot be reset: copy the folder instead")
        self._clock = system.clock
        self._clock.count()
        with _gc_disabled():
            self._tree = TreeCheckpoint(system.tree)
            self._snapshot = Snapshot(machine)

    def reset(self) -> None:
        """Make the machine what it was.  Between two requests only."""
        with _gc_disabled():
            self._tree.reset(self._snapshot.restore)
        self._clock.resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reset()


class Checkpoints:
    """A machine's last checkpoint, for the debug folder."""

    #: Not part of a snapshot: a checkpoint does not hold those before it.
    UNSAVED: ClassVar[frozenset[str]] = frozenset({"last"})

    def __init__(self, machine: object, system: System, storage: Storage) -> None:
        self._machine = machine
        self._system = system
        self._storage = storage
        self.last: Checkpoint | None = None

    def take(self) -> Checkpoint:
        """Save the state, in place of the last checkpoint.  CheckpointError."""
        self.last = Checkpoint(self._machine, self._system, self._storage)
        return self.last

    def reset(self) -> None:
        """Go back to the last checkpoint.  CheckpointError when there is none."""
        if self.last is None:
            raise CheckpointError("there is no checkpoint yet")
        self.last.reset()


@contextlib.contextmanager
def _gc_disabled() -> Iterator[None]:
    """A collection in between would look at every object of the machine and find no garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
