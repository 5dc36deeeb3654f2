"""Many concurrent callers of ioctl(2), some killed, interrupted, or changing their own files and memory meanwhile.

    python3 storm.py crowd|killed|interrupted|closing|protecting|modules|mapping

Runs in a sandbox.  Prints `done` when each result was one that the kernel can return, and the machine still answers.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import random
import select
import signal
import struct
import sys
import threading
import uuid
from functools import partial
from pathlib import Path

PAGE = 4096
MIB = 1 << 20

# ioctls of a DIMM (include/uapi/linux/ndctl.h): the label area's size, its bytes.
GET_SIZE = 0xC00C4E04
GET_DATA = 0xC00C4E05

# System calls of x86-64 (asm/unistd_64.h).
DELETE_MODULE, FINIT_MODULE = 176, 313

#: Bytes that one GET_DATA requests: more than one message carries.
LENGTH = 100_000

libc = ctypes.CDLL(None, use_errno=True)


def size_of(file):
    return bytes(fcntl.ioctl(file, GET_SIZE, bytes(12)))


def get_data(file, argument):
    """Request many bytes at once; returns 0, or the errno."""
    struct.pack_into("=II", argument, 0, 0, LENGTH)
    return ctypes.get_errno() if libc.ioctl(file, ctypes.c_ulong(GET_DATA), argument) == -1 else 0


def room():
    return ctypes.create_string_buffer(12 + LENGTH)


def wait_for_all(children):
    """Wait for child processes, each of which must succeed."""
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def in_threads(*works):
    """Run functions in concurrent threads; raises the first exception of any."""
    failures = []

    def guarded(work):
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def crowd(file):
    """A hundred concurrent processes with two threads each."""
    expected = size_of(file)

    def ask():
        for _ in range(3):
            assert size_of(file) == expected

    wait_for_all([in_child(lambda: in_threads(ask, ask)) for _ in range(100)])


def killed(file):
    """Callers that are killed at any point of a call: they never stop calling."""
    for turn in range(60):
        reader, writer = os.pipe()

        def call_for_ever(writer=writer, turn=turn):
            argument = room()
            for count in range(1 << 30):
                if count == turn % 4:
                    os.write(writer, b"x")
                get_data(file, argument)

        child = in_child(call_for_ever)
        os.read(reader, 1)
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        os.close(reader)
        os.close(writer)


def interrupted(file):
    """A caller interrupted by a signal every half millisecond; its handler restarts calls."""
    caught = []
    signal.signal(signal.SIGALRM, lambda *_: caught.append(1))
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    argument = room()
    while len(caught) < 100:
        assert get_data(file, argument) == 0
    signal.setitimer(signal.ITIMER_REAL, 0)


def closing(_file):
    """A caller whose descriptor another thread closes or replaces."""
    null = os.open("/dev/null", os.O_RDWR)
    number = os.dup(null)
    stop = threading.Event()

    def change():
        while not stop.is_set():
            dimm = os.open("/dev/nmem0", os.O_RDWR)
            os.dup2(dimm, number)
            os.close(dimm)
            os.dup2(null, number)

    def call():
        argument = room()
        answers = [get_data(number, argument) for _ in range(300)]
        stop.set()
        # ENXIO: the supervisor had seen the other file, and what the kernel found in its place was the node, which is
        # that of a device of the host that does not exist (`nvdimmfs.sandbox.host_characters`).
        assert set(answers) <= {0, errno.ENOTTY, errno.EBADF, errno.ENXIO}, answers

    in_threads(change, call)


def protecting(file):
    """A caller whose memory another thread protects and unprotects."""
    size = -(-(12 + LENGTH) // PAGE) * PAGE
    libc.mmap.restype = ctypes.c_void_p
    base = libc.mmap(None, ctypes.c_size_t(size), 3, 0x22, -1, 0)
    argument = (ctypes.c_char * size).from_address(base)
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for protection in (1, 3):
                libc.mprotect(ctypes.c_void_p(base + PAGE), ctypes.c_size_t(size - PAGE), protection)

    def call():
        answers = [get_data(file, argument) for _ in range(100)]
        stop.set()
        assert set(answers) <= {0, errno.EFAULT}, answers

    in_threads(change, call)


def modules(_file):
    """A module that many processes load and unload concurrently."""
    (path,) = Path("/lib/modules", os.uname().release).rglob("device_dax.ko")
    file = os.open(path, os.O_RDONLY)
    libc.syscall.restype = ctypes.c_long

    def change():
        chance = random.Random(os.getpid())
        for _ in range(20):
            if chance.random() < 0.5:
                result = libc.syscall(ctypes.c_long(FINIT_MODULE), file, b"", 0)
            else:
                result = libc.syscall(ctypes.c_long(DELETE_MODULE), b"device_dax", os.O_NONBLOCK)
            assert result == 0 or ctypes.get_errno() in {errno.EEXIST, errno.ENOENT, errno.EAGAIN}, ctypes.get_errno()

    wait_for_all([in_child(change) for _ in range(20)])


def mapped_or_errno(file, length):
    """0 when so many bytes of a file can be mapped, or the errno."""
    try:
        mmap.mmap(file, length).close()
    except OSError as failure:
        return failure.errno
    return 0


def mapping(_file):
    """Threads that map a dax device, under signals that are handled, that stop them, and that kill them."""
    nd = Path("/sys/bus/nd")
    (nd / "drivers/nd_pmem/unbind").write_text("namespace0.0")
    for name, value in (("mode", "pmem"), ("uuid", str(uuid.UUID(int=1))), ("namespace", "namespace0.0")):
        (nd / "devices/dax0.0" / name).write_text(value)
    (nd / "drivers/dax_pmem/bind").write_text("dax0.0")
    device = os.open("/dev/dax0.0", os.O_RDWR)

    def map_often(thread, times):
        for count in range(times):
            with mmap.mmap(device, 2 * MIB, offset=thread * 2 * MIB) as memory:
                assert count == 0 or memory[0] == (count - 1) % 256, "the bytes of another mapping"
                memory[0] = count % 256
            assert mapped_or_errno(device, 4096) == errno.EINVAL

    def work(times):
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.siginterrupt(signal.SIGALRM, False)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        in_threads(*(partial(map_often, thread, times) for thread in range(4)))

    child = in_child(partial(work, 20))
    os.kill(child, signal.SIGSTOP)
    while os.WIFSTOPPED(status := os.waitpid(child, os.WUNTRACED)[1]):
        os.kill(child, signal.SIGCONT)
        select.select([], [], [], 0.01)
        os.kill(child, signal.SIGSTOP)
    assert status == 0
    for turn in range(20):
        child = in_child(partial(work, 1 << 30))
        select.select([], [], [], turn / 1000)  # it is killed at any point of a call
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main():
    file = os.open("/dev/nmem0", os.O_RDWR)
    before = size_of(file)
    kinds = (crowd, killed, interrupted, closing, protecting, modules, mapping)
    {kind.__name__: kind for kind in kinds}[sys.argv[1]](file)
    assert size_of(file) == before
    assert get_data(file, room()) == 0
    print("done")


if __name__ == "__main__":
    main()
