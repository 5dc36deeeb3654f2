"""Map dax devices, sensibly or not, and print what the kernel answered, a call a line.

    python3 ask_mappings.py >> tests/recordings/calls/mappings.jsonl

It needs two ranges of legacy memory (memmap=512M!4G,256M!6G), root and nothing but Python, because it runs in a guest
as well as in a sandbox.  A line is `[WHAT, ANSWER]`: "ok", bytes, the name of an errno, or that of the signal that a
fault leads to.
"""

import ctypes
import errno
import json
import os
import signal
import subprocess
from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20
SYS, DEV = Path("/sys"), Path("/dev")
BUS = SYS / "bus/nd"
DEVICE_DAX = SYS / "bus/dax/drivers/device_dax"

READ, WRITE, READ_WRITE = 1, 2, 3
SHARED, PRIVATE, VALIDATE, FIXED, ANONYMOUS, GROWSDOWN = 1, 2, 3, 0x10, 0x20, 0x100
LOCKED, POPULATE, NORESERVE, HUGETLB, SYNC, NOREPLACE = 0x2000, 0x8000, 0x4000, 0x40000, 0x80000, 0x100000
UNKNOWN = 0x400000
HWPOISON, SOFT_OFFLINE = 100, 101

#: The number of delete_module(2) on x86-64 (asm/unistd_64.h).
DELETE_MODULE = 176

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_long
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class MappingError(Exception):
    """A call failed; the message is the name of the errno."""


def mmap(length, flags=SHARED, offset=0, at=0, protection=READ_WRITE, file=-1):
    """The address of a mapping."""
    address = libc.mmap(at, length, protection, flags, file, offset)
    if address == -1:
        raise MappingError(errno.errorcode[ctypes.get_errno()])
    return address


def munmap(address, length):
    libc.munmap(address, length)


def in_child(act):
    """ "ok", or the signal that ended a child that did something."""
    child = os.fork()
    if not child:
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "ok"


def read(address, length=1):
    return ctypes.string_at(address, length)


def write(address, data):
    ctypes.memmove(address, data, len(data))


def faults(address):
    """What a read and a write at an address lead to."""
    return [in_child(lambda: read(address)), in_child(lambda: write(address, read(address)))]


def store(path, text):
    """Write to an attribute."""
    path.write_bytes(text.encode())


def make_dax(region, align):
    """Put a namespace into service as a dax device."""
    dax, namespace = BUS / f"devices/dax{region}.0", f"namespace{region}.0"
    store(BUS / "drivers/nd_pmem/unbind", namespace)
    store(dax / "uuid", f"0000000{region}-1111-2222-3333-000000000000")
    store(dax / "align", str(align))
    store(dax / "mode", "pmem")
    store(dax / "namespace", namespace)
    store(BUS / "drivers/dax_pmem/bind", dax.name)


class Device:
    """An open dax device.

    Attributes:
        align: its alignment.
        file: the descriptor.
    """

    def __init__(self, name, flags=os.O_RDWR):
        self.name = name
        folder = SYS / "bus/dax/devices" / name
        self.align, self.size = (int((folder / each).read_text()) for each in ("align", "size"))
        self.file = os.open(DEV / name, flags)

    def map(self, length=0, flags=SHARED, offset=0, at=0, protection=READ_WRITE):
        return mmap(length or self.align, flags, offset, at, protection, self.file)

    def answer(self, *arguments, **more):
        """What a call of mmap(2) answers; what it maps is unmapped again."""
        try:
            address = self.map(*arguments, **more)
        except MappingError as failure:
            return str(failure)
        munmap(address, (arguments or (0,))[0] or self.align)
        return "ok" if address % self.align == 0 else "not aligned"


def free_place(align):
    """An aligned address at which nothing is mapped."""
    size = 8 * max(align, 2 * MIB)
    address = mmap(size, PRIVATE | ANONYMOUS | NORESERVE)
    munmap(address, size)
    return address + -address % max(align, 2 * MIB)


def calls(device):
    """Lengths, offsets, flags, protections, places."""
    align, size = device.align, device.size
    lengths = {"0": -1, "1": 1, "4K": 4 * KIB, "2M - 1": 2 * MIB - 1, "2M": 2 * MIB, "2M + 4K": 2 * MIB + 4 * KIB}
    lengths |= {"all": size, "more than all": size + 2 * MIB, "too much": 1 << 48}
    for what, length in lengths.items():
        yield f"length {what}", device.answer(length) if length > 0 else zero_length(device)
    offsets = {"1": 1, "4K": 4 * KIB, "1M": MIB, "2M": 2 * MIB, "the end": size, "behind the end": size + 2 * MIB}
    for what, offset in offsets.items():
        yield f"offset {what}", device.answer(offset=offset)
    yield "offset below 0", device.answer(offset=-align)
    combinations = {
        "shared": SHARED,
        "private": PRIVATE,
        "none": 0,
        "validate": VALIDATE,
        "validate, sync": VALIDATE | SYNC,
        "shared, sync": SHARED | SYNC,
        "private, sync": PRIVATE | SYNC,
        "shared, unknown": SHARED | UNKNOWN,
        "validate, unknown": VALIDATE | UNKNOWN,
        "validate, noreplace": VALIDATE | NOREPLACE,
        "shared, anonymous": SHARED | ANONYMOUS,
        "shared, hugetlb": SHARED | HUGETLB,
        "shared, locked": SHARED | LOCKED,
        "validate, populate, sync": VALIDATE | POPULATE | SYNC,
        "shared, growsdown": SHARED | GROWSDOWN,
    }
    for what, flags in combinations.items():
        yield f"flags {what}", device.answer(flags=flags)
    yield "private, 4K", device.answer(4 * KIB, flags=PRIVATE)
    yield "validate, unknown, 4K", device.answer(4 * KIB, flags=VALIDATE | UNKNOWN)
    for protection in (0, READ, WRITE):
        yield f"protection {protection}", device.answer(protection=protection)
    for mode in ("O_RDONLY", "O_WRONLY", "O_PATH"):
        other = Device(device.name, getattr(os, mode))
        for protection in (READ, READ_WRITE):
            for what, flags in (("shared", SHARED), ("private", PRIVATE)):
                yield f"{mode}, {what}, {protection}", other.answer(flags=flags, protection=protection)
        os.close(other.file)
    place = free_place(align)
    for what, distance in (("aligned", 0), ("+ 1", 1), ("+ 4K", 4 * KIB), ("+ 1M", MIB)):
        yield f"at {what}", device.answer(at=place + distance)
        yield f"fixed at {what}", device.answer(at=place + distance, flags=SHARED | FIXED)
    yield "fixed at a free place", device.answer(at=place, flags=SHARED | NOREPLACE)
    yield "fixed, offset 4K", device.answer(at=place, flags=SHARED | FIXED, offset=4 * KIB)


def zero_length(device):
    address = libc.mmap(0, 0, READ_WRITE, SHARED, device.file, 0)
    return errno.errorcode[ctypes.get_errno()] if address == -1 else "ok"


def memory(device):
    """What is seen through mappings, and where there is nothing to be seen."""
    align, size = device.align, device.size
    address = device.map(2 * align, offset=size - align)
    yield "the last page", faults(address)
    yield "behind the end", faults(address + align)
    munmap(address, 2 * align)
    first, second = device.map(2 * align), device.map(2 * align, flags=VALIDATE | SYNC)
    write(first + 100, b"hello")
    yield "another mapping sees", read(second + 100, 5).decode()
    yield "a child writes", in_child(lambda: write(first + align, b"child"))
    yield "its parent sees", read(second + align, 5).decode()
    yield "st_mode after mmap", oct(os.fstat(device.file).st_mode & 0o170000)
    os.close(device.file)
    yield "after close", read(second + 100, 5).decode()
    munmap(first, 2 * align)
    munmap(second, 2 * align)


def poison(device):
    """Errors that are injected."""

    def advise(address, advice, length=4 * KIB):
        return "ok" if libc.madvise(address, length, advice) == 0 else errno.errorcode[ctypes.get_errno()]

    address = device.map(2 * device.align)
    write(address, b"poison")
    yield "soft offline", advise(address, SOFT_OFFLINE)
    yield "soft offline, not aligned", advise(address + 1, SOFT_OFFLINE)
    yield "poison", in_child(lambda: advise(address, HWPOISON))
    yield (
        "poison, caught",
        caught(lambda: advise(address + device.align + 4 * KIB * (device.align > 4 * KIB), HWPOISON), address),
    )
    yield "afterwards", read(address, 6).decode()
    munmap(address, 2 * device.align)


def caught(act, base):
    """What a handler of SIGBUS is told in a child: code, address from a base, logarithm of the granularity."""

    class Info(ctypes.Structure):
        _fields_ = (
            ("signo", ctypes.c_int),
            ("errno", ctypes.c_int),
            ("code", ctypes.c_int),
            ("address", ctypes.c_void_p),
            ("granularity", ctypes.c_short),
        )

    class Action(ctypes.Structure):
        _fields_ = (
            ("handler", ctypes.c_void_p),
            ("mask", ctypes.c_ulong * 16),
            ("flags", ctypes.c_int),
            ("restorer", ctypes.c_void_p),
        )

    reading, writing = os.pipe()

    def handle(_signal, info, _context):
        told = info.contents
        os.write(writing, json.dumps([told.code, (told.address or 0) - base, told.granularity]).encode())
        os._exit(0)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(Info), ctypes.c_void_p)(handle)

    def child():
        action = Action(ctypes.cast(handler, ctypes.c_void_p), flags=4)  # SA_SIGINFO
        libc.sigaction(signal.SIGBUS, ctypes.byref(action), None)
        os.write(writing, json.dumps(act()).encode())

    in_child(child)
    os.close(writing)
    with os.fdopen(reading) as told:
        return json.loads(told.read())


def drivers(name):
    """A driver that is unbound and bound while a mapping is there."""
    device = Device(name)
    address = device.map()
    write(address, b"driver")
    store(DEVICE_DAX / "unbind", name)
    yield "unbound, fault", faults(address)
    yield "unbound, mmap", device.answer()
    yield "unbound, mmap of 4K", device.answer(4 * KIB)
    yield "unbound, private", device.answer(flags=PRIVATE)
    yield "unbound, unknown flag", device.answer(flags=VALIDATE | UNKNOWN)
    store(DEVICE_DAX / "bind", name)
    yield "bound again, mmap", device.answer()
    store(BUS / "drivers/dax_pmem/unbind", name)
    yield "gone, fault", faults(address)
    yield "gone, mmap", device.answer()
    store(BUS / "drivers/dax_pmem/bind", name)
    yield "there again, old mapping", faults(address)
    yield "there again, mmap of the old file", device.answer()
    new = Device(name)
    yield "there again, bytes", read(new.map(), 6).decode()


def unload(module):
    """What delete_module(2) with O_NONBLOCK answers."""
    result = libc.syscall(DELETE_MODULE, module.encode(), os.O_NONBLOCK)
    return errno.errorcode[ctypes.get_errno()] if result else "ok"


def modules():
    """Modules whose device nodes are in use.  Those of both disks are those of the machine."""
    disk = os.open(DEV / "pmem0", os.O_RDONLY)
    yield "pmem0 is open, nd_pmem", unload("nd_pmem")
    store(BUS / "drivers/nd_pmem/unbind", "namespace0.0")
    yield "pmem0 has gone, but is open, nd_pmem", unload("nd_pmem")
    os.close(disk)
    store(BUS / "drivers/nd_pmem/bind", "namespace0.0")
    for mode in ("O_RDONLY", "O_RDWR"):
        device = Device("dax1.0", getattr(os, mode))
        yield f"dax1.0 is open, {mode}, device_dax", unload("device_dax")
        os.close(device.file)
    device = Device("dax1.0")
    address = device.map()
    os.close(device.file)
    yield "dax1.0 is mapped, device_dax", unload("device_dax")
    munmap(address, device.align)
    yield "nothing is in use, device_dax", unload("device_dax")
    yield "nothing is in use, dax_pmem", unload("dax_pmem")


def main():
    make_dax(1, 4 * KIB)
    for what, answer in modules():
        print(json.dumps([what, answer]), flush=True)
    for module in ("device_dax", "dax_pmem"):
        subprocess.run(["modprobe", module], check=True)
    make_dax(0, 2 * MIB)
    for name in ("dax1.0", "dax0.0"):
        for topic in (calls, memory, poison):
            for what, answer in topic(Device(name)):
                print(json.dumps([f"{name}: {what}", answer]), flush=True)
    for what, answer in drivers("dax0.0"):  # last: Linux 6.1 miscounts references to a device that is bound again
        print(json.dumps([f"dax0.0: {what}", answer]), flush=True)


main()
