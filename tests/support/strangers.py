#!/usr/bin/env python3
"""Another user of a mount, who keeps hold of something in it: `strangers.py POSITION [PLACE]`, in the mount's root.

It is run by root, becomes an ordinary user, takes its position, prints `ready`, and stays until its stdin is closed or
it is killed.  The positions that need a right have it: `GRANTS` is what root must permit before.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
import signal
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import attrs
from stuck_memory import SIZE, StuckMemory, libc, list_into

#: The user id of `nobody`, on Debian and elsewhere.
USER = 65534

#: The modes that root sets before, by path: so strangers may write to an attribute and to a disk.
GRANTS = {"sys/bus/nd/devices/region1/uevent": 0o666, "dev/pmem0": 0o666, "dev/pmem1": 0o666}

#: System calls of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
_IO_SETUP, _IO_SUBMIT, _VMSPLICE = 206, 209, 278
#: IOCB_CMD_PREAD (include/uapi/linux/aio_abi.h) and struct iocb.
_PREAD = 0
_IOCB = struct.Struct("=QIIHhIQQqQII")

_kept: list[object] = []


@attrs.frozen
class Position:
    """What a stranger does.

    Attributes:
        act: does it; may return what is left to do once it is ready.
        place: where in a machine.
        waits: whether the kernel then waits in the middle of the call, until the stranger's memory comes.
        as_root: whether root does it.
    """

    act: Callable[[Path, StuckMemory], Callable[[], None] | None]
    place: str
    waits: bool = True
    as_root: bool = False


def lists(place: Path, memory: StuckMemory) -> None:
    """Lists a directory into memory that never comes."""
    list_into(os.open(place, os.O_RDONLY | os.O_DIRECTORY), memory)


def reads(place: Path, memory: StuckMemory) -> None:
    """Reads a file into memory that never comes."""
    libc.read(os.open(place, os.O_RDONLY), ctypes.c_void_p(memory.address), SIZE)


def asks(place: Path, memory: StuckMemory) -> None:
    """Has an extended attribute written to memory that never comes."""
    libc.getxattr(os.fsencode(place), b"user.nvdimmfs.daemon", ctypes.c_void_p(memory.address), SIZE)


def writes(place: Path, memory: StuckMemory) -> None:
    """Writes from memory that never comes."""
    libc.write(os.open(place, os.O_WRONLY), ctypes.c_void_p(memory.address), 4096)


def maps(place: Path, memory: StuckMemory) -> None:
    """Maps a disk, changes it without end, and reads it into memory that never comes."""
    disk = os.open(place, os.O_RDWR)
    pages = mmap.mmap(disk, 1 << 20)
    _kept.append(pages)

    def change() -> None:
        while True:
            for page in range(0, len(pages), 4096):
                pages[page] ^= 1

    threading.Thread(target=change, daemon=True).start()
    libc.read(disk, ctypes.c_void_p(memory.address), SIZE)


def polls(place: Path, memory: StuckMemory) -> None:
    """Waits in poll(2) for each file that it can open, and reads none."""
    poll = select.poll()
    for folder, _, names in os.walk(place):
        for name in names:
            path = Path(folder, name)
            if path.stat().st_mode & 0o004:
                poll.register(os.open(path, os.O_RDONLY), select.POLLERR | select.POLLPRI)
    _kept.append(poll)
    threading.Thread(target=poll.poll, daemon=True).start()


def stops(place: Path, memory: StuckMemory) -> Callable[[], None]:
    """Stops itself in the middle of listing directories, once it is ready."""
    for folder, _, _ in os.walk(place):
        listing = os.scandir(folder)
        next(listing, None)
        _kept.append(listing)
    return lambda: os.kill(os.getpid(), signal.SIGSTOP)


def fills(place: Path, memory: StuckMemory) -> None:
    """Moves a disk's pages into a pipe that nobody empties."""
    reader, writer = os.pipe()
    _kept.append(reader)
    disk = os.open(place, os.O_RDONLY)
    threading.Thread(target=lambda: os.splice(disk, writer, 1 << 24), daemon=True).start()
    threading.Thread(target=lambda: os.sendfile(writer, disk, 0, 1 << 24), daemon=True).start()


def submits(place: Path, memory: StuckMemory) -> None:
    """Submits an asynchronous direct read into memory that never comes."""
    context = ctypes.c_ulong(0)
    libc.syscall(_IO_SETUP, 4, ctypes.byref(context))
    disk = os.open(place, os.O_RDONLY | os.O_DIRECT)
    block = ctypes.create_string_buffer(_IOCB.pack(0, 0, 0, _PREAD, 0, disk, memory.address, SIZE, 0, 0, 0, 0))
    blocks = (ctypes.c_void_p * 1)(ctypes.addressof(block))
    libc.syscall(_IO_SUBMIT, context, ctypes.c_long(1), blocks)


def gives(place: Path, memory: StuckMemory) -> None:
    """Writes the pages of a pipe to a disk, which it filled with memory that never comes."""
    reader, writer = os.pipe()
    disk = os.open(place, os.O_RDWR)
    vector = struct.pack("QQ", memory.address, 4096)
    threading.Thread(target=lambda: os.splice(reader, disk, 4096), daemon=True).start()
    libc.syscall(_VMSPLICE, writer, vector, ctypes.c_ulong(1), 0)


def holds(place: Path, memory: StuckMemory) -> None:
    """Keeps files and directories open, locked and as its working directory."""
    for folder, _, names in os.walk(place):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            if path.stat().st_mode & 0o004:
                opened = os.open(path, os.O_RDONLY)
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.chdir(place)


def stalls(place: Path, memory: StuckMemory) -> None:
    """Asks for the machine's events on a control channel, and acknowledges none."""
    channel = os.open(place, os.O_RDWR)
    os.write(channel, b'{"Watch": {"directories": ["", "bus"]}}')


#: The positions, by name.
POSITIONS = {
    "lists": Position(lists, "sys/bus/nd/devices"),
    "reads": Position(reads, "sys/bus/nd/devices/region0/size"),
    "asks": Position(asks, "."),
    "writes": Position(writes, "sys/bus/nd/devices/region1/uevent"),
    "overwrites": Position(writes, "dev/pmem0"),
    "maps": Position(maps, "dev/pmem0"),
    "polls": Position(polls, "sys/bus/nd/devices/region0/", waits=False),
    "stops": Position(stops, "sys", waits=False),
    "fills": Position(fills, "dev/pmem0", waits=False),
    "submits": Position(submits, "dev/pmem0"),
    "gives": Position(gives, "dev/pmem1"),
    "holds": Position(holds, "sys/bus/nd/devices/region0/", waits=False),
    "stalls": Position(stalls, "sys/kernel/debug/nvdimmfs/control", waits=False, as_root=True),
}


def main() -> None:
    position = POSITIONS[sys.argv[1]]
    place = Path(sys.argv[2] if len(sys.argv) > 2 else position.place)
    memory = StuckMemory()
    if not position.as_root:
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)
    afterwards = None
    if position.waits:
        threading.Thread(target=position.act, args=(place, memory), daemon=True).start()
        memory.wait_until_touched()
    else:
        afterwards = position.act(place, memory)
    print("ready", flush=True)
    if afterwards is not None:
        afterwards()
    sys.stdin.read()
    memory.release()
    os._exit(0)


if __name__ == "__main__":
    main()
