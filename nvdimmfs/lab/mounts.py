"""File systems on disks, mounted and unmounted again.  Only guests run this, on the standard library and busybox."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from pathlib import Path

from nvdimmfs.lab.asking import Answer, Call, answered

#: The questions about file systems.
QUESTIONS = ("mount", "umount")

#: Bytes of a file system, at the beginning of its disk; they are zeros when it has been unmounted.
LENGTH = 8 << 20

#: Bytes of its blocks, which suit disks with any sectors.
_BLOCK = 4096

_PLACES = Path("/mnt")


def answer(call: Call) -> Answer:
    """Answer a question.  A refusal is the errno's name."""
    return answered(lambda: _answer(call))


def _answer(call: Call) -> Answer:
    (_mount if call["op"] == "mount" else _unmount)(call["dev"])
    return {"result": 0}


def _mount(node: str) -> None:
    """Make a file system on a disk, and mount it as ext4.  OSError; EBUSY when a process has the disk to itself."""
    disk = Path("/dev", node)
    os.close(os.open(disk, os.O_RDWR | os.O_EXCL))
    for command in (["modprobe", "ext4"], ["mke2fs", "-F", "-b", str(_BLOCK), str(disk), str(LENGTH // _BLOCK)]):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise OSError(errno.EIO, " ".join(command))
    _require_done(_libc().mount(bytes(disk), bytes(_place(node)), b"ext4", 0, None))


def _unmount(node: str) -> None:
    """Unmount a disk, and write zeros over its file system, whose bytes depend on the time.  OSError."""
    _require_done(_libc().umount(bytes(_place(node))))
    descriptor = os.open(f"/dev/{node}", os.O_WRONLY)
    try:
        os.pwrite(descriptor, bytes(LENGTH), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _place(node: str) -> Path:
    place = _PLACES / node
    place.mkdir(exist_ok=True)
    return place


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _require_done(result: int) -> None:
    if result:
        refusal = ctypes.get_errno()
        raise OSError(refusal, os.strerror(refusal))
