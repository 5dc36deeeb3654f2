"""System calls that Python 3.11 does not offer, made through the C library.  Each raises OSError with its errno."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import select
import struct
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from nvdimmfs.sandbox.errors import os_error
from nvdimmfs.sandbox.syscall_numbers import family

# Flags of unshare(2) (include/uapi/linux/sched.h).
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# Flags of mount(2) and umount2(2) (include/uapi/linux/mount.h, include/linux/fs.h).
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_SLAVE = 0x80000
MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

# Numbers and flags of open_tree(2) and move_mount(2), the same on all architectures
# (include/uapi/asm-generic/unistd.h, include/uapi/linux/mount.h, fcntl.h).
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_RECURSIVE = 0x8000
_AT_FDCWD = ctypes.c_int(-100)

# Flags and the mask of statx(2), and the fields of its result that are used (include/uapi/linux/stat.h, fcntl.h).
_AT_EMPTY_PATH = 0x1000
_AT_STATX_DONT_SYNC = 0x4000
_STATX_BASIC_STATS = 0x7FF
_STATX = struct.Struct("=28xH2xQ88x4I112x")

# Operations of prctl(2) (include/uapi/linux/prctl.h).
PR_SET_PDEATHSIG = 1

# Operations of keyctl(2), and two keyrings (include/uapi/linux/keyctl.h).
_JOIN_SESSION, _DESCRIBE, _LINK, _SEARCH, _READ = 1, 6, 8, 10, 11
_SESSION_KEYRING, _USER_KEYRING = -3, -4
#: Size of the buffer for a key's description or contents: a page.
_KEY_BUFFER_SIZE = 4096

# struct signalfd_siginfo: number, code and sender; the rest is skipped (include/uapi/linux/signalfd.h).
_SIGNAL = struct.Struct("=I4xiI112x")
#: How many to read at once; poll(2) reports the remaining ones.
_SIGNALS_AT_A_TIME = 16
#: The code of a signal that the kernel itself sends (include/uapi/asm-generic/siginfo.h).
_SI_KERNEL = 0x80
#: Bytes of the C library's sigset_t; the kernel looks at the first eight.
_SIGNAL_SET_SIZE = 128

_LIBC = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Move this process into new namespaces, of the kinds that the flags name."""
    _check(_LIBC.unshare(ctypes.c_int(flags)), "unshare")


def setns(namespace: int, kind: int) -> None:
    """Join the namespace behind a descriptor, which must be of that kind."""
    _check(_LIBC.setns(ctypes.c_int(namespace), ctypes.c_int(kind)), "setns")


def mount(source: Path | str, target: Path | str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system."""
    names = (os.fsencode(source), os.fsencode(target), kind.encode() or None)
    _check(_LIBC.mount(*names, ctypes.c_ulong(flags), options.encode() or None), str(target))


def bind_mount(source: Path | str, target: Path | str) -> None:
    """Mount a file or a directory, with all mounts below it, at another path as well."""
    mount(source, target, flags=MS_BIND | MS_REC)


def move_mount(source: Path | str, target: Path | str) -> None:
    """Move a mount to another place, at once; that it is moved from must not be shared."""
    mount(source, target, flags=MS_MOVE)


def open_tree(path: Path) -> int:
    """Copy a mount with those below it, to a tree that is mounted nowhere, and return a descriptor of that."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    call = _LIBC.syscall(ctypes.c_long(_OPEN_TREE), _AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags))
    return _check(call, str(path))


def attach_tree(tree: int, target: Path) -> None:
    """Mount a tree of mounts (`open_tree`)."""
    paths = (ctypes.c_int(tree), b"", _AT_FDCWD, os.fsencode(target))
    call = _LIBC.syscall(ctypes.c_long(_MOVE_MOUNT), *paths, ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH))
    _check(call, str(target))


def umount(target: Path | str) -> None:
    """Detach the topmost mount, even while it is in use."""
    _check(_LIBC.umount2(os.fsencode(target), ctypes.c_int(MNT_DETACH | UMOUNT_NOFOLLOW)), str(target))


@frozen
class BlockedSignal:
    """A blocked signal, read from a descriptor.

    Attributes:
        number: the signal number.
        from_kernel: whether the kernel sent it, as for Ctrl-C on the terminal, and not a process.
        sender: the id of the process that sent it.
    """

    number: int
    from_kernel: bool
    sender: int


def signal_descriptor(numbers: Iterable[int]) -> int:
    """Open a descriptor from which to read these signals (signalfd(2)).  The caller must have blocked them."""
    mask = ctypes.c_uint64(sum(1 << number - 1 for number in numbers))
    signal_set = ctypes.create_string_buffer(_SIGNAL_SET_SIZE)
    ctypes.memmove(signal_set, ctypes.byref(mask), ctypes.sizeof(mask))
    return _check(_LIBC.signalfd(-1, signal_set, os.O_NONBLOCK | os.O_CLOEXEC), "signalfd")


def inotify() -> int:
    """Open a descriptor from which to read events of files (inotify(7))."""
    return _check(_LIBC.inotify_init1(ctypes.c_int(os.O_CLOEXEC)), "inotify_init1")


def watch(descriptor: int, path: Path, events: int) -> int:
    """Watch a file for events.  Returns the number that they have."""
    return _check(_LIBC.inotify_add_watch(descriptor, os.fsencode(path), ctypes.c_uint32(events)), str(path))


def read_signals(descriptor: int) -> list[BlockedSignal]:
    """Read pending signals."""
    data = os.read(descriptor, _SIGNALS_AT_A_TIME * _SIGNAL.size)
    return [BlockedSignal(number, code == _SI_KERNEL, sender) for number, code, sender in _SIGNAL.iter_unpack(data)]


def has_ended(process: int, seconds: float = 0) -> bool:
    """Wait up to so many seconds for the end of a process (pidfd_open(2)); whether it has ended."""
    poll = select.poll()  # select(2) takes no descriptor beyond 1023
    poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def die_with_parent(signal: int, parent: int) -> None:
    """Have the kernel send this process a signal when its parent exits; exit at once if the parent already has.

    Args:
        signal: the signal number.
        parent: a descriptor of the parent (pidfd_open(2)); it is closed.
    """
    _check(_LIBC.prctl(ctypes.c_int(PR_SET_PDEATHSIG), ctypes.c_ulong(signal), 0, 0, 0), "prctl")
    if has_ended(parent):
        os._exit(1)
    os.close(parent)


def seccomp(operation: int, flags: int, arguments: object) -> int:
    """Make the system call; `arguments` is any object that ctypes passes as a pointer."""
    number = family()[0].seccomp
    return _check(_LIBC.syscall(ctypes.c_long(number), operation, flags, arguments), "seccomp")


def ptrace(request: int, thread: int, address: int, data: int | bytes | bytearray) -> None:
    """Make a request about a thread; `data` is a number, or memory that is read, or written if it is a bytearray."""
    call = _LIBC.ptrace
    call.restype = ctypes.c_long
    memory: object = ctypes.c_void_p(data) if isinstance(data, int) else data
    if isinstance(data, bytearray):
        memory = (ctypes.c_char * len(data)).from_buffer(data)
    _check(call(ctypes.c_long(request), ctypes.c_long(thread), ctypes.c_void_p(address), memory), "ptrace")


@frozen
class FileStatus:
    """What a file is.

    Attributes:
        inode: its inode number (st_ino).
        mode: type and permissions (st_mode).
        filesystem: the device of its file system (st_dev).
        rdev: the number of the device that it is (st_rdev).
    """

    mode: int
    filesystem: int
    rdev: int
    inode: int


def file_status(descriptor: int, path: str = "") -> FileStatus:
    """What an open file is, from the kernel's memory: a file system that does not answer is not asked (statx(2)).

    Args:
        descriptor: the file.
        path: a path from there, to look at the file that it leads to instead.
    """
    buffer = ctypes.create_string_buffer(_STATX.size)
    number = _statx_number()
    _check(_LIBC.syscall(number, ctypes.c_int(descriptor), path.encode(), _STATX_HOW, _STATX_MASK, buffer), "statx")
    mode, inode, *device = _STATX.unpack_from(buffer)
    return FileStatus(mode, os.makedev(*device[2:]), os.makedev(*device[:2]), inode)


_STATX_HOW, _STATX_MASK = ctypes.c_int(_AT_EMPTY_PATH | _AT_STATX_DONT_SYNC), ctypes.c_uint(_STATX_BASIC_STATS)


@functools.cache
def _statx_number() -> ctypes.c_long:
    return ctypes.c_long(family()[0].statx)


#: struct iovec (include/uapi/linux/uio.h), and process_vm_readv(2).
_IOVEC = struct.Struct("@PN")
_READ_PROCESS = _LIBC.process_vm_readv
_READ_PROCESS.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_ulong,
)
_READ_PROCESS.restype = ctypes.c_ssize_t


def read_memory(thread: int, address: int, length: int) -> bytes:
    """Read another thread's memory.  EFAULT unless all of it is mapped and readable."""
    buffer = bytearray(length)
    place = ctypes.addressof((ctypes.c_char * length).from_buffer(buffer))
    local, remote = _IOVEC.pack(place, length), _IOVEC.pack(address, length)
    if _check(_READ_PROCESS(thread, local, 1, remote, 1, 0), "memory") != length:
        raise os_error(errno.EFAULT)
    return bytes(buffer)


def _check(result: int, what: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def possess_user_keyring() -> None:
    """Join a new session keyring and link the user's keyring to it, so that a search finds the user's keys."""
    _keyctl(_JOIN_SESSION, None)
    _keyctl(_LINK, _USER_KEYRING, _SESSION_KEYRING)


def find_key(kind: str, description: str) -> int:
    """The serial number of a key in the session keyring."""
    return _keyctl(_SEARCH, _SESSION_KEYRING, kind.encode(), description.encode(), 0)


def key_description(serial: int) -> bytes:
    """A key's type, owners, permissions and name, separated by semicolons."""
    return _read_key(_DESCRIBE, serial).rstrip(b"\0")


def key_contents(serial: int) -> bytes:
    """A key's contents, as far as the kernel gives them out."""
    return _read_key(_READ, serial)


def _read_key(operation: int, serial: int) -> bytes:
    buffer = ctypes.create_string_buffer(_KEY_BUFFER_SIZE)
    length = _keyctl(operation, serial, buffer, ctypes.c_size_t(_KEY_BUFFER_SIZE))
    return buffer.raw[: min(length, _KEY_BUFFER_SIZE)]


def _keyctl(operation: int, *arguments: object) -> int:
    number = family()[0].keyctl
    result: int = _LIBC.syscall(ctypes.c_long(number), ctypes.c_int(operation), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise os_error(error)
    return result
