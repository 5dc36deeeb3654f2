"""`borrow`: a thread whose code another one removes while it is used."""

import ctypes
import mmap
import os
import signal
from pathlib import Path

import pytest
import sandboxes

from nvdimmfs.sandbox import borrowed_thread
from nvdimmfs.sandbox.borrowed_thread import GETPID, MUNMAP, borrow

#: xor eax, eax; syscall; ret: a function that calls read(2).
READ = b"\x31\xc0\x0f\x05\xc3"
AFTER_SYSCALL = 4


@pytest.mark.skipif(not borrowed_thread.is_possible(), reason="it knows the registers of x86-64 alone")
def test_a_thread_whose_code_has_gone_ends():
    """Its signals are blocked, so that the kernel kills it by the SIGSEGV; it was continued for ever."""
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(READ)
    code = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGSEGV, signal.SIG_IGN)
        ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t)(code)(reader, code, 1)
        os._exit(0)
    place = f"{code + AFTER_SYSCALL:#x}"
    sandboxes.wait_until(lambda: Path(f"/proc/{child}/syscall").read_text().split()[-1] == place)
    answers = []

    def use(thread):
        answers.append(thread.call(GETPID))
        answers.append(thread.call(MUNMAP, code, mmap.PAGESIZE))
        answers.append(thread.call(GETPID))

    borrow(child, lambda: None, use)
    assert answers == [child, 0]
    with pytest.raises(ChildProcessError):  # it has been waited for
        os.waitpid(child, os.WNOHANG)
    os.close(reader)
    os.close(writer)
