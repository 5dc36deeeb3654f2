"""Moves of a walk with processes that hold device nodes until they are killed, and with file systems."""

from __future__ import annotations

from nvdimmfs.formats.block_requests import (
    BLKPG,
    BLKPG_DELETE,
    BLKRRPART,
    BlockRequest,
    PartitionRange,
    PartitionRequest,
)
from nvdimmfs.lab.asking import MEMORY_END
from nvdimmfs.lab.guest_modules import MODULES_FILE
from nvdimmfs.lab.holders import EXCLUSIVE, MAPPED, OPEN
from nvdimmfs.lab.mounts import LENGTH
from nvdimmfs.lab.walker import Walker

#: How many processes there are at most.
_MOST = 4

#: The request that sets the size of a block of the page cache, and a size.
_SET_BLOCK_SIZE = BlockRequest.BLKBSZSET.value
_PAGE = "00100000"


def hold(walker: Walker) -> None:
    """Have a process hold a node, and perhaps try what it should prevent; kill another one if there are many."""
    if len(walker.held) >= _MOST:
        kill(walker)
    disks, memories = walker.disks(), walker.names("bus/dax/devices")
    others = [*walker.names("class/nd"), *walker.devices("nmem")]
    nodes = [*disks, *disks, *memories, walker.pick(others)]
    node = walker.pick([node for node in nodes if node])
    if node in memories:
        _hold_memory(walker, node)
    elif node in disks:
        walker.ask({"op": "hold", "dev": node, "way": walker.choose((OPEN, EXCLUSIVE, EXCLUSIVE))})
        if walker.happens(0.6):
            _try_disk(walker, node)
    elif node:
        walker.ask({"op": "hold", "dev": node, "way": OPEN})
        if walker.happens(0.3):
            _unload(walker, walker.choose(("libnvdimm", "nd_pmem", "nd_btt")))


def _hold_memory(walker: Walker, name: str) -> None:
    """Hold a dax device, perhaps while its driver goes, and kill the process.

    device_dax never comes back while a process has its node open: the kernel would initialise a cdev that is in use.
    Nor is a node mapped without its driver: the kernel would dereference a null pointer (check_vma,
    drivers/dax/device.c, Linux 6.1).
    """
    before = len(walker.held)
    walker.ask({"op": "hold", "dev": name, "way": walker.choose((OPEN, MAPPED))})
    if walker.happens(0.3):
        _unload(walker, "device_dax")
    if walker.happens(0.3):
        walker.write("bus/dax/drivers/device_dax/unbind", name)
        walker.ask({"op": "hold", "dev": name, "way": OPEN})
    for _ in walker.held[before:]:
        walker.ask({"op": "kill", "dev": name})
    if walker.happens(0.7):
        walker.write("bus/dax/drivers/device_dax/bind", name)


def _unload(walker: Walker, module: str) -> None:
    walker.write(MODULES_FILE, f"unload {module}")
    walker.write(MODULES_FILE, f"load {module}")


def _try_disk(walker: Walker, disk: str) -> None:
    """Make requests that need a disk, or its partitions, for themselves."""
    partition = walker.seen(f"class/block/{disk}/partition")
    whole = walker.real_path(f"class/block/{disk}").split("/")[-2] if partition else disk
    for _ in range(walker.number(1, 3)):
        target = walker.choose((disk, whole))
        match walker.number(0, 3):
            case 0:
                walker.ask({"op": "ioctl", "dev": target, "request": BLKRRPART, "hex": ""})
            case 1:
                walker.ask({"op": "ioctl", "dev": target, "request": _SET_BLOCK_SIZE, "hex": _PAGE})
            case 2:
                which = PartitionRange(0, 0, int(partition or 1)).to_bytes()
                request = PartitionRequest(BLKPG_DELETE, MEMORY_END - len(which)).to_bytes()
                walker.ask({"op": "ioctl", "dev": whole, "request": BLKPG, "hex": (request + which).hex()})
            case _:
                walker.ask({"op": "hold", "dev": target, "way": EXCLUSIVE})


def kill(walker: Walker) -> None:
    """Kill a process that holds a node."""
    if walker.held:
        walker.ask({"op": "kill", "dev": walker.choose(walker.held)})


def file_system(walker: Walker) -> None:
    """Mount a file system on a disk, try what that should prevent, and unmount it.

    Not on a disk with errors, which a file system reports in ways of its own, nor on one that refuses writes.  Nor on a
    BTT, whose map has for good in which order a file system wrote its blocks: a later disk there can show the bytes.
    """
    disks = [disk for disk in walker.disks() if _takes_file_system(walker, disk)]
    if not disks:
        return
    disk = walker.choose(disks)
    walker.ask({"op": "mount", "dev": disk})
    _try_disk(walker, disk)
    if walker.happens(0.5):
        _unload(walker, "nd_pmem")
    others = len(walker.held)
    walker.ask({"op": "hold", "dev": disk, "way": walker.choose((OPEN, EXCLUSIVE))})
    walker.ask({"op": "umount", "dev": disk})
    if len(walker.held) > others:
        walker.ask({"op": "kill", "dev": disk})


def _takes_file_system(walker: Walker, disk: str) -> bool:
    folder = f"class/block/{disk}"
    whole = walker.real_path(folder).rpartition("/")[0] if walker.seen(f"{folder}/partition") else folder
    is_sound = not walker.seen(f"{whole}/badblocks") and not walker.seen(f"{folder}/badblocks")
    is_writable = walker.seen(f"{folder}/ro") == walker.seen(f"{whole}/ro") == "0"
    return walker.size_of(disk) >= LENGTH and is_writable and is_sound and not walker.is_on(disk, "btt")
