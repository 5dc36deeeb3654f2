"""`borrow`: a thread whose code another one removes while it is used, and one that has got the id of the caller."""

import contextlib
import ctypes
import mmap
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sandboxes

from nvdimmfs.sandbox import borrowed_thread
from nvdimmfs.sandbox.borrowed_thread import GETPID, MUNMAP, borrow

#: xor eax, eax; syscall; ret: a function that calls read(2).
READ = b"\x31\xc0\x0f\x05\xc3"
AFTER_SYSCALL = 4
#: Where in that page it reads to.
READ_TO = 64


pytestmark = pytest.mark.skipif(not borrowed_thread.is_possible(), reason="it knows the registers of x86-64 alone")


@contextlib.contextmanager
def waiting_child():
    """A process that waits in a read(2) of code of its own: its id, the address of the code, the pipe's other end.

    Its exit status is what read(2) returns.
    """
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(READ)
    code = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGSEGV, signal.SIG_IGN)
        function = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t)(code)
        os._exit(function(reader, code + READ_TO, 1) & 0xFF)
    place = f"{code + AFTER_SYSCALL:#x}"
    sandboxes.wait_until(lambda: Path(f"/proc/{child}/syscall").read_text().split()[-1] == place)
    try:
        yield child, code, writer
    finally:
        os.close(reader)
        os.close(writer)


def in_thread(work):
    """Do it in a thread that has no children of its own."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(work).result()


def test_a_thread_whose_code_has_gone_ends():
    """Its signals are blocked, so that the kernel kills it by the SIGSEGV; it was continued for ever."""
    answers = []
    with waiting_child() as (child, code, _):

        def use(thread):
            answers.append(thread.call(GETPID))
            answers.append(thread.call(MUNMAP, code, mmap.PAGESIZE))
            answers.append(thread.call(GETPID))

        in_thread(lambda: borrow(child, lambda: True, lambda: None, use))
    assert answers == [child, 0]
    with pytest.raises(ChildProcessError):  # it has been waited for
        os.waitpid(child, os.WNOHANG)


def test_a_thread_that_has_got_the_id_of_the_caller_goes_on():
    """execve(2) gives the id of a process's first thread to the calling one, whose registers were changed."""
    with waiting_child() as (child, _, writer):
        in_thread(lambda: borrow(child, lambda: False, pytest.fail, pytest.fail))
        os.write(writer, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
