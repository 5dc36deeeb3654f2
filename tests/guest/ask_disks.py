#!/usr/bin/env python3
"""Make system calls on the nodes of disks and character devices, and print each with its answer, one JSON array a line.

    ask_disks.py disks          of a plain disk, a partition, a disk in memory mode and a BTT
    ask_disks.py characters     of a bus and a DIMM

In a guest with a real kernel, and in a sandbox.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import select
import stat
import struct
import sys
import time
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
libc.lseek.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_int)
libc.lseek.restype = ctypes.c_long
for function in (libc.pread, libc.pwrite):
    function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long)
    function.restype = ctypes.c_ssize_t

PAGE = 4096
TOP = (1 << 63) - 1
MODES = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR, "ndelay": os.O_RDWR | os.O_NONBLOCK}
WHENCES = (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE, 9)
FLAGS = (os.O_DIRECT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NONBLOCK, os.O_CREAT, os.O_DIRECTORY)

#: Requests that any file answers before its driver does: FIGETBSZ, FIEMAP, FICLONE, FIONBIO, FIONCLEX, FIOCLEX and
#: FIOASYNC.
OF_ANY_FILE = (0x2, 0xC020660B, 0x40049409, 0x5421, 0x5450, 0x5451, 0x5452)


#: Requests that 32-bit programs make.
OF_32_BITS = {
    "BLKBSZGET": 0x80041270,
    "BLKGETSIZE64": 0x80041272,
    "BLKGETSIZE": 0x1260,
    "BLKRAGET": 0x1263,
    "BLKSSZGET": 0x1268,
    "BLKPBSZGET": 0x127B,
    "LOOP_GET_STATUS64": 0x4C05,
}
NODES = {
    "disks": ("/dev/pmem0", "/dev/pmem0p1", "/dev/pmem1", "/dev/pmem2s"),
    "characters": ("/dev/ndctl0", "/dev/nmem0"),
}
ND = Path("/sys/bus/nd")
BLKRRPART = 0x125F


def prepare():
    """Give the first of three disks a partition, and put a pfn device and a BTT in the place of the others."""
    table = bytes(446) + struct.pack("<4xB3xII", 0x83, 2049, 20480)
    disk = os.open("/dev/pmem0", os.O_RDWR)
    os.pwrite(disk, table.ljust(510, b"\0") + b"\x55\xaa", 0)
    fcntl.ioctl(disk, BLKRRPART)
    os.close(disk)
    rebind(1, "pfn1.0", mode="pmem", align="2097152")
    rebind(2, "btt2.0", sector_size="4096")
    time.sleep(0.3)  # the guest's workers


def rebind(region, name, **values):
    (ND / "drivers/nd_pmem/unbind").write_text(f"namespace{region}.0")
    values |= {"uuid": f"0000000{region}-1111-2222-3333-000000000000", "namespace": f"namespace{region}.0"}
    for attribute, value in values.items():
        (ND / "devices" / name / attribute).write_text(value)
    (ND / "drivers/nd_pmem/bind").write_text(name)


def call(function, *arguments):
    """What a function of Python's returns, or the name of an errno; of bytes their number."""
    try:
        result = function(*arguments)
    except OSError as failure:
        return errno.errorcode[failure.errno]
    return len(result) if isinstance(result, bytes) else result


def raw(function, *arguments):
    """What a function of the C library returns, for numbers that Python would refuse."""
    result = function(*arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else result


def ask(file, request):
    """The answer to an ioctl with memory; what the memory then has, if that changed."""
    memory = ctypes.create_string_buffer(b"\xaa" * 512, 512)
    result = raw(libc.ioctl, file, request, ctypes.addressof(memory))
    return result if memory.raw == b"\xaa" * 512 else [result, memory.raw.hex().rstrip("a")]


def status(file):
    """All of it but st_blksize, which newer hosts take from a loop device (bdev_statx, block/bdev.c, Linux 6.15)."""
    found = os.fstat(file)
    return [stat.filemode(found.st_mode), found.st_size, found.st_nlink, found.st_blocks]


class Program32:
    """Makes ioctl(2) as a 32-bit program does, by int 0x80 in code and with memory below 4 GiB (MAP_32BIT)."""

    CODE = bytes.fromhex("53 b836000000 89fb 89f1 cd80 5b c3")  # ioctl's number in eax; ebx, ecx and edx

    def __init__(self):
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
        start = libc.mmap(None, 2 * PAGE, 7, 0x62, -1, 0)
        ctypes.memmove(start, self.CODE, len(self.CODE))
        self._call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)(start)
        self._memory = start + PAGE

    def ask(self, file, request):
        ctypes.memset(self._memory, 0xAA, 32)
        result = self._call(file, request, self._memory)
        return [
            errno.errorcode[-result] if result < 0 else result,
            ctypes.string_at(self._memory, 32).hex().rstrip("a"),
        ]


def polled(file):
    poll = select.poll()
    poll.register(file, select.POLLIN | select.POLLPRI | select.POLLERR | select.POLLOUT)
    return [events for _, events in poll.poll(0)]


def opened_again(node, flags):
    return call(lambda: os.close(os.open(node, os.O_RDWR | flags)))


def disks(node):
    """Reads, writes and positions, at and past the end, and where offsets wrap."""
    file = os.open(node, os.O_RDWR)
    direct = os.open(node, os.O_RDWR | os.O_DIRECT)
    size = os.lseek(file, 0, os.SEEK_END)
    yield "status", status(file)
    yield "size", size
    pages = mmap.mmap(-1, 4 * PAGE)
    memory = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    for kind, descriptor in (("", file), (", direct", direct)):
        yield from ((what + kind, answer) for what, answer in transfers(descriptor, size, memory))
        yield from ((what + kind, answer) for what, answer in positions(descriptor, size))
    yield from allocations(file, size)
    for name in ("fsync", "fdatasync"):
        yield name, call(getattr(os, name), file)
    yield "ftruncate", call(os.ftruncate, file, 0)
    yield "flock", call(fcntl.flock, file, fcntl.LOCK_EX)
    yield "poll", polled(file)
    for request in OF_ANY_FILE:
        yield f"ioctl {request:#x}", ask(file, request)
    program = Program32()
    for name, request in OF_32_BITS.items():
        yield f"{name} of a 32-bit program", program.ask(file, request)
    os.close(direct)
    os.close(file)
    for flags in FLAGS:
        yield f"open {flags:#x}", opened_again(node, flags)


def places(size):
    """Offsets, with a name that does not depend on the size."""
    for place in (-8192, -PAGE, -1, 0, 1, PAGE):
        yield f"size{place:+}", size + place
    for place in (0, 1, 1 << 40, 1 << 62, TOP - 8191, TOP - 4095, TOP, -1, -PAGE, -1 - TOP):
        yield str(place), place


def transfers(file, size, memory):
    for name, place in places(size):
        for length in (0, 1, 512, PAGE, 8192, 1 << 31, 1 << 62, (1 << 64) - 1):
            if length <= 8192 or place >= size - 8192:  # the rest depends on how much memory there is
                yield f"pread {length} at {name}", raw(libc.pread, file, memory, length, place)
            if length <= 8192:
                yield f"pwrite {length} at {name}", raw(libc.pwrite, file, memory, length, place)


def positions(file, size):
    for name, place in places(size):
        for whence in WHENCES:
            os.lseek(file, PAGE, os.SEEK_SET)
            yield f"lseek {name}, {whence}", raw(libc.lseek, file, place, whence)


def allocations(file, size):
    for mode in (0, 1, 2, 3, 0x10, 0x11, 8, 0x20, 0x40):
        ranges = [("0", 0, PAGE), ("0", 0, 0), ("4096", PAGE, 512), ("1", 1, PAGE), ("-1", -1, PAGE)]
        for name, start, length in [*ranges, ("size-4096", size - PAGE, 8192), ("size", size, PAGE)]:
            yield f"fallocate {mode:#x}, {name}+{length}", raw(libc.fallocate, file, mode, start, length)


def characters(node):
    for mode, flags in MODES.items():
        file = os.open(node, flags)
        yield from ((f"{what}, {mode}", answer) for what, answer in character(file))
        os.close(file)
    for flags in FLAGS:
        yield f"open {flags:#x}", opened_again(node, flags)


def character(file):
    yield "status", [*status(file), os.fstat(file).st_blksize]
    yield "read", call(os.read, file, 10)
    yield "read nothing", call(os.read, file, 0)
    yield "write", call(os.write, file, b"x")
    yield "pread", call(os.pread, file, 10, 0)
    yield "pwrite", call(os.pwrite, file, b"x", 0)
    yield "readv", call(os.readv, file, [bytearray(8)])
    yield "writev", call(os.writev, file, [b"x"])
    for place in (0, 5, -1, 1 << 40):
        for whence in WHENCES:
            yield f"lseek {place}, {whence}", raw(libc.lseek, file, place, whence)
    yield "poll", polled(file)
    yield "isatty", os.isatty(file)
    yield "fsync", call(os.fsync, file)
    yield "ftruncate", call(os.ftruncate, file, 0)
    yield "fallocate", raw(libc.fallocate, file, 0, 0, PAGE)
    yield "flock", call(fcntl.flock, file, fcntl.LOCK_EX)
    yield "sendfile", call(os.sendfile, file, file, 0, PAGE)
    for request in OF_ANY_FILE:
        yield f"ioctl {request:#x}", ask(file, request)


if __name__ == "__main__":
    topic = sys.argv[1]
    if topic == "disks":
        prepare()
    for node in NODES[topic]:
        for what, answer in globals()[topic](node):
            print(json.dumps([f"{node}: {what}", answer]), flush=True)
