"""Make system calls as a 32-bit program does, on DIMMs, disks and dax devices, and print what the kernel answered.

    python3 ask_32_bits.py >> tests/recordings/calls/programs-of-32-bits.jsonl

It needs two ranges of legacy memory (memmap=512M!4G,256M!6G), root, x86-64 and nothing but Python, because it runs in
a guest as well as in a sandbox.  A line is `[WHAT, ANSWER]`: what the call returned, or the name of its errno, and what
it wrote.
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import struct
from pathlib import Path

PAGE, MIB = 4096, 1 << 20
SYS, DEV = Path("/sys"), Path("/dev")
BUS = SYS / "bus/nd"

# System calls of i386 (asm/unistd_32.h).
READ, CLOSE, IOCTL, OLD_MMAP, MUNMAP, MMAP2, MADVISE, DELETE_MODULE = 3, 6, 54, 90, 91, 192, 219, 129

READ_WRITE, SHARED, PRIVATE, VALIDATE, FIXED, SYNC = 3, 1, 2, 3, 0x10, 0x80000
HWPOISON = 100

#: A function that loads seven words at an address into eax, ebx, ecx, edx, esi, edi and ebp, and executes int 0x80.
CODE = bytes.fromhex("5355 4989f8 418b00 418b5804 418b4808 418b500c 418b7010 418b7814 418b6818 cd80 5d5b c3")

BUS_REQUESTS = {"ARS_CAP": 0xC0204E01, "CLEAR_ERROR": 0xC0204E04, "CALL": 0xC0404E0A, "unknown": 0xC0044EFF}
DISK_REQUESTS = {
    "BLKGETSIZE": 0x1260,
    "BLKGETSIZE64": 0x80041272,
    "BLKGETSIZE64 of 64 bits": 0x80081272,
    "BLKBSZGET": 0x80041270,
    "BLKBSZGET of 64 bits": 0x80081270,
    "BLKBSZSET of 64 bits": 0x40081271,
    "BLKSSZGET": 0x1268,
    "BLKPBSZGET": 0x127B,
    "BLKIOMIN": 0x1278,
    "BLKALIGNOFF": 0x127A,
    "BLKRAGET": 0x1263,
    "BLKROGET": 0x125E,
    "BLKROTATIONAL": 0x127E,
    "HDIO_GETGEO": 0x301,
    "FIONREAD": 0x541B,
    "LOOP_GET_STATUS64": 0x4C05,
}


class Program:
    """Makes calls, with memory below 4 GiB (MAP_32BIT)."""

    def __init__(self):
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
        start = libc.mmap(None, 3 * PAGE, 7, 0x62, -1, 0)
        libc.munmap(ctypes.c_void_p(start + 2 * PAGE), PAGE)
        ctypes.memmove(start, CODE, len(CODE))
        self._call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(start)
        self.memory = start + PAGE
        self.end = start + 2 * PAGE

    def call(self, *words):
        """What it returned, without a sign; or the name of the errno."""
        words = [word & 0xFFFFFFFF for word in words]
        result = self._call((ctypes.c_uint32 * 7)(*words, *[0] * (7 - len(words)))) & 0xFFFFFFFF
        return errno.errorcode[(1 << 32) - result] if result >= 0xFFFFF001 else result

    def ask(self, file, request, argument=b"", size=64):
        """The answer of an ioctl, and the memory that its argument points to, if that was changed."""
        before = argument.ljust(size, b"\xaa")
        ctypes.memmove(self.memory, before, size)
        answer = self.call(IOCTL, file, request, self.memory)
        memory = ctypes.string_at(self.memory, size)
        return [answer, *([memory.hex().rstrip("a")] if memory != before else [])]


def buses(program):
    """ioctls on a bus, and arguments that are not there in part."""
    file = os.open(DEV / "ndctl0", os.O_RDWR)
    for name, request in BUS_REQUESTS.items():
        yield f"ndctl0: {name}", program.ask(file, request, bytes(32))
        yield f"ndctl0: {name} at the end of memory", program.call(IOCTL, file, request, program.end - 4)
    yield "ndctl0: mmap2", program.call(MMAP2, 0, PAGE, READ_WRITE, SHARED, file, 0)
    os.close(file)


def disks(program):
    """ioctls on a disk, with a new partition."""
    file = os.open(DEV / "pmem0", os.O_RDWR)
    for name, request in DISK_REQUESTS.items():
        yield f"pmem0: {name}", program.ask(file, request, struct.pack("<Q", 4096) if "SET" in name else b"")
    place = program.memory + 64
    for what, operation, number in (("adds", 1, 1), ("deletes", 2, 1), ("deletes", 2, 7), ("does nothing", 9, 1)):
        ctypes.memmove(place, struct.pack("<qqi132x", MIB, MIB, number), 152)
        argument = struct.pack("<iiiI", operation, 0, 152, place)
        yield f"pmem0: BLKPG {what} {number}", program.ask(file, 0x1269, argument, size=16)
        yield "there is a partition", (SYS / "class/block/pmem0p1").exists()
    yield "pmem0: BLKPG of nothing", program.ask(file, 0x1269, struct.pack("<iiiI", 1, 0, 152, 16), size=16)
    yield "pmem0: BLKPG at the end of memory", program.call(IOCTL, file, 0x1269, program.end - 16)
    yield "pmem0: BLKPG behind the end", program.call(IOCTL, file, 0x1269, program.end - 12)
    os.close(file)


def make_dax():
    """Put the second namespace into service as a dax device."""
    (BUS / "drivers/nd_pmem/unbind").write_text("namespace1.0")
    for name, text in (
        ("uuid", "00000001-1111-2222-3333-000000000000"),
        ("mode", "pmem"),
        ("namespace", "namespace1.0"),
    ):
        (BUS / "devices/dax1.0" / name).write_text(text)
    (BUS / "drivers/dax_pmem/bind").write_text("dax1.0")


def mapped(program, file, length, flags=SHARED, offset=0, at=0):
    """How a mapping ended: at a multiple of 2 MiB, or not; it goes again."""
    address = program.call(MMAP2, at, length, READ_WRITE, flags, file, offset // PAGE)
    if not isinstance(address, int):
        return address
    first = ctypes.string_at(address, 4)
    ctypes.memmove(address, b"mark", 4)
    program.call(MUNMAP, address, length)
    return ["aligned" if address % (2 * MIB) == 0 else "not aligned", first.decode("latin-1")]


def mappings(program):
    """Mappings of a dax device; the descriptor stays that of a character device."""
    make_dax()
    file = os.open(DEV / "dax1.0", os.O_RDWR)
    for offset in (0, 2 * MIB, 100 * MIB):
        os.close(os.open("/dev/null", os.O_RDONLY))
        yield f"dax1.0: mmap2 at {offset >> 20}M", mapped(program, file, 2 * MIB, offset=offset)[:1]
        yield f"dax1.0: mmap2 at {offset >> 20}M, again", mapped(program, file, 2 * MIB, offset=offset)
    yield "dax1.0: mmap2, MAP_SYNC", mapped(program, file, 2 * MIB, VALIDATE | SYNC)
    yield "dax1.0: mmap2, MAP_PRIVATE", mapped(program, file, 2 * MIB, PRIVATE)
    yield "dax1.0: mmap2 of 4K", mapped(program, file, PAGE)
    yield "dax1.0: mmap2 of 0", mapped(program, file, 0)
    yield "dax1.0: mmap2 of 3.75G", mapped(program, file, 0xF0000000)
    yield "dax1.0: mmap2, fixed", mapped(program, file, 2 * MIB, SHARED | FIXED, at=0x60000000)
    yield "dax1.0: mmap2, fixed, not aligned", mapped(program, file, 2 * MIB, SHARED | FIXED, at=0x60001000)
    yield "dax1.0: read", program.call(READ, file, program.memory, 4)
    yield "dax1.0: lseek", os.lseek(file, 0, os.SEEK_END)
    yield "dax1.0: ioctl", program.ask(file, BUS_REQUESTS["ARS_CAP"])
    address = program.call(MMAP2, 0, 2 * MIB, READ_WRITE, SHARED, file, 0)
    yield "dax1.0: an error that is injected", poisoned(program, address)
    (SYS / "bus/dax/drivers/device_dax/unbind").write_text("dax1.0")
    yield "dax1.0: mmap2 without a driver", mapped(program, file, 2 * MIB)
    os.close(file)


def poisoned(program, address):
    """The signal that a child gets."""
    child = os.fork()
    if not child:
        with contextlib.suppress(OSError):
            os._exit(100 + (program.call(MADVISE, address, PAGE, HWPOISON) != 0))
        os._exit(1)
    _, status = os.waitpid(child, 0)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def modules(program):
    """Modules that are in use or do not exist."""
    for name in ("libnvdimm", "nosuch"):
        ctypes.memmove(program.memory, name.encode() + b"\0", len(name) + 1)
        yield f"delete_module {name}", program.call(DELETE_MODULE, program.memory, os.O_NONBLOCK)
    yield "delete_module of nothing", program.call(DELETE_MODULE, 16, os.O_NONBLOCK)


def main():
    program = Program()
    for topic in (buses, disks, mappings, modules):
        for what, answer in topic(program):
            print(json.dumps([what, answer]), flush=True)


if __name__ == "__main__":
    main()
