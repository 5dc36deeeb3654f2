"""Handing selected system calls of a command to its supervisor: a filter and a listener (seccomp_unotify(2)).

The filter notifies the listener of the three calls that change the kernel's modules, and of ioctl(2) with a request of
type 'N', which is libnvdimm's, or one that changes a disk's partitions or its read-only flag.  The kernel executes all
other calls at once, so that they cost the command next to nothing.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import select
import struct
from collections.abc import Iterable, Iterator

from attrs import frozen

from nvdimmfs.formats.block_requests import BLKPG, BLKROSET, BLKRRPART
from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.syscall_numbers import SyscallNumbers, family

#: The type byte of libnvdimm's ioctls (ND_IOCTL, include/uapi/linux/ndctl.h).
ND_IOCTL = ord("N")

#: Requests on block devices that the filter hands over.
BLOCK_REQUESTS = (BLKROSET, BLKRRPART, BLKPG)

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
_RETURN = 0x06
_SHIFT_RIGHT = 0x74
_AND = 0x54
_INSTRUCTION = struct.Struct("=HBBI")

#: The first system call number of the x32 ABI (__X32_SYSCALL_BIT, asm/unistd.h).
_FIRST_OF_X32 = 0x40000000

# struct seccomp_data: the call, the architecture, and the low half of its second argument on a little-endian machine.
_AT_CALL = 0
_AT_ARCHITECTURE = 4
_AT_SECOND_ARGUMENT = 24

# struct seccomp_notif and seccomp_notif_resp, and the ioctl(2) requests that transfer them.
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_RECEIVE = 0xC0502100
_SEND = 0xC0182101
_IS_VALID = 0x40082102
_FLAG_CONTINUE = 1


@frozen
class Notification:
    """A system call that waits for an answer.

    Attributes:
        id: identifies the notification in the response.
        thread: the caller's thread id, in the receiver's PID namespace.
        syscall: the name of the call.
        arguments: its six arguments, 64 bits each.
    """

    id: int
    thread: int
    syscall: str
    arguments: tuple[int, ...]


def is_available() -> bool:
    """Whether this kernel has seccomp notification (Linux 5.0 and later, if built in)."""
    action = ctypes.c_uint32(_RETURN_NOTIFY)
    try:
        libc.seccomp(_GET_ACTION_AVAILABLE, 0, ctypes.byref(action))
    except OSError:
        return False
    return True


def install_filter() -> int:
    """Filter this process and its descendants, and return the descriptor of the filter's listener.

    EBUSY when a filter with a listener is already installed, as inside another sandbox.
    """
    program = b"".join(_program(family()))
    instructions = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    whole = Program(len(program) // _INSTRUCTION.size, ctypes.cast(instructions, ctypes.c_void_p))
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
    # The last two instructions return the verdict; each jump counts from the instruction after it.  x32 calls are
    # refused with ENOSYS, as by most kernels: on a host that has x32, they would bypass the checks below.
    yield _INSTRUCTION.pack(_LOAD_WORD, 0, 0, _AT_CALL)
    yield _INSTRUCTION.pack(_JUMP_IF_NOT_BELOW, 0, 1, _FIRST_OF_X32)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _RETURN_ERRNO | errno.ENOSYS)
    whole = len(BLOCK_REQUESTS)
    yield _INSTRUCTION.pack(_JUMP_IF_EQUAL, 7 + whole, 0, numbers.init_module)
    yield _INSTRUCTION.pack(_JUMP_IF_EQUAL, 6 + whole, 0, numbers.finit_module)
    yield _INSTRUCTION.pack(_JUMP_IF_EQUAL, 5 + whole, 0, numbers.delete_module)
    yield _INSTRUCTION.pack(_JUMP_IF_EQUAL, 0, 5 + whole, numbers.ioctl)
    yield _INSTRUCTION.pack(_LOAD_WORD, 0, 0, _AT_SECOND_ARGUMENT)
    for left, request in enumerate(reversed(BLOCK_REQUESTS)):
        yield _INSTRUCTION.pack(_JUMP_IF_EQUAL, 2 + whole - left, 0, request)
    yield _INSTRUCTION.pack(_SHIFT_RIGHT, 0, 0, 8)
    yield _INSTRUCTION.pack(_AND, 0, 0, 0xFF)
    yield _INSTRUCTION.pack(_JUMP_IF_EQUAL, 0, 1, ND_IOCTL)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _RETURN_NOTIFY)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _RETURN_ALLOW)


class NotificationListener:
    """Receives notifications of filtered system calls and responds to them."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._names = {
            (numbers.audit_arch, getattr(numbers, name)): name
            for numbers in family()
            for name in ("ioctl", "init_module", "finit_module", "delete_module")
        }

    def receive(self) -> Notification | None:
        """Wait for the next notification; None when its caller has gone in the meantime.

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
        return Notification(number, thread, self._names[architecture, call], tuple(arguments))

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

    def _send(self, response: bytes) -> None:
        try:
            fcntl.ioctl(self.descriptor, _SEND, response)
        except OSError as failure:
            if failure.errno != errno.ENOENT:  # ENOENT: the caller has gone
                raise
