"""Random walks: questions and writes, sense and nonsense mixed, that a machine's own tree suggests.

A walk is chosen on an emulated machine, which takes each step at once, so that it goes on where the step has led.  It
is a list of questions afterwards, and can be asked anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from nvdimmfs.lab import moves_dax, moves_disk, moves_holders, moves_hotplug, moves_ioctl, moves_nd, moves_watch
from nvdimmfs.lab.asking import Call
from nvdimmfs.lab.nfit_test import NFIT_TEST
from nvdimmfs.lab.reboots import REBOOT
from nvdimmfs.lab.trees import InProcess
from nvdimmfs.lab.walker import DEVICES, Walker

#: The questions of one move.
Move = list[Call]


def _reboot(walker: Walker) -> None:
    """Have a machine that can boot again do so.

    Not with the test platform, whose buffers are memory of the kernel, and not with DIMMs that were plugged in: a
    firmware that boots may have them between others in its table.
    """
    if walker.can_reboot and NFIT_TEST not in walker.names("module") and not walker.has_plugged:
        walker.ask({"op": REBOOT})


#: What a walker does in a move, and how often in comparison.
_MOVES: tuple[tuple[Callable[[Walker], None], int], ...] = (
    (moves_nd.bring_up, 20),
    (moves_nd.bind, 12),
    (moves_nd.poke, 28),
    (moves_nd.destroy, 6),
    (moves_nd.core_file, 3),
    (moves_nd.scrub, 1),
    (moves_disk.transfer, 10),
    (moves_disk.partition, 2),
    (moves_disk.info_block, 2),
    (moves_disk.attribute, 5),
    (moves_ioctl.control, 7),
    (moves_ioctl.disk, 7),
    (moves_holders.hold, 5),
    (moves_holders.kill, 4),
    (moves_holders.file_system, 3),
    (moves_dax.device, 4),
    (moves_dax.memory_block, 1),
    (moves_dax.module, 1),
    (moves_hotplug.plug, 2),
    (moves_watch.watch, 6),
    (_reboot, 1),
)

#: Parts of dumps that are left out: they belong to power management, count and trace requests, or change with time.
_SKIP = [
    *("/power", "/nd/ndctl", "/firmware", "/trace", "/stat", "/inflight", "/diskseq", "/events", "/driver_override"),
    "/nfit/scrub",
]

#: Where the blocks of memory are.
_MEMORY = "devices/system/memory"

#: What is left out of the dump of a module: addresses, and what depends on its build.
_SKIP_OF_MODULE = ["/sections", "/notes"]

#: What changes with the devices of the bus, beside it: files that are read, and folders that are listed.
_FILES_BESIDE = ("../proc/iomem", "../proc/zoneinfo")
_FOLDERS_BESIDE = ("class/block", "class/nd", "bus/nd/drivers", "bus/dax/devices", "bus/dax/drivers")

#: How many levels below a device are dumped: its disk and the disk's queue are among them.
_DEPTH = 4

#: After so many moves, everything below the bus is dumped.
_WHOLE = 50


class Walk:
    """A walk over a machine, which changes.

    Attributes:
        moves: the moves that were made.
    """

    def __init__(self, tree: InProcess, chance: int | random.Random) -> None:
        """A walk that has not begun.

        Args:
            tree: the machine.
            chance: what chooses the moves: a seed, which makes the same walk each time, or a generator.
        """
        self.moves: list[Move] = []
        self._walker = Walker(tree, chance if isinstance(chance, random.Random) else random.Random(chance))  # noqa: S311

    def go(self, moves: int) -> None:
        """Make so many moves."""
        for number in range(1, moves + 1):
            self._walker.move = []
            make, _ = _MOVES[self._walker.weigh([weight for _, weight in _MOVES])]
            make(self._walker)
            self._look(everywhere=number % _WHOLE == 0)
            self.moves.append(self._walker.move)

    def _look(self, *, everywhere: bool) -> None:
        """List the devices, and read everything about one, or about all."""
        walker = self._walker
        walker.ask({"op": "ls", "path": DEVICES})
        devices = walker.devices("ndbus") if everywhere else walker.devices()
        for device in devices if everywhere else devices and [walker.choose(devices)]:
            path = walker.real_path(f"{DEVICES}/{device}")
            depth = 1 if device.startswith(("region", "ndbus")) else _DEPTH
            call: Call = {"op": "dump", "path": path, "skip": _SKIP}
            walker.ask(call if everywhere else {**call, "depth": depth})
        if walker.watches and walker.happens(0.3):
            walker.ask({"op": "poll"})
        if walker.happens(0.2):
            self._look_beside()

    def _look_beside(self) -> None:
        """Look at something that does not belong to the bus, and changes with its devices."""
        walker = self._walker
        match walker.number(0, 3):
            case 0:
                walker.ask({"op": "read", "path": walker.choose(_FILES_BESIDE)})
            case 1:
                walker.ask({"op": "ls", "path": walker.choose(_FOLDERS_BESIDE)})
            case 2:
                blocks = [name for name in walker.names(_MEMORY) if name.startswith("memory")]
                walker.ask({"op": "dump", "path": f"{_MEMORY}/{walker.choose(blocks)}", "skip": _SKIP})
            case _:
                module = walker.choose(walker.names("module"))
                walker.ask({"op": "dump", "path": f"module/{module}", "skip": _SKIP_OF_MODULE})
