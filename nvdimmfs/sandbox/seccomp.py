"""Handing chosen system calls of a command to somebody else: a filter, and a listener (seccomp_unotify(2)).

The filter lets everything pass but three calls that change the kernel's modules, and ioctl(2) with a request of type
'N', that of libnvdimm, or one that changes a disk's partitions or its read-only flag.  So it costs the command nothing
elsewhere.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import struct
from collections.abc import Iterable, Iterator

from attrs import frozen

from nvdimmfs.sandbox import syscalls
from nvdimmfs.sandbox.syscalls import SystemCallNumbers

#: The type byte of libnvdimm's ioctls (ND_IOCTL, include/uapi/linux/ndctl.h).
ND_IOCTL = ord("N")

# Requests on block devices (include/uapi/linux/fs.h, include/uapi/linux/blkpg.h).
BLKROSET = 0x125D
BLKRRPART = 0x125F
BLKPG = 0x1269
BLOCK_REQUESTS = (BLKROSET, BLKRRPART, BLKPG)

# Operations and flags of seccomp(2), and a filter's answers (include/uapi/linux/seccomp.h).
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

#: The first number of the x32 ABI, other numbers for the same calls (__X32_SYSCALL_BIT, asm/unistd.h).
_FIRST_OF_X32 = 0x40000000

# struct seccomp_data: the call, the architecture, and the low half of its second argument on a little-endian machine.
_AT_CALL = 0
_AT_ARCHITECTURE = 4
_AT_SECOND_ARGUMENT = 24

# struct seccomp_notif and seccomp_notif_resp, and the requests that take them.
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
        id: which one, for the answer.
        thread: the caller's thread id, in the name space of whoever received this.
        call: what it calls.
        arguments: six, of 64 bits.
    """

    id: int
    thread: int
    call: str
    arguments: tuple[int, ...]


def is_available() -> bool:
    """Whether this kernel can hand system calls over (5.0 and later, unless left out)."""
    action = ctypes.c_uint32(_RETURN_NOTIFY)
    try:
        syscalls.seccomp(_GET_ACTION_AVAILABLE, 0, ctypes.byref(action))
    except OSError:
        return False
    return True


def install_filter() -> int:
    """Filter this process and whatever it starts, and return the descriptor that hears of the calls.

    EBUSY when a filter with such a listener is in place already, as inside another sandbox.
    """
    program = b"".join(_program(syscalls.family()))
    instructions = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    whole = Program(len(program) // _INSTRUCTION.size, ctypes.cast(instructions, ctypes.c_void_p))
    try:
        # A call that has been taken is not to be called again because of a signal.
        return syscalls.seccomp(_SET_MODE_FILTER, _FLAG_NEW_LISTENER | _FLAG_WAIT_KILLABLE, ctypes.byref(whole))
    except OSError as failure:
        if failure.errno != errno.EINVAL:  # before Linux 5.19
            raise
    return syscalls.seccomp(_SET_MODE_FILTER, _FLAG_NEW_LISTENER, ctypes.byref(whole))


def _program(family: Iterable[SystemCallNumbers]) -> Iterator[bytes]:
    """One block an architecture: those of the others are jumped over."""
    yield _INSTRUCTION.pack(_LOAD_WORD, 0, 0, _AT_ARCHITECTURE)
    for numbers in family:
        block = list(_architecture(numbers))
        yield _INSTRUCTION.pack(_JUMP_IF_EQUAL, 0, len(block), numbers.audit_arch)
        yield from block
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _RETURN_ALLOW)


def _architecture(numbers: SystemCallNumbers) -> Iterator[bytes]:
    # The last two answer; every jump is counted from the instruction after it.  There is no x32 on the machine, as on
    # most: where the host has it, its calls would pass by all that follows.
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


class Listener:
    """Hears of filtered calls and answers them."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._calls = {
            (numbers.audit_arch, getattr(numbers, name)): name
            for numbers in syscalls.family()
            for name in ("ioctl", "init_module", "finit_module", "delete_module")
        }

    def fileno(self) -> int:
        """What poll(2) takes."""
        return self.descriptor

    def receive(self) -> Notification | None:
        """The next call; None when its caller has gone meanwhile."""
        try:
            answer = fcntl.ioctl(self.descriptor, _RECEIVE, bytes(_NOTIFICATION.size))
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        number, thread, _, call, architecture, _, *arguments = _NOTIFICATION.unpack(answer)
        return Notification(number, thread, self._calls[architecture, call], tuple(arguments))

    def still_waits(self, notification: Notification) -> bool:
        """Whether the caller is still there, so that what was read by its thread id was its own."""
        try:
            fcntl.ioctl(self.descriptor, _IS_VALID, struct.pack("=Q", notification.id))
        except OSError:
            return False
        return True

    def answer(self, notification: Notification, value: int) -> None:
        """Let the call return that value; a negative one is an errno."""
        failed = value < 0
        self._send(_RESPONSE.pack(notification.id, 0 if failed else value, value if failed else 0, 0))

    def let_pass(self, notification: Notification) -> None:
        """Let the kernel do the call."""
        self._send(_RESPONSE.pack(notification.id, 0, 0, _FLAG_CONTINUE))

    def _send(self, response: bytes) -> None:
        try:
            fcntl.ioctl(self.descriptor, _SEND, response)
        except OSError as failure:
            if failure.errno != errno.ENOENT:  # the caller has gone
                raise
