#!/usr/bin/env python3
"""Print the results of poll(2), select(2) and epoll(7) on the files of a tree: `poll_probe.py SYS DEV`, one per line.

Needs only Python, so that it can run in a small guest, on a legacy machine in its initial state.  The recording of a
real kernel's results is tests/recordings/poll/e820.answers.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

MASK_NAMES = (
    ("IN", select.POLLIN),
    ("PRI", select.POLLPRI),
    ("OUT", select.POLLOUT),
    ("ERR", select.POLLERR),
    ("HUP", select.POLLHUP),
    ("NVAL", select.POLLNVAL),
    ("RDNORM", select.POLLRDNORM),
    ("RDBAND", select.POLLRDBAND),
    ("WRNORM", select.POLLWRNORM),
    ("WRBAND", select.POLLWRBAND),
    ("RDHUP", select.POLLRDHUP),
)
EVERYTHING = sum(bit for _, bit in MASK_NAMES)

#: The first bad sector of the disk.
BAD_SECTOR, SECTOR_SIZE = 64, 512

#: Seconds after which a wait counts as hung; no loaded machine needs that long.
WATCHDOG = 900


def names(mask: int) -> str:
    return "|".join(name for name, bit in MASK_NAMES if mask & bit) or "nothing"


def poll(fd: int, mask: int = EVERYTHING, timeout: float = 0) -> str:
    poller = select.poll()
    poller.register(fd, mask)
    return "; ".join(names(events) for _, events in poller.poll(timeout * 1000)) or "nothing"


def select_all(fd: int, timeout: float = 0) -> str:
    sets = select.select([fd], [fd], [fd], timeout)
    return "|".join(name for name, ready in zip(("read", "write", "except"), sets, strict=True) if ready) or "nothing"


def select_except(fd: int, timeout: float = 0) -> str:
    return "except" if select.select([], [], [fd], timeout)[2] else "nothing"


def epoll(fd: int, mask: int = 0, timeout: float = 0) -> str:
    with select.epoll() as poller:
        try:
            poller.register(fd, mask)
        except OSError as refusal:
            return errno.errorcode[refusal.errno or 0]
        return "; ".join(names(events) for _, events in poller.poll(timeout)) or "nothing"


def every_way(fd: int) -> str:
    return ", ".join(
        (
            f"poll {poll(fd)}",
            f"poll for nothing {poll(fd, 0)}",
            f"poll for PRI {poll(fd, select.POLLPRI)}",
            f"poll for IN {poll(fd, select.POLLIN)}",
            f"select {select_all(fd)}",
            f"epoll for nothing {epoll(fd)}",
            f"epoll for everything {epoll(fd, EVERYTHING)}",
        )
    )


@contextmanager
def opened(path: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def write(path: str, text: str) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.write(fd, text.encode())


class Disk:
    """A disk whose bad blocks can be added, and cleared by writing to it: the kernel notifies pollers of the latter."""

    def __init__(self, sysfs: str, dev: str) -> None:
        self.badblocks = f"{sysfs}/class/block/pmem0/badblocks"
        self.node = f"{dev}/pmem0"

    def spoil(self) -> None:
        write(self.badblocks, f"{BAD_SECTOR} 8\n")

    def clear(self) -> None:
        with opened(self.node, os.O_WRONLY) as fd:
            os.pwrite(fd, bytes(8 * SECTOR_SIZE), BAD_SECTOR * SECTOR_SIZE)
            os.fsync(fd)

    def event(self) -> None:
        self.spoil()
        self.clear()


def notified(disk: Disk) -> Iterator[tuple[str, str]]:
    with opened(disk.badblocks) as fd, opened(disk.badblocks) as other:
        yield "not read yet", every_way(fd)
        os.pread(fd, 4096, 0)
        yield "read", every_way(fd)
        disk.spoil()
        yield "written to", every_way(fd)
        disk.clear()
        yield "an event", every_way(fd)
        yield "again", every_way(fd)
        yield "read in part", f"{os.pread(fd, 0, 0)!r}, {every_way(fd)}"
        yield "read at 0", f"{os.pread(fd, 4096, 0)!r}, {every_way(fd)}"
        yield "by somebody else", every_way(other)
        disk.event()
        disk.event()
        yield "two events", every_way(fd)
        os.lseek(fd, 0, os.SEEK_SET)
        yield "only the offset set", every_way(fd)
        os.read(fd, 1)
        yield "one read of one byte", every_way(fd)
        disk.event()
        os.pread(fd, 4096, 1)
        yield "an event and a read at 1", every_way(fd)
        disk.spoil()
        os.pread(fd, 2, 0)
        disk.clear()
        os.pread(fd, 2, 2)
        yield "a read that goes on", every_way(fd)


def waiting(disk: Disk) -> Iterator[tuple[str, str]]:
    """The event happens while the caller waits."""
    ways = {
        "poll for nothing": lambda fd: poll(fd, 0, WATCHDOG),
        "poll for PRI": lambda fd: poll(fd, select.POLLPRI, WATCHDOG),
        "select for exceptions": lambda fd: select_except(fd, WATCHDOG),
        "epoll for nothing": lambda fd: epoll(fd, 0, WATCHDOG),
        "epoll for nothing, edges": lambda fd: epoll(fd, select.EPOLLET, WATCHDOG),
    }
    for way, wait in ways.items():
        with opened(disk.badblocks) as fd:
            os.pread(fd, 4096, 0)
            later = threading.Timer(0.05, disk.event)
            later.start()
            answer = wait(fd)
            later.join()
            yield f"waiting, {way}", answer


def edges(disk: Disk) -> Iterator[tuple[str, str]]:
    """One registration: each event is reported once, however late the attribute is read."""
    with opened(disk.badblocks) as fd, select.epoll() as poller:
        os.pread(fd, 4096, 0)
        poller.register(fd, select.EPOLLET)
        yield "registered", str([names(events) for _, events in poller.poll(0)])
        for number in ("first", "second"):
            disk.event()
            yield f"{number} edge", str([names(events) for _, events in poller.poll(WATCHDOG)])
            yield f"after the {number}", str([names(events) for _, events in poller.poll(0)])
        os.pread(fd, 4096, 0)
        yield "after a read", str([names(events) for _, events in poller.poll(0)])


def ordinary(sysfs: str) -> Iterator[tuple[str, str]]:
    pfn = f"{sysfs}/bus/nd/devices/pfn0.0"
    with opened(f"{pfn}/mode", os.O_RDWR) as fd:
        yield "an ordinary attribute", every_way(fd)
        os.pread(fd, 4096, 0)
        yield "read", every_way(fd)
        write(f"{pfn}/mode", "pmem\n")
        yield "written by somebody else", every_way(fd)
        os.pwrite(fd, b"ram\n", 0)
        yield "written", every_way(fd)
    with opened(f"{sysfs}/bus/nd/drivers/nd_pmem/bind", os.O_WRONLY) as fd:
        yield "one that can only be written", every_way(fd)
    with opened(pfn) as fd:
        yield "a directory", every_way(fd)
    with opened(f"{pfn}/mode") as fd, opened(f"{pfn}/uuid") as unread:
        os.pread(fd, 4096, 0)
        write(f"{sysfs}/bus/nd/drivers/nd_region/unbind", "region0")
        yield "removed", every_way(fd)
        yield "removed, not read", every_way(unread)


def main() -> None:
    sysfs, dev = sys.argv[1:]
    disk = Disk(sysfs, dev)
    for part in (notified(disk), waiting(disk), edges(disk), ordinary(sysfs)):
        for what, answer in part:
            print(f"{what}: {answer}")


if __name__ == "__main__":
    main()
