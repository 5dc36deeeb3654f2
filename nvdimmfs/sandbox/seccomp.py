"""Handing selected system calls of a command to its supervisor: a filter and a listener (seccomp_unotify(2)).

The filter notifies the listener of the three calls that change the kernel's modules; of ioctl(2), except for requests
that every file answers alike, and those of subsystems whose programs send a hundred thousand a second; of mmap(2) of a
file that may be a dax device; of madvise(2) that injects errors of memory; of mount(2) and fsconfig(2).  The kernel
executes all other calls at once, so that they cost the command next to nothing.

A filter sees numbers, not files.  So a call that is handed over because it may concern a device of the machine costs
as much on every other file: tens of microseconds instead of one.  ioctl(2) is rare enough for that, a program makes a
handful.  read(2), lseek(2), poll(2) and fstat(2) are not; the kernel executes them, and the nodes are of kinds of which
it returns what it should (`dev_directory`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import select
import struct
from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.syscall_numbers import SyscallNumbers, family
from nvdimmfs.units import PAGE_SIZE, U32_MASK

#: Requests that the kernel carries out on any file before the driver sees them: FIONCLEX, FIOCLEX, FIONBIO, FIOASYNC
#: (include/uapi/asm-generic/ioctls.h; do_vfs_ioctl, fs/ioctl.c).
FILE_REQUESTS = (0x5450, 0x5451, 0x5421, 0x5452)

#: With which isatty(3) asks whether a file is a terminal (TCGETS, include/uapi/asm-generic/ioctls.h).  Programs ask it
#: above all of their standard files, which are no nodes of the machine.
IS_TERMINAL = 0x5401
_STANDARD_FILES = 3

#: Types of requests that the filter never hands over, as they are sent in great numbers to files that are no disks
#: (Documentation/userspace-api/ioctl/ioctl-number.rst): seccomp's own, DRM's, userfaultfd's, KVM's.
FREQUENT_TYPES = (0x21, 0x64, 0xAA, 0xAE)

#: Types and flags of mmap(2), and advice of madvise(2) (include/uapi/asm-generic/mman-common.h, mman.h).
MAP_TYPE = 0xF
MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE = 1, 2, 3
MAP_ANONYMOUS = 0x20
MAP_FIXED_NOREPLACE = 0x100000
MAP_DENYWRITE = 0x800
MADV_HWPOISON, MADV_SOFT_OFFLINE = 100, 101

#: A bit of mmap(2)'s protection that the kernel ignores.  The filter lets calls with it pass.
UNFILTERED_MMAP = 1 << 30

#: Where the options of a mount(2) are that the filter lets pass: a page in the middle of nowhere.
UNFILTERED_OPTIONS = 0xDA << 32

# Operations and flags of seccomp(2), and return values of a filter (include/uapi/linux/seccomp.h).
_SET_MODE_FILTER = 1
_GET_ACTION_AVAILABLE = 2
_FLAG_NEW_LISTENER = 0x8
_FLAG_WAIT_KILLABLE = 0x20
_RETURN_ALLOW = 0x7FFF0000
_RETURN_NOTIFY = 0x7FC00000
_RETURN_ERRNO = 0x00050000

# Instructions of a classic BPF program (include/uapi/linux/bpf_common.h).
_LOAD_WORD = 0x20
_JUMP_IF_EQUAL = 0x15
_JUMP_IF_NOT_BELOW = 0x35
_JUMP_IF_ANY_BIT = 0x45
_RETURN = 0x06
_SHIFT_RIGHT = 0x74
_AND = 0x54
_INSTRUCTION = struct.Struct("=HBBI")

#: The first system call number of the x32 ABI (__X32_SYSCALL_BIT, asm/unistd.h).
_FIRST_OF_X32 = 0x40000000

# struct seccomp_data: the call, the architecture, and the low half of each argument on a little-endian machine.
_AT_CALL = 0
_AT_ARCHITECTURE = 4
_AT_ARGUMENTS = range(16, 64, 8)
_HIGH_HALF = 4

# struct seccomp_notif and seccomp_notif_resp, and the ioctl(2) requests that transfer them.
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_RECEIVE = 0xC0502100
_SEND = 0xC0182101
_IS_VALID = 0x40082102
_SET_FLAGS = 0x40082104
#: Run the receiver on the processor of the caller, which waits for it anyway (Linux 6.6): twice as fast.
_FLAG_SYNC_WAKE_UP = 1
_FLAG_CONTINUE = 1

# struct seccomp_notif_addfd, the request that takes it, and a flag.
_ADDED_FILE = struct.Struct("=QIIII")
_ADD_FILE = 0x40182103
_REPLACE = 0x1


#: The calls that the filter may hand over.
FILTERED = ("ioctl", "init_module", "finit_module", "delete_module", "mmap", "madvise", "mount", "fsconfig")


@frozen
class Notification:
    """A system call that waits for an answer.

    Attributes:
        id: identifies the notification in the response.
        thread: the caller's thread id, in the receiver's PID namespace.
        syscall: the name of the call.
        arguments: its six arguments, 64 bits each.
        is_native: whether it is a call of the architecture that the host's own programs have.
    """

    id: int
    thread: int
    syscall: str
    arguments: tuple[int, ...]
    is_native: bool = True


def is_available() -> bool:
    """Whether this kernel has seccomp notification (Linux 5.0 and later, if built in)."""
    action = ctypes.c_uint32(_RETURN_NOTIFY)
    try:
        libc.seccomp(_GET_ACTION_AVAILABLE, 0, ctypes.byref(action))
    except OSError:
        return False
    return True


class _FilterProgram(ctypes.Structure):
    """struct sock_fprog (include/uapi/linux/filter.h)."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


@functools.cache
def filter_program() -> bytes:
    """The filter's instructions, for this process and those that it forks."""
    return b"".join(_program(family()))


def install_filter() -> int:
    """Filter this process and its descendants, and return the descriptor of the filter's listener.

    EBUSY when a filter with a listener is already installed, as inside another sandbox.
    """
    program = filter_program()
    instructions = ctypes.create_string_buffer(program, len(program))
    whole = _FilterProgram(len(program) // _INSTRUCTION.size, ctypes.cast(instructions, ctypes.c_void_p))
    try:
        # WAIT_KILLABLE: a signal must not restart a call that the listener has already received.
        return libc.seccomp(_SET_MODE_FILTER, _FLAG_NEW_LISTENER | _FLAG_WAIT_KILLABLE, ctypes.byref(whole))
    except OSError as failure:
        if failure.errno != errno.EINVAL:  # EINVAL: the kernel is older than 5.19 and does not know the flag
            raise
    return libc.seccomp(_SET_MODE_FILTER, _FLAG_NEW_LISTENER, ctypes.byref(whole))


def _program(architectures: Iterable[SyscallNumbers]) -> Iterator[bytes]:
    """One block for each architecture; each block is jumped over unless the call is of its architecture."""
    yield _INSTRUCTION.pack(_LOAD_WORD, 0, 0, _AT_ARCHITECTURE)
    for numbers in architectures:
        block = list(_architecture(numbers))
        yield _INSTRUCTION.pack(_JUMP_IF_EQUAL, 0, len(block), numbers.audit_arch)
        yield from block
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _RETURN_ALLOW)


def _architecture(numbers: SyscallNumbers) -> Iterator[bytes]:
    """One block for each system call.  x32 calls are refused with ENOSYS, as by most kernels.

    On a host that has x32, they would bypass the checks.
    """
    yield _INSTRUCTION.pack(_LOAD_WORD, 0, 0, _AT_CALL)
    yield _INSTRUCTION.pack(_JUMP_IF_NOT_BELOW, 0, 1, _FIRST_OF_X32)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _RETURN_ERRNO | errno.ENOSYS)
    blocks = {
        numbers.init_module: (),
        numbers.finit_module: (),
        numbers.delete_module: (),
        numbers.ioctl: _IOCTL,
        numbers.mmap: _MMAP,
        numbers.madvise: _MADVISE,
        numbers.mount: _MOUNT,
        numbers.fsconfig: (),
    }
    for number, steps in blocks.items():
        block = list(_block(steps))
        yield _INSTRUCTION.pack(_JUMP_IF_EQUAL, 0, len(block), number)
        yield from block
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _RETURN_ALLOW)


@frozen
class _Step:
    """An instruction, with labels in place of distances.

    Attributes:
        code: the instruction's.
        value: what it compares with, or where it loads from.
        then: for a jump, where it leads if the condition is true: a step's label, "notify" or "allow"; else empty.
        otherwise: where it leads if not; empty for the next step.
        label: the step's own.
    """

    code: int
    value: int
    then: str = ""
    otherwise: str = ""
    label: str = ""


def _block(steps: Sequence[_Step]) -> Iterator[bytes]:
    """Instructions whose last two return the verdict; without a step, the call is handed over."""
    places = {step.label: place for place, step in enumerate(steps)} | {"notify": len(steps), "allow": len(steps) + 1}

    for place, step in enumerate(steps):
        jumps = (places[label] - place - 1 if label else 0 for label in (step.then, step.otherwise))
        yield _INSTRUCTION.pack(step.code, *jumps, step.value)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _RETURN_NOTIFY)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _RETURN_ALLOW)


_IOCTL = (
    _Step(_LOAD_WORD, _AT_ARGUMENTS[1]),
    *(_Step(_JUMP_IF_EQUAL, request, "allow") for request in FILE_REQUESTS),
    _Step(_JUMP_IF_EQUAL, IS_TERMINAL, "", "other"),
    _Step(_LOAD_WORD, _AT_ARGUMENTS[0]),
    _Step(_JUMP_IF_NOT_BELOW, _STANDARD_FILES, "notify", "allow"),
    _Step(_SHIFT_RIGHT, 8, label="other"),  # to its type, the second byte
    _Step(_AND, 0xFF),
    *(_Step(_JUMP_IF_EQUAL, kind, "allow") for kind in FREQUENT_TYPES),
)

#: Mappings of files: all shared ones; private ones unless they have the flag that each of a program's and a library's
#: segments has, or an odd length, as the files that the C library maps.
_MMAP = (
    _Step(_LOAD_WORD, _AT_ARGUMENTS[4]),
    _Step(_JUMP_IF_EQUAL, U32_MASK, "allow"),
    _Step(_LOAD_WORD, _AT_ARGUMENTS[2]),
    _Step(_JUMP_IF_ANY_BIT, UNFILTERED_MMAP, "allow"),
    _Step(_LOAD_WORD, _AT_ARGUMENTS[3]),
    _Step(_AND, MAP_TYPE | MAP_ANONYMOUS),
    _Step(_JUMP_IF_EQUAL, MAP_SHARED, "notify"),
    _Step(_JUMP_IF_EQUAL, MAP_SHARED_VALIDATE, "notify"),
    _Step(_JUMP_IF_EQUAL, MAP_PRIVATE, "", "allow"),
    _Step(_LOAD_WORD, _AT_ARGUMENTS[3]),
    _Step(_JUMP_IF_ANY_BIT, MAP_DENYWRITE, "allow"),
    _Step(_LOAD_WORD, _AT_ARGUMENTS[1]),
    _Step(_JUMP_IF_ANY_BIT, PAGE_SIZE - 1, "allow", "notify"),
)

_MOUNT = (
    _Step(_LOAD_WORD, _AT_ARGUMENTS[4] + _HIGH_HALF),
    _Step(_JUMP_IF_EQUAL, UNFILTERED_OPTIONS >> 32, "allow", "notify"),
)

_MADVISE = (
    _Step(_LOAD_WORD, _AT_ARGUMENTS[2]),
    _Step(_JUMP_IF_EQUAL, MADV_HWPOISON, "notify"),
    _Step(_JUMP_IF_EQUAL, MADV_SOFT_OFFLINE, "notify", "allow"),
)


class NotificationListener:
    """Receives notifications of filtered system calls and responds to them."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._names = {(numbers.audit_arch, getattr(numbers, name)): name for numbers in family() for name in FILTERED}
        self._native = family()[0].audit_arch
        with contextlib.suppress(OSError):  # an older kernel
            fcntl.ioctl(descriptor, _SET_FLAGS, _FLAG_SYNC_WAKE_UP)

    def receive(self) -> Notification | None:
        """Wait for the next notification; None if its caller exits in the meantime.

        Several threads may wait; each notification reaches one of them.  When no filtered process is left, the wait
        never ends, or on newer kernels, never begins: then `has_callers` is false.
        """
        try:
            data = fcntl.ioctl(self.descriptor, _RECEIVE, bytes(_NOTIFICATION.size))
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        number, thread, _, call, architecture, _, *arguments = _NOTIFICATION.unpack(data)
        name = self._names[architecture, call]
        return Notification(number, thread, name, tuple(arguments), architecture == self._native)

    @property
    def has_callers(self) -> bool:
        """Whether a filtered process is left."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return not any(events & select.POLLHUP for _, events in poll.poll(0))

    def is_pending(self, notification: Notification) -> bool:
        """Whether the caller still waits for the answer."""
        try:
            fcntl.ioctl(self.descriptor, _IS_VALID, struct.pack("=Q", notification.id))
        except OSError:
            return False
        return True

    def respond(self, notification: Notification, value: int) -> None:
        """Make the call return that value, or fail with an errno, which is given as a negative value."""
        failed = value < 0
        self._send(_RESPONSE.pack(notification.id, 0 if failed else value, value if failed else 0, 0))

    def continue_in_kernel(self, notification: Notification) -> None:
        """Have the kernel execute the call."""
        self._send(_RESPONSE.pack(notification.id, 0, 0, _FLAG_CONTINUE))

    def add_file(self, notification: Notification, file: int) -> int:
        """Give the caller one more descriptor, of an open file of this process, and return it.  It closes at execve(2).

        OSError as open(2) where the caller has too many; ENOENT when it is gone.
        """
        return self._add_file(notification, file, 0, 0, os.O_CLOEXEC)

    def replace_file(self, notification: Notification, file: int, descriptor: int, flags: int) -> None:
        """Put an open file of this process in the place of one of the caller's; errors as `add_file`.

        Args:
            notification: the caller's.
            file: the descriptor of the open file.
            descriptor: the caller's descriptor.
            flags: O_CLOEXEC, or 0.
        """
        self._add_file(notification, file, _REPLACE, descriptor, flags)

    def _add_file(self, notification: Notification, file: int, how: int, descriptor: int, flags: int) -> int:
        request = _ADDED_FILE.pack(notification.id, how, file, descriptor, flags)
        added: int = fcntl.ioctl(self.descriptor, _ADD_FILE, bytearray(request))
        return added

    def _send(self, response: bytes) -> None:
        try:
            fcntl.ioctl(self.descriptor, _SEND, response)
        except OSError as failure:
            if failure.errno != errno.ENOENT:  # ENOENT: the caller is gone
                raise
