"""Make one system call of a sandbox wait for a page, or for a file system, that never answers.

    stuck_caller.py KIND FILE

KIND is a key of `CALLS`; FILE belongs to `stuck_files.py`.

Prints "opened", waits for a line, makes the call, and prints its result if it ends.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p

#: ND_IOCTLGET_CONFIG_SIZE (include/uapi/linux/ndctl.h).
GET_CONFIG_SIZE = 0xC00C4E04

#: init_module, delete_module, finit_module (asm/unistd.h).
INIT_MODULE, DELETE_MODULE, FINIT_MODULE = {"x86_64": (175, 176, 313)}.get(platform.machine(), (105, 106, 273))

_WAIT_FOR_NOTHING_BUT_START = 2  # SYNC_FILE_RANGE_WRITE (include/uapi/linux/fs.h)
_LENGTH = 1 << 16


def _map(file: int, flags: int) -> int:
    """The address of a new mapping of the file."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address = _LIBC.mmap(None, ctypes.c_size_t(_LENGTH), protection, flags, file, ctypes.c_long(0))
    assert address != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
    return address


def system_call(number: int, *arguments: object) -> int:
    return _LIBC.syscall(ctypes.c_long(number), *arguments)


def _ioctl(file: int, address: int) -> int:
    return _LIBC.ioctl(file, ctypes.c_ulong(GET_CONFIG_SIZE), ctypes.c_void_p(address))


def memory_that_is_never_read(file: int) -> int:
    return _ioctl(os.open("/dev/nmem0", os.O_RDWR), _map(file, mmap.MAP_PRIVATE))


def memory_that_is_never_written(file: int) -> int:
    """The page is being written back, and must not change until the file system confirms that."""
    address = _map(file, mmap.MAP_SHARED)
    ctypes.memset(address, 0, 16)
    assert _LIBC.sync_file_range(file, ctypes.c_long(0), ctypes.c_long(4096), _WAIT_FOR_NOTHING_BUT_START) == 0
    return _ioctl(os.open("/dev/nmem0", os.O_RDWR), address)


def file_of_a_dead_file_system(file: int) -> int:
    return _ioctl(file, 0)


def image_in_memory(file: int) -> int:
    return system_call(INIT_MODULE, ctypes.c_void_p(_map(file, mmap.MAP_PRIVATE)), ctypes.c_ulong(_LENGTH), b"")


def image_in_a_file(file: int) -> int:
    """Opened for reading: a file that is open for writing is ETXTBSY."""
    return system_call(FINIT_MODULE, os.open(sys.argv[2], os.O_RDONLY), b"", 0)


def name_in_memory(file: int) -> int:
    return system_call(DELETE_MODULE, ctypes.c_void_p(_map(file, mmap.MAP_PRIVATE)), 0)


#: The calls, by name, each with what `stuck_files.py` does not answer for it.
CALLS = {
    memory_that_is_never_read: "never-read",
    memory_that_is_never_written: "never-written",
    file_of_a_dead_file_system: "never-read",
    image_in_memory: "never-read",
    image_in_a_file: "never-read",
    name_in_memory: "never-read",
}


def main() -> None:
    (call,) = (call for call in CALLS if call.__name__ == sys.argv[1])
    file = os.open(sys.argv[2], os.O_RDWR)
    print("opened", flush=True)
    sys.stdin.readline()
    result = call(file)
    print(result, os.strerror(ctypes.get_errno()), flush=True)


if __name__ == "__main__":
    main()
