"""What the moves of a random walk have in common: the machine as it is at the moment, and choices."""

from __future__ import annotations

import random
import stat
from collections.abc import Sequence
from typing import TypeVar

from nvdimmfs.errors import KernelError
from nvdimmfs.lab.asking import Call
from nvdimmfs.lab.fatal import is_fatal
from nvdimmfs.lab.trees import InProcess

ItemT = TypeVar("ItemT")

DEVICES = "bus/nd/devices"
DRIVERS = "bus/nd/drivers"

#: Attributes that no move writes by chance: the first moves the clock, the others are moves of their own.
_NOT_WRITTEN = frozenset({"deep_flush", "uevent", "driver_override"})

#: The unit of a disk's `size`, and of partition tables (SECTOR_SIZE, include/linux/blk_types.h).
SECTOR_SIZE = 512

#: Values of an attribute that has no table of its own.
ANY_VALUE = ("0", "1", "", "y", "n", "on", "off", "2", "-1", "x", "0x10")

#: How often a walker asks for the uevents of a write.
_WITH_UEVENTS = 0.3


class Walker:
    """One who walks over a machine, which changes.

    Attributes:
        move: the questions of the present move, which have been asked already.
        has_plugged: whether a move has plugged something into the machine.
    """

    def __init__(self, tree: InProcess, chance: random.Random) -> None:
        self.move: list[Call] = []
        self.has_plugged = False
        self._tree = tree
        self._chance = chance

    @property
    def can_reboot(self) -> bool:
        """Whether the machine can boot again."""
        return self._tree.power_cycle is not None

    @property
    def watches(self) -> bool:
        """Whether files are watched."""
        return bool(self._tree.watched)

    @property
    def held(self) -> list[str]:
        """The device nodes that processes hold, the first first."""
        return [each.name for each in self._tree.held]

    def choose(self, items: Sequence[ItemT]) -> ItemT:
        """One of several."""
        return self._chance.choice(items)

    def pick(self, items: Sequence[str]) -> str:
        """One of several names, or an empty one if there is none."""
        return self.choose(items) if items else ""

    def weigh(self, weights: Sequence[int]) -> int:
        """The place of one of several, which have weights."""
        return self._chance.choices(range(len(weights)), weights)[0]

    def number(self, low: int, high: int) -> int:
        """A number between two, both included."""
        return self._chance.randint(low, high)

    def happens(self, probability: float) -> bool:
        """Whether something happens that has a probability."""
        return self._chance.random() < probability

    def ask(self, call: Call) -> None:
        """Ask a question of the machine, which becomes part of the move, unless a guest does not survive it."""
        if is_fatal(self._tree, call):
            return
        self.move.append(call)
        self._tree.answer(call)

    def write(self, path: str, data: str) -> None:
        """Write to an attribute."""
        self.ask({"op": "write", "path": path, "data": data})
        if self.happens(_WITH_UEVENTS):
            self.ask({"op": "uevents"})

    def drive(self, driver: str, act: str, device: str) -> None:
        """Bind a device of the bus nd to a driver, or unbind it."""
        self.write(f"{DRIVERS}/{driver}/{act}", device)

    def seen(self, path: str) -> str:
        """What a file has at the moment, without space around it; empty if it cannot be read."""
        return self._tree.answer({"op": "read", "path": path}).get("data", "").strip()

    def bytes_of(self, node: str, offset: int, length: int) -> str:
        """Bytes of a disk at the moment, in hexadecimal digits; none if it cannot be read."""
        return self._tree.answer({"op": "pread", "dev": node, "offset": offset, "length": length}).get("hex", "")

    def names(self, folder: str) -> list[str]:
        """The names in a directory, sorted; none if it does not exist."""
        try:
            return sorted(self._tree.names(folder))
        except KernelError:
            return []

    def devices(self, *kinds: str) -> list[str]:
        """The devices of the bus nd, or those of some kinds, by name."""
        return [name for name in self.names(DEVICES) if name.startswith(kinds or "")]

    def has_scrub(self, bus: str) -> bool:
        """Whether a bus looks for errors on its memory, which takes time: that of the test platform does."""
        return "scrub" in self.names(f"{DEVICES}/{bus}/nfit")

    def disks(self) -> list[str]:
        """The disks of namespaces and their holders, and partitions of them."""
        return [name for name in self.names("class/block") if name.startswith("pmem")]

    def is_on(self, disk: str, *kinds: str) -> bool:
        """Whether a disk, or that of a partition, is one of a device of some kinds, such as `btt`."""
        return any(part.startswith(kinds) for part in self.real_path(f"class/block/{disk}").split("/"))

    def size_of(self, disk: str) -> int:
        """Bytes of a disk or a partition; 0 if there is none of that name."""
        return int(self.seen(f"class/block/{disk}/size") or 0) * SECTOR_SIZE

    def written_files(self, folder: str) -> list[str]:
        """The files in a directory that can be written, without those that no move writes by chance."""
        return [name for name in self._files(folder, stat.S_IWUSR) if name not in _NOT_WRITTEN]

    def read_files(self, folder: str) -> list[str]:
        """The files in a directory that can be read."""
        return self._files(folder, stat.S_IRUSR)

    def _files(self, folder: str, right: int) -> list[str]:
        """The files in a directory for which root has a right."""
        modes = {name: self._tree.lstat(f"{folder}/{name}")[0] for name in self.names(folder)}
        return [name for name, mode in modes.items() if stat.S_ISREG(mode) and mode & right]

    def real_path(self, link: str) -> str:
        """The path of what a link at the third level of /sys leads to, such as a device of a bus."""
        return self._tree.readlink(link).removeprefix("../../../").removeprefix("../../")

    def pick_value(self, path: str, values: Sequence[str]) -> str:
        """A value for a file: one of a table, or one that it has."""
        present = self.seen(path).replace("[", " ").replace("]", " ").split()
        return self.choose([*values, *present]) + self.choose(("\n", "\n", ""))
