"""What the supervisor of a sandbox finds out about a thread: its memory and its name, here of this process."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
from pathlib import Path

import pytest

from nvdimmfs.sandbox.calling_thread import calling_thread
from nvdimmfs.sandbox.known_thread import KnownThread
from nvdimmfs.sandbox.mappings import has_writable, lists_writable, present_bytes
from nvdimmfs.units import PAGE_SIZE

#: Pages of the memory that the tests look at.
PAGES = 6
#: PR_SET_NAME (include/uapi/linux/prctl.h).
SET_NAME = 15

LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def opened(path):
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def process():
    """This process's directory in /proc."""
    with opened("/proc/self") as directory:
        yield directory


@pytest.fixture
def address():
    """Where some pages of private memory are, none of which has been used."""
    with mmap.mmap(-1, PAGES * PAGE_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        with contextlib.suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        start = ctypes.c_char.from_buffer(memory)
        yield ctypes.addressof(start)
        del start


def protect(address, protection):
    assert LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE_SIZE), protection) == 0


def use(address):
    ctypes.memset(address, 1, 1)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 2, True),
        (0, 1, True),
        (0.5, 2, True),
        (0, 2.5, False),
        (1.5, 3, False),
        (2, 3, False),
        (2.5, 2.6, False),
        (3, 4, True),
        (3, 5, False),
        (4, 4.5, False),
        (5, 6, True),
    ],
)
@pytest.mark.parametrize("look", [has_writable, lists_writable])
def test_memory_is_writable_when_all_of_it_is(process, address, look, start, end, expected):
    """The third page can be read only, the fifth not at all; the others can be written."""
    protect(address + 2 * PAGE_SIZE, mmap.PROT_READ)
    protect(address + 4 * PAGE_SIZE, 0)
    assert look(process, address + int(start * PAGE_SIZE), address + int(end * PAGE_SIZE)) is expected


@pytest.mark.parametrize("look", [has_writable, lists_writable])
@pytest.mark.parametrize("start", [0, 2**47 + 4096, 2**64 - 8])
def test_where_nothing_is_mapped_nothing_is_writable(process, look, start):
    assert not look(process, start, start + 4)


def test_bytes_are_present_up_to_a_page_that_was_not_used(process, address):
    for page in (0, 1, 3):
        use(address + page * PAGE_SIZE)
    assert present_bytes(process, address, 10) == 10
    assert present_bytes(process, address, 2 * PAGE_SIZE) == 2 * PAGE_SIZE
    assert present_bytes(process, address, PAGES * PAGE_SIZE) == 2 * PAGE_SIZE
    assert present_bytes(process, address + PAGE_SIZE + 96, PAGES * PAGE_SIZE) == PAGE_SIZE - 96
    assert present_bytes(process, address + 2 * PAGE_SIZE, PAGES * PAGE_SIZE) == 0


@pytest.mark.parametrize("start", [0, 1, 2**47 - 4, 2**47 + 4096, 2**63, 2**64 - 8])
def test_where_nothing_is_mapped_nothing_is_present(process, start):
    assert present_bytes(process, start, 2 * PAGE_SIZE) == 0


@pytest.mark.parametrize(
    "name",
    [b"python3", b"", b"a\\b\nc\\n\\\\d", b"\rTgid:\t1\nUid:", b"\xff\xc3\xa4\t:)", b"FDSize:\t", b"\nFDSize:\t"],
)
def test_a_thread_has_its_name(name):
    """The kernel escapes some of it where it also shows the other values that are looked at."""
    found = []

    def look():
        assert LIBC.prctl(SET_NAME, name, 0, 0, 0) == 0
        expected = Path("/proc/thread-self/comm").read_bytes().removesuffix(b"\n").decode(errors="replace")
        with opened("/proc") as proc, contextlib.closing(KnownThread()) as known, contextlib.ExitStack() as held:
            thread = calling_thread(threading.get_native_id(), proc, lambda: True, known, held)
            found.append((thread.comm == expected, thread.process, thread.user))

    looking = threading.Thread(target=look)
    looking.start()
    looking.join()
    assert found == [(True, os.getpid(), os.getuid())]
