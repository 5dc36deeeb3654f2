"""Character devices of the host's own libnvdimm that belong to nothing, as nodes for those of the machine.

libnvdimm registers the majors ndctl and dimmctl with all their minors, and opens each of them, whether there is a bus
or a DIMM of that number or not (nvdimm_bus_init, nd_open, drivers/nvdimm/bus.c, Linux 6.1).  So such a node answers
read(2), lseek(2), poll(2) and all else exactly as /dev/ndctl0 does, because it is one; ioctl(2), which the supervisor
answers, would be ENXIO.  The character devices of device DAX answer the same, except to mmap(2).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import deque
from pathlib import Path
from typing import Self

from attrs import Factory, define

from nvdimmfs.sandbox.device_node import NODE_MODE, NodeNumber

#: The buses and the DIMMs that the host itself has: their names, which end with their minors, and where they are.
_EXISTING = (("ndctl", "/sys/class/nd"), ("nmem", "/sys/bus/nd/devices"))

#: Minors of a major that register_chrdev registers (fs/char_dev.c).
_MINORS = 256


@define(eq=False)
class HostCharacters:
    """Chooses numbers.

    A number is used again as late as possible: a process may still have the node of a device open that is gone.

    Attributes:
        majors: the host's major numbers of ndctl and dimmctl.
        taken: the numbers that devices of the host have, and those that were chosen.
        released: those that were chosen and have no node any more, in that order.
    """

    majors: tuple[int, ...]
    taken: set[NodeNumber] = Factory(set)
    released: deque[NodeNumber] = Factory(deque)

    @classmethod
    def find(cls) -> Self | None:
        """Look for the host's libnvdimm, while /proc and /sys are the host's; None where it is not loaded."""
        try:
            devices = Path("/proc/devices").read_text().partition("Block devices")[0]
        except OSError:
            return None
        majors = [re.search(rf"^ *(\d+) {name}$", devices, re.MULTILINE) for name in ("ndctl", "dimmctl")]
        found = cls(tuple(int(major[1]) for major in majors if major is not None))
        if len(found.majors) < len(majors):
            return None
        for major, (name, place) in zip(found.majors, _EXISTING, strict=True):
            with contextlib.suppress(OSError):  # the host has none
                existing = (each for each in os.listdir(place) if re.fullmatch(rf"{name}\d+", each))  # noqa: PTH208
                found.taken.update(NodeNumber(major, int(each.removeprefix(name))) for each in existing)
        return found

    def create(self, path: Path, current: NodeNumber) -> NodeNumber | None:
        """Create a node, and return its number.  None when this process may not, or there are no more numbers.

        Args:
            path: where.
            current: the number that the device has in the machine; the node gets the same, if it can.
        """
        number = current if self._is_free(current) else self._free_number(path.name)
        if number is None:
            if not self.released:
                return None
            number = self.released.popleft()
        try:
            os.mknod(path, stat.S_IFCHR | NODE_MODE, os.makedev(number.major, number.minor))
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:  # a container, the rules of which do not permit it
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return None
        self.taken.add(number)
        return number

    def release(self, number: NodeNumber) -> None:
        """The device of a number was removed: the number may be used again."""
        self.released.append(number)

    def _is_free(self, number: NodeNumber) -> bool:
        return number.major in self.majors and number.minor < _MINORS and number not in self.taken

    def _free_number(self, name: str) -> NodeNumber | None:
        """The highest number that is free, as the host counts its own from 0: of a DIMM's major for a DIMM."""
        majors = self.majors[::-1] if name.startswith("nmem") else self.majors
        numbers = (NodeNumber(major, minor) for major in majors for minor in reversed(range(_MINORS)))
        return next((number for number in numbers if number not in self.taken), None)
