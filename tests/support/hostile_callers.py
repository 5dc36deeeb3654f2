"""The command of a sandbox in which several users make random and malformed system calls on the machine's devices.

    hostile_callers.py SEED CALLS FEATURE...

Prints "ready" and waits for a line; then makes about CALLS calls, prints the figures as a JSON object, and waits for
another line.  FEATURES are what makes the calls worse:

    descriptors   another thread replaces the descriptors of the calls
    mappings      another thread unmaps, maps and protects the memory of the calls
    kills         callers are killed during calls
    modules       calls that load and unload modules
    strangers     half of the callers are an ordinary user, who may open no device
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import platform
import random
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

FEATURES = ("descriptors", "mappings", "kills", "modules", "strangers")

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p

_STRANGER = 65534
_THREADS = 3  # of each caller
_CALLERS = 4  # at a time

#: Descriptors that are replaced all the time.
_SLOTS = range(200, 206)

#: Memory that is unmapped and mapped all the time: pages from a fixed address.
_PAGE, _PAGES = mmap.PAGESIZE, 4
#: Bytes of the memory that stays as it is.
_BUFFER = 1 << 16
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_FIXED = 0x10
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE

#: init_module, delete_module, finit_module (asm/unistd.h).
_INIT, _DELETE, _FINIT = {"x86_64": (175, 176, 313)}.get(platform.machine(), (105, 106, 273))

#: BLKROSET, BLKRRPART, BLKPG (include/uapi/linux/fs.h, blkpg.h).
_BLOCK_REQUESTS = (0x125D, 0x125F, 0x1269)

#: ND_IOCTL_GET_CONFIG_SIZE, which a DIMM that is open for writing always answers.
_GET_CONFIG_SIZE = 0xC00C4E04

_MODULES = (
    b"device_dax",
    b"nd_pmem",
    b"nd_btt",
    b"libnvdimm",
    b"nfit_test",
    b"no_such",
    b"",
    b"../../etc",
    b"\xff" * 70,
)

#: What a counter in shared memory counts.
_CALLS, _SUCCEEDED, _GAINED, _WRITTEN = range(4)
_COUNTER = struct.Struct("=4Q")


class Caller:
    """One process with several threads, all of one user."""

    def __init__(self, seed: int, calls: int, features: set[str], counters: mmap.mmap, place: int) -> None:
        self.chance = random.Random(seed)
        self.calls = calls
        self.features = features
        self.counters = counters
        self.place = place
        self.is_stranger = "strangers" in features and bool(place % 2)
        self.done = False
        self.files = [-1]
        self.area = _LIBC.mmap(None, ctypes.c_size_t(_PAGES * _PAGE), _READ_WRITE, _PRIVATE, -1, ctypes.c_long(0))
        self.read_only = _LIBC.mmap(None, ctypes.c_size_t(_PAGE), mmap.PROT_READ, _PRIVATE, -1, ctypes.c_long(0))
        # A page behind it that cannot be accessed: what is written to its end must not go on into other memory.
        self.buffer = _LIBC.mmap(None, ctypes.c_size_t(_BUFFER + _PAGE), _READ_WRITE, _PRIVATE, -1, ctypes.c_long(0))
        _LIBC.mprotect(ctypes.c_void_p(self.buffer + _BUFFER), ctypes.c_size_t(_PAGE), 0)

    def run(self) -> None:
        if self.is_stranger:
            os.setgroups([])
            os.setgid(_STRANGER)
            os.setuid(_STRANGER)
        self._open_files()
        helpers = [threading.Thread(target=self._replace)] if "descriptors" in self.features else []
        helpers += [threading.Thread(target=self._remap)] if "mappings" in self.features else []
        callers = [threading.Thread(target=self._call, args=(number,)) for number in range(_THREADS)]
        for thread in (*helpers, *callers):
            thread.start()
        for thread in callers:
            thread.join()
        self.done = True
        for thread in helpers:
            thread.join()
        if any(ctypes.string_at(self.read_only, _PAGE)):
            self._count(0, _WRITTEN)

    def _open_files(self) -> None:
        nodes = [*Path("/dev").glob("n[dm]*"), *Path("/dev").glob("pmem*"), *Path("/dev").glob("dax*")]
        for path in (*nodes, Path("/dev/null"), Path("/proc/self/status"), Path("/dev")):
            for flags in (os.O_PATH, os.O_RDONLY, os.O_RDWR, os.O_WRONLY):
                with contextlib.suppress(OSError):
                    self.files.append(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
        self.files += os.pipe()
        self.files += [os.memfd_create("image"), socket.socket().detach(), os.pidfd_open(os.getpid())]
        for slot in _SLOTS:
            os.dup2(self.chance.choice(self.files[1:]), slot)

    def _replace(self) -> None:
        chance = random.Random(self.chance.random())
        while not self.done:
            file, slot = chance.choice(self.files), chance.choice(_SLOTS)
            with contextlib.suppress(OSError):
                os.close(slot) if file < 0 else os.dup2(file, slot)

    def _remap(self) -> None:
        chance = random.Random(self.chance.random())
        length = ctypes.c_size_t(_PAGE)
        while not self.done:
            address = self.area + chance.randrange(_PAGES) * _PAGE
            action = chance.randrange(3)
            if action == 0:
                _LIBC.munmap(ctypes.c_void_p(address), length)
            elif action == 1:
                _LIBC.mprotect(ctypes.c_void_p(address), length, chance.choice((0, 1, 3)))
            else:
                where = ctypes.c_void_p(address)
                _LIBC.mmap(where, length, _READ_WRITE, _PRIVATE | _FIXED, -1, ctypes.c_long(0))

    def _call(self, number: int) -> None:
        chance = random.Random(f"{self.chance.random()} {number}")
        for _ in range(self.calls // _THREADS):
            if "modules" in self.features and chance.random() < 0.05:
                result = self._module_call(chance)
            else:
                descriptor, request = self._descriptor(chance), self._request(chance)
                result = _LIBC.ioctl(
                    ctypes.c_int(descriptor), ctypes.c_ulong(request), ctypes.c_void_p(self._address(chance))
                )
            self._count(number, _CALLS)
            if result >= 0:
                self._count(number, _GAINED if self.is_stranger else _SUCCEEDED)

    def _module_call(self, chance: random.Random) -> int:
        kind = chance.randrange(3)
        if kind == 0:
            name = ctypes.create_string_buffer(chance.choice(_MODULES))
            address = ctypes.addressof(name) if chance.random() < 0.7 else self._address(chance)
            return _LIBC.syscall(ctypes.c_long(_DELETE), ctypes.c_void_p(address), 0)
        parameters = ctypes.c_void_p(self._address(chance))
        if kind == 1:
            length = chance.choice((0, 1, 64, 4096, 1 << 20, 1 << 62))
            image = ctypes.c_void_p(self._address(chance))
            return _LIBC.syscall(ctypes.c_long(_INIT), image, ctypes.c_ulong(length), parameters)
        return _LIBC.syscall(ctypes.c_long(_FINIT), self._descriptor(chance), parameters, chance.choice((0, 1, 4, 99)))

    def _descriptor(self, chance: random.Random) -> int:
        if chance.random() < 0.05:
            return chance.choice((-1, -100, 1 << 20, 0x7FFFFFFF, 199))
        return chance.choice(_SLOTS)

    def _request(self, chance: random.Random) -> int:
        kind = chance.random()
        if kind < 0.1:
            return chance.choice(_BLOCK_REQUESTS)
        if kind < 0.3:
            return _GET_CONFIG_SIZE
        if kind < 0.6:  # as libnvdimm's are made: read and write, a small size, a known number
            return 3 << 30 | chance.choice((4, 12, 24, 32, 40, 64)) << 16 | 0x4E << 8 | chance.randrange(12)
        return chance.getrandbits(32) & ~0xFF00 | 0x4E00

    def _address(self, chance: random.Random) -> int:
        kind = chance.randrange(8)
        if kind < 3:
            noise = chance.randbytes(64)
            place = self.buffer + chance.choice((0, _BUFFER - 64, chance.randrange(_BUFFER - 64)))
            ctypes.memmove(place, noise, 64)
            return place
        if kind < 6:
            return self.area + chance.randrange(_PAGES * _PAGE)
        return chance.choice((0, 1, self.read_only, self.read_only + _PAGE - 4, 2**64 - 8, 2**63, 2**47 - 4, 4096))

    def _count(self, thread: int, what: int) -> None:
        place = (self.place * _THREADS + thread) * _COUNTER.size + 8 * what
        (before,) = struct.unpack_from("=Q", self.counters, place)
        struct.pack_into("=Q", self.counters, place, before + 1)


def main() -> None:
    seed, calls, features = int(sys.argv[1]), int(sys.argv[2]), set(sys.argv[3:])
    chance = random.Random(seed)
    each = max(_THREADS, calls // _CALLERS)
    counters = mmap.mmap(-1, 1 << 20)
    await_line("ready")
    places, killed, running = 0, 0, {}

    def start() -> None:
        nonlocal places
        running[in_child(Caller(chance.getrandbits(32), each, features, counters, places).run)] = places
        places += 1

    for _ in range(_CALLERS):
        start()
    while running:
        victim = None
        if "kills" in features and killed < _CALLERS and chance.random() < 0.5:
            victim = chance.choice(list(running))
            timer = threading.Timer(chance.random(), os.kill, (victim, signal.SIGKILL))
            timer.start()
        process, status = os.wait()
        if victim is not None:
            timer.cancel()
            timer.join()
        del running[process]
        if os.WIFSIGNALED(status):
            killed += 1
            start()
        elif status:
            sys.exit("a caller failed")
    totals = [sum(column) for column in zip(*(_COUNTER.iter_unpack(bytes(counters))), strict=True)]
    print(json.dumps(dict(zip(("calls", "succeeded", "gained", "written"), totals, strict=True)) | {"killed": killed}))
    still_answers()
    await_line("done")


def in_child(work: Callable[[], None]) -> int:
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return process


def still_answers() -> None:
    """The supervisor still answers: ENOENT for a module that does not exist."""
    assert _LIBC.syscall(ctypes.c_long(_DELETE), b"no_such", 0) == -1
    assert ctypes.get_errno() == 2, os.strerror(ctypes.get_errno())


def await_line(word: str) -> None:
    print(word, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
