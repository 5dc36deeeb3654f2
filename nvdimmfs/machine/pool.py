"""Machines that need not be booted: they begin again after they were used, or were booted before a fork."""

from __future__ import annotations

import gc
import pickle
from typing import TypeVar

from attrs import define, field

from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.snapshot import Snapshot, without_collection

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

#: How many machines wait at most for being used again, and how many descriptions are remembered.
_MOST = 8

#: The most DIMMs, ranges and namespaces of a machine that is kept: its objects stay in memory.
_LARGEST = 64


@define(eq=False)
class PooledMachine:
    """A machine that has booted.

    Attributes:
        machine: the machine.
        description: what it was booted from.
        booted: its state when it had booted, to which it can go back; None where it is used once.
    """

    machine: Machine
    description: MachineDescription
    booted: Snapshot | None


@define(eq=False)
class MachinePool:
    """The machines of a process, without media, that are used no longer.

    A machine is as it was when it had booted, in every object: the numbers of its devices, its inode numbers, its
    clock, its listeners and its trace.  So only one that is referred to by its user alone can be given back.

    The state is saved at the second boot of a description, which doubles the time of that boot; the machines that
    follow need a fifth of it.

    All methods may be called from several threads: each step is one operation of a dict.
    """

    _unused: dict[MachineDescription, PooledMachine] = field(factory=dict, init=False)
    _known: dict[MachineDescription, None] = field(factory=dict, init=False)

    def take(self, description: MachineDescription) -> PooledMachine:
        """A machine that has just booted, or is as if it had.

        Raises:
            NewMachineError: a setting of the description is refused.
        """
        is_kept = can_be_kept(description)
        if is_kept and (unused := self._unused.pop(description, None)) is not None:
            return unused
        saves = is_kept and description in self._known
        with without_collection():
            machine = Machine.described(description)
            booted = Snapshot(machine, whole=True) if saves else None
        if is_kept:
            _remember(self._known, description, None)
        return PooledMachine(machine, description, booted)

    def give_back(self, pooled: PooledMachine) -> None:
        """The user refers to the machine no longer: reset it for the next one, or shut it down."""
        if pooled.booted is None:
            pooled.machine.close()
            return
        with without_collection():
            pooled.booted.restore()
        _remember(self._unused, pooled.description, pooled)


@define(eq=False)
class InheritedMachines:
    """Machines that a process boots for those that it forks: each of these has a machine of its own, by copy on write.

    A machine stays until the process ends, as the memory of what is exempt from collection is never freed.  They are
    found by their pickled descriptions, as the processes receive them.
    """

    _booted: dict[bytes, Machine] = field(factory=dict, init=False)
    _known: dict[bytes, None] = field(factory=dict, init=False)

    def learn(self, pickled: bytes) -> None:
        """A machine was asked for: boot one that is asked for the second time.

        Raises:
            NewMachineError: a setting of the description is refused.
        """
        if pickled in self._booted or len(self._booted) >= _MOST:
            return
        if pickled in self._known:
            description: MachineDescription = pickle.loads(pickled)  # noqa: S301  # of the process that owns this one
            with without_collection():
                self._booted[pickled] = Machine.described(description)
                gc.freeze()
        _remember(self._known, pickled, None)

    def take(self, pickled: bytes) -> Machine | None:
        """In a process that was forked: the machine, if there is one, which this process takes once."""
        return self._booted.pop(pickled, None)

    def __len__(self) -> int:
        return len(self._booted)


def can_be_kept(description: MachineDescription) -> bool:
    """Whether a machine is small, and boots the same way whenever it boots: files of labels can change."""
    dimms = [dimm for bus in description.buses for dimm in bus.dimms]
    namespaces = sum(len(range_.namespaces) for range_ in description.ranges)
    size = len(dimms) + len(description.ranges) + namespaces
    return size <= _LARGEST and not any(dimm.label.file for dimm in dimms)


def _remember(known: dict[KeyT, ValueT], key: KeyT, value: ValueT) -> None:
    """Put an entry after all others, and forget the oldest of too many."""
    known.pop(key, None)
    known[key] = value
    for oldest in [*known][:-_MOST]:
        known.pop(oldest, None)
