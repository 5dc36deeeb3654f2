"""Checkpoints: a machine goes back to an earlier state, with all that it had then.

docs/explanation/checkpoints.md explains why the state is restored in place.
"""

from __future__ import annotations

from typing import ClassVar, Self

from nvdimmfs.core.system import System
from nvdimmfs.kernfs import TreeCheckpoint
from nvdimmfs.platforms.storage import Storage
from nvdimmfs.snapshot import Snapshot, without_collection


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
        with without_collection():
            self._tree = TreeCheckpoint(system.tree)
            self._snapshot = Snapshot(machine)

    def reset(self) -> None:
        """Make the machine what it was.  Between two requests only."""
        with without_collection():
            self._tree.reset(self._snapshot.restore)
        self._clock.resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reset()


class Checkpoints:
    """A machine's last checkpoint, and those with a name, for the debug folder."""

    #: Not part of a snapshot: a checkpoint does not hold those before it.
    UNSAVED: ClassVar[frozenset[str]] = frozenset({"last", "_named"})

    def __init__(self, machine: object, system: System, storage: Storage) -> None:
        self._machine = machine
        self._system = system
        self._storage = storage
        self._named: dict[str, Checkpoint] = {}
        self.last: Checkpoint | None = None

    @property
    def names(self) -> list[str]:
        """The names of the checkpoints that have one, in the order in which they were taken."""
        return [*self._named]

    def take(self, name: str = "") -> Checkpoint:
        """Save the state, as the last checkpoint, and under a name if there is one.  CheckpointError."""
        self.last = Checkpoint(self._machine, self._system, self._storage)
        if name:
            self._named.pop(name, None)
            self._named[name] = self.last
        return self.last

    def reset(self, name: str = "") -> None:
        """Go back to the last checkpoint, or to the one of that name.  CheckpointError when there is none."""
        checkpoint = self._named.get(name) if name else self.last
        if checkpoint is None:
            raise CheckpointError(f"there is no checkpoint {name}" if name else "there is no checkpoint yet")
        checkpoint.reset()

    def forget(self, name: str) -> None:
        """Keep the checkpoint of that name no longer, unless it is the last.  CheckpointError when there is none."""
        if self._named.pop(name, None) is None:
            raise CheckpointError(f"there is no checkpoint {name}")
