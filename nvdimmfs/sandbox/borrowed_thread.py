"""Making system calls in a thread of the command, in the place of the call for which it waits (ptrace(2)).

Only a process itself can map a file into its memory, and a listener of seccomp can let a call pass or not, but not
change it.  So the thread is stopped on its way back from the call, executes others that the supervisor chooses, and
returns with the result of those.  What it has open, its signals and its registers are as if it had made one call.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import signal
import struct
from collections.abc import Callable

from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.seccomp import MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE
from nvdimmfs.units import PAGE_SIZE, U32_MASK, U64_MASK, as_signed

# System calls of x86-64 (asm/unistd_64.h).
MMAP = 9
MUNMAP = 11
CLOSE = 3
GETPID = 39
GETTID = 186
MOUNT = 165
RT_TGSIGQUEUEINFO = 297

#: The same of i386 (asm/unistd_32.h): mmap2(2), whose offset is in pages, stands for mmap(2).
_OF_32_BITS = {MMAP: 192, MUNMAP: 91, CLOSE: 6, GETPID: 20, GETTID: 224, RT_TGSIGQUEUEINFO: 335}

#: Protection of mmap(2) (include/uapi/asm-generic/mman-common.h).
_PROT_READ_WRITE = 0x3

# Requests and an option of ptrace(2), and the event of a thread that stops because it was interrupted
# (include/uapi/linux/ptrace.h).
_SEIZE, _INTERRUPT, _DETACH, _SYSCALL = 0x4206, 0x4207, 17, 24
_GET_REGISTERS, _SET_REGISTERS = 12, 13
_GET_SIGNAL_MASK, _SET_SIGNAL_MASK = 0x420A, 0x420B
_MARK_SYSCALLS = 1
_EVENT_STOP = 128

#: How wait(2) reports a stop at a system call, with that option.
_AT_SYSCALL = signal.SIGTRAP | 0x80

#: Flags of wait(2) (include/uapi/linux/wait.h): for threads of any kind, but only those that this thread traces.  It
#: traces one.  A wait for its id would never end if another thread of it executes a program, and so takes over the id.
_WAIT_OWN = 0x40000000 | 0x20000000

#: struct user_regs_struct (arch/x86/include/asm/user_64.h), and the places of registers in it.
_REGISTERS = struct.Struct("=27Q")
_RAX, _ORIG_RAX, _RIP, _RSP = 10, 15, 16, 19
_ARGUMENTS = (14, 13, 12, 7, 9, 8)
_ARGUMENTS_OF_32_BITS = (5, 11, 12, 13, 14, 4)
_NO_CALL = U64_MASK  # orig_rax of a thread that is in no system call, so that none is restarted

#: Bytes of the instruction `syscall`, and of `int 0x80`.  What 32-bit programs use instead of the latter (`sysenter`)
#: returns after one, too, at which the kernel restarts a call (do_fast_syscall_32, arch/x86/entry/common.c).
_SYSCALL_LENGTH = 2

#: The largest result of a call of 32 bits that is no error (IS_ERR_VALUE).
_LARGEST_RESULT = U32_MASK - 4095

#: Bytes of the kernel's sigset_t, and one with all signals.
_MASK = struct.Struct("=Q")
_ALL_SIGNALS = U64_MASK

#: Bytes below the stack pointer that a function may use (System V ABI, AMD64 supplement, 3.2.2).
_RED_ZONE = 128


class NotBorrowedError(Exception):
    """The thread cannot be used: a debugger has it, it has filters of its own, the host forbids it, or it is gone."""


class _EndedError(Exception):
    """The thread ended while it was stopped, as SIGKILL or another thread's execve(2) makes it do."""


def is_possible() -> bool:
    """Whether this module knows the registers of this machine's processors."""
    return platform.machine() == "x86_64"


class BorrowedThread:
    """A thread that is stopped, in `borrow`.

    Attributes:
        result: what its call will have returned, a negative errno included.
        is_native: whether it waits in a call of a 64-bit program.  Else it makes those of a 32-bit one.
    """

    def __init__(self, thread: int, *, is_native: bool = True) -> None:
        self.is_native = is_native
        self._thread = thread
        self._signals: list[int] = []  # that stopped it, and have not been delivered
        self._registers: list[int] = []
        self.result = -errno.EIO

    def call(self, number: int, *arguments: int) -> int:
        """Execute a system call and return what it returns, a negative errno included.

        Args:
            number: the call's number on x86-64.
            arguments: of the call, an offset of mmap(2) in bytes.
        """
        places, mask = _ARGUMENTS, U64_MASK
        if not self.is_native:
            if number == MMAP:
                arguments = (*arguments[:5], arguments[5] // PAGE_SIZE)
            number, places, mask = _OF_32_BITS[number], _ARGUMENTS_OF_32_BITS, U32_MASK
        registers = list(self._registers)
        registers[_RIP] -= _SYSCALL_LENGTH
        registers[_RAX], registers[_ORIG_RAX] = number, _NO_CALL
        for place, value in zip(places, arguments, strict=False):
            registers[place] = value & mask
        self._set_registers(registers)
        for _ in ("entry", "exit"):
            self._trace(_SYSCALL)
            self._wait_for(_AT_SYSCALL)
        value = self._get_registers()[_RAX]
        if self.is_native or value & U32_MASK > _LARGEST_RESULT:
            return as_signed(value, 64 if self.is_native else 32)
        return value & U32_MASK

    def scratch(self, size: int) -> int:
        """The address of memory of its stack that nothing uses."""
        return self._registers[_RSP] - _RED_ZONE - size & ~0xF

    def with_page(self, use: Callable[[int], int], place: int = 0) -> int:
        """What `use` returns of the address of a page of memory; a negative errno where none can be mapped.

        Args:
            use: is called while the page is mapped.
            place: the address, where nothing is mapped; 0 for any.
        """
        flags = MAP_PRIVATE | MAP_ANONYMOUS | (MAP_FIXED_NOREPLACE if place else 0)
        page = self.call(MMAP, place, PAGE_SIZE, _PROT_READ_WRITE, flags, -1, 0)
        if page < 0:
            return page
        result = use(page)
        self.call(MUNMAP, page, PAGE_SIZE)
        return result

    def stop(self) -> None:
        """Wait until it has stopped."""
        while True:
            status = self._wait()
            if status >> 16 == _EVENT_STOP:
                break
            self._signals.append(os.WSTOPSIG(status))
            self._trace(_SYSCALL)
        self._registers = self._get_registers()

    def resume(self, mask: bytes) -> None:
        """Let it return with `result` from the call for which it waited."""
        self._registers[_RAX], self._registers[_ORIG_RAX] = self.result & U64_MASK, _NO_CALL
        self._set_registers(self._registers)
        libc.ptrace(_SET_SIGNAL_MASK, self._thread, _MASK.size, mask)
        self.leave()

    def leave(self) -> None:
        """Let it go on with what it was about to do."""
        self._trace(_DETACH, self._signals.pop() if self._signals else 0)

    def block_signals(self) -> bytes:
        """Block all signals, and return those that were blocked."""
        mask = bytearray(_MASK.size)
        libc.ptrace(_GET_SIGNAL_MASK, self._thread, _MASK.size, mask)
        libc.ptrace(_SET_SIGNAL_MASK, self._thread, _MASK.size, _MASK.pack(_ALL_SIGNALS))
        return bytes(mask)

    def _wait_for(self, stop: int) -> None:
        """Wait for a kind of stop.  A SIGSTOP, which cannot be blocked, is passed on at the end.

        Any other signal is one that the kernel forces on the thread, as its next instruction cannot be executed:
        another thread has unmapped or replaced the code.  Blocked as it is, it kills the process.
        """
        while (status := self._wait()) >> 8 != stop:
            signal_ = 0 if status >> 16 else os.WSTOPSIG(status)
            if signal_ == signal.SIGSTOP:
                self._signals.append(signal_)
                signal_ = 0
            self._trace(_SYSCALL, signal_)

    def _wait(self) -> int:
        _, status = os.waitpid(-1, _WAIT_OWN)
        if not os.WIFSTOPPED(status):
            raise _EndedError
        return status

    def let_go(self) -> None:
        """Wait for the end of a thread that is ending.  Until this process has, its process cannot end.

        If it has stopped once more instead, it goes on.
        """
        with contextlib.suppress(ChildProcessError):
            while os.WIFSTOPPED(os.waitpid(-1, _WAIT_OWN)[1]):
                with contextlib.suppress(ProcessLookupError):
                    self._trace(_DETACH)
                    return

    def _trace(self, request: int, signal_: int = 0) -> None:
        libc.ptrace(request, self._thread, 0, signal_)

    def _get_registers(self) -> list[int]:
        registers = bytearray(_REGISTERS.size)
        libc.ptrace(_GET_REGISTERS, self._thread, 0, registers)
        return list(_REGISTERS.unpack(registers))

    def _set_registers(self, registers: list[int]) -> None:
        libc.ptrace(_SET_REGISTERS, self._thread, 0, _REGISTERS.pack(*registers))


def borrow(
    thread: int,
    is_waiting: Callable[[], bool],
    wake: Callable[[], None],
    use: Callable[[BorrowedThread], None],
    *,
    is_native: bool = True,
) -> None:
    """Stop a thread that waits in a system call, use it, and let it return from the call with its `result`.

    If it ends meanwhile, `use` may not be called, or not be completed.  All of it happens in one thread of this
    process, as ptrace(2) knows tracers by thread.

    Raises:
        NotBorrowedError: it cannot be stopped, and goes on waiting: `wake` was not called.

    Args:
        thread: the thread id.
        is_waiting: whether the call still waits.  If it does not, the thread that has the id by now is another one,
            such as that which has executed a program; that one goes on, and nothing of it changes.
        wake: lets the call return.
        use: has it make system calls.
        is_native: whether its call is that of a 64-bit program.
    """
    try:
        libc.ptrace(_SEIZE, thread, 0, _MARK_SYSCALLS)
    except OSError as failure:
        raise NotBorrowedError from failure
    taken = BorrowedThread(thread, is_native=is_native)
    try:
        is_caller = is_waiting()
        libc.ptrace(_INTERRUPT, thread, 0, 0)
        if is_caller:
            wake()
        taken.stop()
        if not is_caller:
            taken.leave()
            return
        mask = taken.block_signals()
        try:
            use(taken)
        finally:
            taken.resume(mask)
    except (_EndedError, ProcessLookupError, ChildProcessError):
        taken.let_go()
