"""System calls that Python 3.11 does not offer.  Each raises OSError with the kernel's errno."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import select
import struct
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

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
MS_REC = 0x4000
MS_SLAVE = 0x80000
MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

# Operations of prctl(2) (include/uapi/linux/prctl.h).
PR_SET_PDEATHSIG = 1

# Operations of keyctl(2), and two keyrings (include/uapi/linux/keyctl.h).
_JOIN_SESSION, _DESCRIBE, _LINK, _SEARCH, _READ = 1, 6, 8, 10, 11
_SESSION_KEYRING, _USER_KEYRING = -3, -4
#: Bytes that what is told of a key has room in: a page.
_KEY_ROOM = 4096

# struct signalfd_siginfo: the number and the code; who has sent it, else (include/uapi/linux/signalfd.h).
_SIGNAL = struct.Struct("=I4xi116x")
#: The rest is read when poll(2) tells of it.
_SIGNALS_AT_A_TIME = 16
#: The code of what the kernel itself sends (include/uapi/asm-generic/siginfo.h).
_SI_KERNEL = 0x80
#: Bytes of the C library's set of signals, of which the kernel looks at the first eight.
_SIGNAL_SET_SIZE = 128

_LIBC = ctypes.CDLL(None, use_errno=True)


@frozen
class SystemCallNumbers:
    """Numbers of the calls that a C library may lack, or that a filter looks at, on one architecture.

    Attributes:
        audit_arch: what seccomp(2) calls the architecture (include/uapi/linux/audit.h).
    """

    audit_arch: int
    seccomp: int
    ioctl: int
    init_module: int
    finit_module: int
    delete_module: int
    keyctl: int


#: From asm/unistd.h.  A 64-bit kernel also runs the 32-bit programs of its family.
X86_64 = SystemCallNumbers(0xC000003E, 317, 16, 175, 313, 176, 250)
I386 = SystemCallNumbers(0x40000003, 354, 54, 128, 350, 129, 288)
AARCH64 = SystemCallNumbers(0xC00000B7, 277, 29, 105, 273, 106, 219)
ARM = SystemCallNumbers(0x40000028, 383, 54, 128, 379, 129, 311)
RISCV64 = SystemCallNumbers(0xC00000F3, 277, 29, 105, 273, 106, 219)

#: What each machine runs, its own architecture first.
FAMILIES = {"x86_64": (X86_64, I386), "aarch64": (AARCH64, ARM), "riscv64": (RISCV64,)}


def family() -> tuple[SystemCallNumbers, ...]:
    """The architectures of this machine's programs.  ENOSYS when they are not known here."""
    machine = platform.machine()
    if machine not in FAMILIES:
        raise OSError(errno.ENOSYS, f"system calls of {machine} are not known, only those of {', '.join(FAMILIES)}")
    return FAMILIES[machine]


def unshare(flags: int) -> None:
    """Leave the namespaces that the flags name for new ones."""
    _check(_LIBC.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: Path | str, target: Path | str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system."""
    words = (os.fsencode(source), os.fsencode(target), kind.encode() or None)
    _check(_LIBC.mount(*words, ctypes.c_ulong(flags), options.encode() or None), str(target))


def bind(source: Path | str, target: Path | str) -> None:
    """Show a file or a directory, with what is mounted below, in another place."""
    mount(source, target, flags=MS_BIND | MS_REC)


def umount(target: Path | str) -> None:
    """Take the topmost mount off, however busy it is."""
    _check(_LIBC.umount2(os.fsencode(target), ctypes.c_int(MNT_DETACH | UMOUNT_NOFOLLOW)), str(target))


@frozen
class CaughtSignal:
    """A signal that was read instead of being handled.

    Attributes:
        number: which.
        from_kernel: the kernel sent it, as when a key is pressed on the terminal, and not a process.
    """

    number: int
    from_kernel: bool


def signal_descriptor(numbers: Iterable[int]) -> int:
    """A descriptor that reads these signals; they have to be blocked.  Close it as any other."""
    mask = ctypes.c_uint64(sum(1 << number - 1 for number in numbers))
    room = ctypes.create_string_buffer(_SIGNAL_SET_SIZE)
    ctypes.memmove(room, ctypes.byref(mask), ctypes.sizeof(mask))
    return _check(_LIBC.signalfd(-1, room, os.O_NONBLOCK | os.O_CLOEXEC), "signalfd")


def read_signals(descriptor: int) -> list[CaughtSignal]:
    """The signals that have come."""
    data = os.read(descriptor, _SIGNALS_AT_A_TIME * _SIGNAL.size)
    return [CaughtSignal(number, code == _SI_KERNEL) for number, code in _SIGNAL.iter_unpack(data)]


def die_with_parent(signal: int, parent: int) -> None:
    """Get that signal when the parent ends; end at once if it has ended since the fork.

    Args:
        signal: its number.
        parent: a descriptor of the parent (pidfd_open(2)), which is closed.
    """
    _check(_LIBC.prctl(ctypes.c_int(PR_SET_PDEATHSIG), ctypes.c_ulong(signal), 0, 0, 0), "prctl")
    has_ended, _, _ = select.select([parent], [], [], 0)
    if has_ended:
        os._exit(1)
    os.close(parent)


def seccomp(operation: int, flags: int, arguments: object) -> int:
    """Do a seccomp operation on what ctypes takes as a pointer."""
    number = family()[0].seccomp
    return _check(_LIBC.syscall(ctypes.c_long(number), operation, flags, arguments), "seccomp")


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def read_memory(process: int, address: int, length: int) -> bytes:
    """Another process's memory.  EFAULT unless all of it is there and may be read."""
    buffer = ctypes.create_string_buffer(length)
    _copy(_LIBC.process_vm_readv, process, buffer, address, length)
    return buffer.raw


def write_memory(process: int, address: int, data: bytes) -> None:
    """Change another process's memory.  EFAULT unless all of it is there and may be written."""
    buffer = ctypes.create_string_buffer(data, len(data))
    _copy(_LIBC.process_vm_writev, process, buffer, address, len(data))


def _copy(
    call: ctypes._NamedFuncPointer, process: int, buffer: ctypes.Array[ctypes.c_char], address: int, length: int
) -> None:
    own = _IoVec(ctypes.cast(buffer, ctypes.c_void_p), length)
    theirs = _IoVec(ctypes.c_void_p(address), length)
    call.restype = ctypes.c_ssize_t
    one = ctypes.c_ulong(1)
    copied = _check(call(process, ctypes.byref(own), one, ctypes.byref(theirs), one, ctypes.c_ulong(0)), "memory")
    if copied != length:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))


def _check(answer: int, what: str) -> int:
    if answer == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return answer


def possess_user_keyring() -> None:
    """Begin a session of one's own, as far as keys go, in which the keys of the user are found."""
    _keyctl(_JOIN_SESSION, None)
    _keyctl(_LINK, _USER_KEYRING, _SESSION_KEYRING)


def find_key(kind: str, description: str) -> int:
    """The number of a key in the session."""
    return _keyctl(_SEARCH, _SESSION_KEYRING, kind.encode(), description.encode(), 0)


def key_description(serial: int) -> bytes:
    """Its type, owners, permissions and name, with semicolons between them."""
    return _told_of_key(_DESCRIBE, serial).rstrip(b"\0")


def key_contents(serial: int) -> bytes:
    """What is in a key, as far as it is told."""
    return _told_of_key(_READ, serial)


def _told_of_key(operation: int, serial: int) -> bytes:
    buffer = ctypes.create_string_buffer(_KEY_ROOM)
    length = _keyctl(operation, serial, buffer, ctypes.c_size_t(_KEY_ROOM))
    return buffer.raw[: min(length, _KEY_ROOM)]


def _keyctl(operation: int, *arguments: object) -> int:
    number = family()[0].keyctl
    result: int = _LIBC.syscall(ctypes.c_long(number), ctypes.c_int(operation), *arguments)
    if result < 0:
        refusal = ctypes.get_errno()
        raise OSError(refusal, os.strerror(refusal))
    return result
