"""What a process has mapped, and which of its pages are in memory: files in its directory in /proc."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator

from attrs import frozen

from nvdimmfs.units import PAGE_SIZE

#: An entry of /proc/PID/pagemap, one for each page of addresses, and the bit of a page that is in memory and mapped
#: (Documentation/admin-guide/mm/pagemap.rst).
_PAGE_ENTRY = struct.Struct("=Q")
_PRESENT = 1 << 63

#: struct procmap_query up to the address where the mapping ends, a request of maps that takes it, and its flag for
#: writable mappings only (include/uapi/linux/fs.h, Linux 6.11).
_QUERY = struct.Struct("=5Q64x")
_ASK_MAPPING = 0xC0686611
_WRITABLE = 0x2


@frozen
class Mapping:
    """A mapping of a process: a line of its file `maps` (show_map_vma, fs/proc/task_mmu.c, Linux 6.1).

    Attributes:
        start, end: its addresses; `end` is not included.
        is_writable: whether it may be written to.
    """

    start: int
    end: int
    is_writable: bool
    _device: bytes
    _inode: bytes

    @property
    def file(self) -> tuple[int, int]:
        """The file system (st_dev) and inode of what is mapped; zeros for memory."""
        major, minor = (int(number, 16) for number in self._device.split(b":"))
        return os.makedev(major, minor), int(self._inode)


def mappings(directory: int) -> Iterator[Mapping]:
    """The mappings of a process with that directory in /proc, by address."""
    with os.fdopen(os.open("maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory), "rb") as maps:
        for line in maps:
            place, permissions, _, device, inode, *_ = line.split()
            start, end = (int(number, 16) for number in place.split(b"-"))
            yield Mapping(start, end, permissions[1:2] == b"w", device, inode)


def mapped_files(directory: int) -> Iterator[tuple[int, int]]:
    """The file systems (st_dev) and inodes of what a process has mapped."""
    return (mapping.file for mapping in mappings(directory))


def has_writable(directory: int, start: int, end: int) -> bool:
    """Whether all memory of a process from `start` up to `end` is mapped writable.

    Kernels from 6.11 on are asked for the mappings that count; of others, all are read.
    """
    maps = os.open("maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        while start < end:
            start = _end_of_writable(maps, start)
    except OSError as failure:
        return failure.errno != errno.ENOENT and lists_writable(directory, start, end)
    finally:
        os.close(maps)
    return True


def _end_of_writable(maps: int, address: int) -> int:
    """Where the mapping ends that has an address and may be written to.  ENOENT for none, ENOTTY before Linux 6.11."""
    query = bytearray(_QUERY.pack(_QUERY.size, _WRITABLE, address, 0, 0))
    fcntl.ioctl(maps, _ASK_MAPPING, query)
    end: int = _QUERY.unpack(query)[-1]
    return end


def lists_writable(directory: int, start: int, end: int) -> bool:
    """As `has_writable`, on every kernel."""
    for mapping in mappings(directory):
        if mapping.start <= start < mapping.end:
            if not mapping.is_writable:
                return False
            start = mapping.end
            if start >= end:
                return True
    return False


def present_bytes(directory: int, address: int, length: int) -> int:
    """How many of a process's bytes from an address on are in memory, one after the other; at most `length`."""
    first, last = address // PAGE_SIZE, (address + length - 1) // PAGE_SIZE
    pagemap = os.open("pagemap", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        entries = os.pread(pagemap, (last - first + 1) * _PAGE_ENTRY.size, first * _PAGE_ENTRY.size)
    finally:
        os.close(pagemap)
    end = first * PAGE_SIZE
    for (entry,) in _PAGE_ENTRY.iter_unpack(entries):
        if not entry & _PRESENT:
            break
        end += PAGE_SIZE
    return min(max(0, end - address), length)
