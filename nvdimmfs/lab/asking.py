"""Ask the kernel that this process runs on, or a mounted machine: questions, one by one, and the answers.

    python3 asking.py < QUESTIONS.jsonl > ANSWERS.jsonl
    python3 asking.py --sys DIR/sys --dev DIR/dev < QUESTIONS.jsonl      # on a mounted machine, to try the questions

A question is a JSON object on a line: `op` and its arguments.  The answers are the same lines with a `result`.  The
module runs in guests, too, so it imports the standard library alone.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import mmap
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, cast

#: More than any attribute has, in bytes.
READ_LENGTH = 65536

#: EHWPOISON (include/uapi/asm-generic/errno.h), which Python names since 3.14 only.
_EHWPOISON = 133

#: Where the memory of an ioctl's argument ends, beyond which nothing is mapped: far from all that a process has, and an
#: address of more than 32 bits.
MEMORY_END = 0x2000_0000_0000

#: Of mmap(2): refuse a place that is taken (include/uapi/asm-generic/mman-common.h).
_MAP_FIXED_NOREPLACE = 0x100000

#: Seconds in which asynchronous probes of the kernel end after a question of `CHANGES`.
SETTLE = 0.05

#: The questions after which a kernel is left alone.
CHANGES = ("write", "ioctl")


class Row(TypedDict, total=False):
    """One node of a dumped subtree: a link has `link`, a file `size` and, when readable, `data` or `errno`."""

    path: str
    mode: str
    size: int
    link: str
    data: str
    errno: str
    unstable: bool


class Call(TypedDict, total=False):
    """One question: `op` and its arguments.  Text is latin-1, one character a byte; paths are relative to /sys."""

    op: str
    path: str
    data: str
    skip: list[str]
    depth: int
    dev: str
    offset: int
    length: int
    hex: str
    request: int
    open: str
    value: int
    way: str
    seconds: float
    argv: list[str]


class Answer(TypedDict, total=False):
    """The answer of the kernel: `errno` alone, or what the question asks for."""

    errno: str
    data: str
    wrote: int
    names: list[str]
    link: str
    mode: str
    size: int
    rows: list[Row]
    hex: str
    result: int
    rc: int
    stdout: str
    stderr: str
    events: list[list[str]]


def ask(call: Call, sys_folder: Path = Path("/sys"), dev: Path = Path("/dev")) -> Answer:
    """Ask one question.  A refusal is the errno's name.  KeyError, ValueError for what is no question.

    Args:
        call: the question.
        sys_folder: where /sys is.
        dev: where /dev is.
    """
    return answered(lambda: _ask(call, sys_folder, dev))


def answered(ask_kernel: Callable[[], Answer]) -> Answer:
    """What a call returns, or as the answer the name of the errno with which the kernel refuses it."""
    try:
        return ask_kernel()
    except OSError as refusal:
        return {"errno": errno_name(refusal.errno)}


def errno_name(number: int | None) -> str:
    """The name of an errno, as answers have it since the first recordings; the number where they have none."""
    return str(number) if number == _EHWPOISON else errno.errorcode.get(number or 0, str(number))


def _ask(call: Call, sys_folder: Path, dev: Path) -> Answer:
    path = f"{sys_folder}/{call.get('path', '')}"  # as it stands: a Path would lose the slash at its end
    match call["op"]:
        case "read" | "write":
            return _transfer(path, call)
        case "pread" | "pwrite":
            return _transfer(f"{dev}/{call['dev'].removeprefix('/dev/')}", call)
        case "ioctl":
            return _ioctl(f"{dev}/{call['dev'].removeprefix('/dev/')}", call)
        case "ls":
            return {"names": sorted(os.listdir(path))}  # noqa: PTH208
        case "readlink":
            return {"link": os.readlink(path)}  # noqa: PTH115  # the text as it stands
        case "stat":
            status = os.lstat(path)
            return {"mode": stat.filemode(status.st_mode), "size": status.st_size}
        case "dump":
            return {"rows": list(_rows(sys_folder, call["path"], call.get("skip", []), call.get("depth")))}
        case "sleep":
            time.sleep(call["seconds"])
            return {}
        case "run":
            return _run(call["argv"])
    raise ValueError(f"there is no question {call['op']!r}")


def _run(argv: list[str]) -> Answer:
    """Run a program.  What it prints is UTF-8; other bytes are written as hexadecimal escapes."""
    done = subprocess.run(
        argv, capture_output=True, text=True, errors="backslashreplace", stdin=subprocess.DEVNULL, check=False
    )
    return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def _transfer(path: str, call: Call) -> Answer:
    """Read or write, from the beginning or at an offset."""
    writes = call["op"] in ("write", "pwrite")
    descriptor = os.open(path, os.O_WRONLY if writes else os.O_RDONLY)
    try:
        match call["op"]:
            case "read":
                return {"data": os.read(descriptor, READ_LENGTH).decode("latin-1")}
            case "write":
                return {"wrote": os.write(descriptor, call["data"].encode("latin-1"))}
            case "pread":
                return {"hex": os.pread(descriptor, call["length"], call["offset"]).hex()}
        wrote = os.pwrite(descriptor, bytes.fromhex(call["hex"]), call["offset"])
        os.fsync(descriptor)
        return {"wrote": wrote}
    finally:
        os.close(descriptor)


def _ioctl(path: str, call: Call) -> Answer:
    """Call ioctl(2) with a value, or with memory, which is in the answer if it was changed."""
    data = b"" if "value" in call else bytes.fromhex(call["hex"])
    descriptor = os.open(path, os.O_RDONLY if call.get("open") == "r" else os.O_RDWR)
    try:
        with _mapped(data) as memory:
            result = _call_ioctl(descriptor, call["request"], call.get("value", MEMORY_END - len(data)))
            after = bytes(memory)
    finally:
        os.close(descriptor)
    return {"result": result} if after == data else {"result": result, "hex": after.hex()}


def _call_ioctl(descriptor: int, request: int, argument: int) -> int:
    ctypes.set_errno(0)
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.ioctl(descriptor, ctypes.c_ulong(request), ctypes.c_void_p(argument))
    if refusal := ctypes.get_errno():  # a result may be negative and no errno
        raise OSError(refusal, os.strerror(refusal))
    return result


def mapped_length(data: bytes) -> int:
    """How many bytes below `MEMORY_END` are mapped for an argument: whole pages, with zeros in front of it."""
    return -(-max(len(data), 1) // mmap.PAGESIZE) * mmap.PAGESIZE


@contextmanager
def _mapped(data: bytes) -> Iterator[ctypes.Array[ctypes.c_char]]:
    """Bytes that end at `MEMORY_END`."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    size = mapped_length(data)
    start = ctypes.c_void_p(MEMORY_END - size)
    rights, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
    if libc.mmap(start, ctypes.c_size_t(size), rights, flags, -1, ctypes.c_long(0)) != start.value:
        raise MemoryError(f"the memory below {MEMORY_END:#x} is taken")
    try:
        memory = (ctypes.c_char * len(data)).from_address(MEMORY_END - len(data))
        memory.raw = data
        yield memory
    finally:
        libc.munmap(start, ctypes.c_size_t(size))


def _rows(sys_folder: Path, path: str, skip: list[str], depth: int | None) -> Iterator[Row]:
    """A node and all below it, by name."""
    if any(word in path for word in skip):
        return
    place = f"{sys_folder}/{path}"  # as it stands: a slash at its end follows a link
    status = os.lstat(place)
    row: Row = {"path": path, "mode": stat.filemode(status.st_mode)}
    if stat.S_ISLNK(status.st_mode):
        row["link"] = os.readlink(place)  # noqa: PTH115
    elif stat.S_ISREG(status.st_mode):
        row["size"] = status.st_size
        if status.st_mode & 0o444:
            content = ask({"op": "read", "path": path}, sys_folder)
            row = cast("Row", {**row, **content})  # the answer is `data` or `errno`
    yield row
    if stat.S_ISDIR(status.st_mode) and depth != 0:
        for name in sorted(os.listdir(place)):  # noqa: PTH208
            yield from _rows(sys_folder, f"{path}/{name}", skip, None if depth is None else depth - 1)


def main() -> None:
    """Answer the questions on stdin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sys", type=Path, default=Path("/sys"), dest="sys_folder")
    parser.add_argument("--dev", type=Path, default=Path("/dev"))
    parser.add_argument("--settle", type=float, default=SETTLE, help="seconds of rest after each write (%(default)s)")
    options = parser.parse_args()
    for line in sys.stdin:
        call: Call = json.loads(line)
        answer = ask(call, options.sys_folder, options.dev)
        if call["op"] in CHANGES:
            time.sleep(options.settle)
        print(json.dumps({**call, "result": answer}), flush=True)  # noqa: T201  # a program of its own


if __name__ == "__main__":
    main()
