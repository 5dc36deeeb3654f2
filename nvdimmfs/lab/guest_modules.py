"""Modules of a guest's kernel, loaded and unloaded one by one.  Only guests run it.

An emulated machine has a file for that, and a recording a write to it.  In a guest this stands in for the file.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

#: The file of an emulated machine, below /sys: `load NAME` or `unload NAME` is written to it.
MODULES_FILE = "kernel/debug/nvdimmfs/modules"

#: Numbers of system calls (arch/x86/entry/syscalls/syscall_64.tbl, Linux 6.1).
_DELETE_MODULE, _FINIT_MODULE = 176, 313


def change_modules(order: str) -> int:
    """Load a module, or unload it without waiting, and return the length of the order.  OSError, ValueError."""
    verb, _, name = order.strip().partition(" ")
    if verb == "load":
        _load(name)
    elif verb == "unload":
        _call(_DELETE_MODULE, name.encode(), os.O_NONBLOCK)
    else:
        raise ValueError(f"{order!r} is not load or unload and the name of a module")
    return len(order)


def _load(name: str) -> None:
    modules = Path("/lib/modules", os.uname().release)
    file = next((path for path in modules.rglob("*.ko") if path.stem.replace("-", "_") == name), modules / name)
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call(_FINIT_MODULE, descriptor, b"", 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed))
