"""Make system calls as a careless, unlucky or hostile caller does, and print what the kernel answered, a call a line.

    python3 ask_calls.py modules >> tests/recordings/calls/modules.jsonl
    python3 ask_calls.py ioctls >> tests/recordings/calls/ioctls.jsonl

It needs nothing but Python, root and /dev/pts, because it runs in a guest as well as in a sandbox.  A line is
`[WHAT, ANSWER]`: what the call returned, or the name of its errno.
"""

import ctypes
import errno
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import warnings
from pathlib import Path

PAGE = 4096
NONE, READ, READ_WRITE = 0, 1, 3
PRIVATE_ANONYMOUS = 0x22
MIB = 1 << 20

# System calls of x86-64 (asm/unistd_64.h), and the bit of those of the x32 ABI.
IOCTL, INIT_MODULE, DELETE_MODULE, FINIT_MODULE = 16, 175, 176, 313
X32 = 0x40000000

# ioctls of a DIMM (include/uapi/linux/ndctl.h): the label area's size, its bytes.
GET_SIZE = 0xC00C4E04
GET_DATA = 0xC00C4E05
SET_DATA = 0xC00C4E06

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def call(number, *arguments):
    """What a system call returns, or the name of its errno.  Bytes are passed as their address."""
    words = [word if isinstance(word, bytes) else ctypes.c_long(word) for word in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else result


def memory(data, behind=None, protection=READ_WRITE):
    """The address of memory that ends with some bytes; what is behind is not mapped, or mapped with that protection."""
    size = -(-max(len(data), 1) // PAGE) * PAGE
    base = libc.mmap(None, size + PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0)
    ctypes.memmove(base + size - len(data), data, len(data))
    if behind is None:
        libc.munmap(base + size, PAGE)
    else:
        libc.mprotect(base + size, PAGE, behind)
    libc.mprotect(base, size, protection)
    return base + size - len(data)


def unmapped():
    base = libc.mmap(None, PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0)
    libc.munmap(base, PAGE)
    return base


BAD_POINTERS = {"NULL": lambda: 0, "1": lambda: 1, "unmapped": unmapped, "the kernel's": lambda: -PAGE}


# Modules


def modules():
    yield from names_of_modules()
    yield from images()
    yield from files()
    yield from a_module_that_is_loaded()
    yield from a_module_that_is_not_loaded()
    yield from without_rights()


def names_of_modules():
    for name, pointer in BAD_POINTERS.items():
        yield f"delete_module at {name}", call(DELETE_MODULE, pointer(), os.O_NONBLOCK)
    for name in (b"", b"no_such", b"../x", b"nd-pmem", b"nd_pmem\n", b" nd_pmem", b"nd_pmem x", b"\xff\xfe"):
        yield f"delete_module of {name}", call(DELETE_MODULE, name, os.O_NONBLOCK)
    for length in (54, 55, 56, 57, 5000):
        yield f"delete_module of {length} letters", call(DELETE_MODULE, b"a" * length, os.O_NONBLOCK)
        endless = memory(b"a" * length)
        yield f"delete_module of {length} letters without an end", call(DELETE_MODULE, endless, os.O_NONBLOCK)
    for name in (b"libnvdimm", b"libnvdimm\0x"):
        for flags in (0, os.O_NONBLOCK):
            yield f"delete_module of {name}, flags {flags}", call(DELETE_MODULE, name, flags)
    yield "delete_module as x32", call(X32 | DELETE_MODULE, b"no_such", os.O_NONBLOCK)


def images():
    for name, pointer in BAD_POINTERS.items():
        for length in (0, 1, 63, 64, PAGE, 64 * MIB, 64 * MIB + 1, 1024 * MIB):
            yield f"init_module of {length} bytes at {name}", call(INIT_MODULE, pointer(), length, b"")
    for length in (1 << 46, (1 << 63) - 1, -PAGE, -1):
        yield f"init_module of {length} bytes", call(INIT_MODULE, 0, length, b"")
    for length in (63, 64, PAGE, 65 * MIB):
        yield f"init_module of {length} zeros", call(INIT_MODULE, bytes(length), length, b"")
    yield "init_module that ends too early", call(INIT_MODULE, memory(bytes(100)), 101, b"")
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 1, 62, 1, 0, 0, 1 << 62, 0, 64, 0, 0, 64, 9, 1)
    yield "init_module of a header alone", call(INIT_MODULE, header, len(header), b"")
    yield "init_module of a header alone, without parameters", call(INIT_MODULE, header, len(header), 0)


def files():
    for number in (-1, 999):
        yield f"finit_module of {number}", call(FINIT_MODULE, number, b"", 0)
        yield f"finit_module of {number}, unknown flags", call(FINIT_MODULE, number, b"", 8)
    Path("/run/empty").touch()
    Path("/run/short").write_bytes(b"x" * 63)
    Path("/run/nd_pmem.ko").write_bytes(b"x" * 10000)
    for path in ("/run/empty", "/run/short", "/run/nd_pmem.ko", "/dev/null", "/dev/zero", "/run", "/proc/self/status"):
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_PATH):
            if (Path(path).is_dir() and flags in (os.O_WRONLY, os.O_RDWR)) or (path == "/proc/self/status" and flags):
                continue
            file = os.open(path, flags)
            yield f"finit_module of {path}, opened with {flags}", call(FINIT_MODULE, file, b"", 0)
            os.close(file)
    attribute = os.open("/sys/bus/nd/drivers_autoprobe", os.O_RDONLY)
    yield "finit_module of an attribute", call(FINIT_MODULE, attribute, b"", 0)
    file = os.open("/run/nd_pmem.ko", os.O_RDONLY)
    for flags in (1, 2, 3, 4, 8, -1, 1 << 32):
        yield f"finit_module with flags {flags}", call(FINIT_MODULE, file, b"", flags)
    for length in (65 * MIB, 1 << 31, 1 << 40):
        os.truncate("/run/nd_pmem.ko", length)
        yield f"finit_module of a file of {length} bytes", call(FINIT_MODULE, file, b"", 0)
    os.close(file)
    nameless = os.memfd_create("x")
    os.write(nameless, b"x" * 100)
    yield "finit_module of a file in memory", call(FINIT_MODULE, nameless, b"", 0)
    yield "finit_module of a pipe", call(FINIT_MODULE, os.pipe()[0], b"", 0)
    yield "finit_module of a socket", call(FINIT_MODULE, socket.socket().fileno(), b"", 0)


def a_module_that_is_loaded():
    (path,) = Path("/lib/modules", os.uname().release).rglob("nd_pmem.ko")
    image = path.read_bytes()
    file = os.open(path, os.O_RDONLY)
    for parameters in (b"", 0, 1):
        yield f"finit_module again, parameters {parameters}", call(FINIT_MODULE, file, parameters, 0)
        yield f"init_module again, parameters {parameters}", call(INIT_MODULE, image, len(image), parameters)
    yield "init_module of one half", call(INIT_MODULE, image, len(image) // 2, b"")
    Path("/run/another-name").write_bytes(image)
    other = os.open("/run/another-name", os.O_RDONLY)
    yield "finit_module of a copy", call(FINIT_MODULE, other, b"", 0)


def a_module_that_is_not_loaded():
    for region in Path("/sys/bus/nd/drivers/nd_region").glob("region*"):
        (region / "driver/unbind").write_text(region.name)
    (path,) = Path("/lib/modules", os.uname().release).rglob("nd_pmem.ko")
    file = os.open(path, os.O_RDONLY)
    image = path.read_bytes()
    yield "delete_module", call(DELETE_MODULE, b"nd_pmem", os.O_NONBLOCK)
    for parameters in (0, 1):
        yield f"finit_module, parameters {parameters}", call(FINIT_MODULE, file, parameters, 0)
        yield f"init_module, parameters {parameters}", call(INIT_MODULE, image, len(image), parameters)
    yield "finit_module as if compressed", call(FINIT_MODULE, file, b"", 4)
    yield "delete_module again", call(DELETE_MODULE, b"nd_pmem", os.O_NONBLOCK)
    yield "finit_module", call(FINIT_MODULE, file, b"", 0)
    yield "delete_module that may wait", call(DELETE_MODULE, b"nd_pmem", 0)
    yield "init_module", call(INIT_MODULE, image, len(image), b"")


def without_rights():
    """In a process that gives them up."""

    def try_all():
        os.setuid(65534)
        yield "delete_module without rights", call(DELETE_MODULE, b"no_such", os.O_NONBLOCK)
        yield "delete_module of nothing without rights", call(DELETE_MODULE, 0, os.O_NONBLOCK)
        yield "init_module without rights", call(INIT_MODULE, 0, 0, 0)
        yield "finit_module without rights", call(FINIT_MODULE, -1, 0, 99)

    yield from in_child(try_all)


# ioctls


def ask(file, request, argument):
    return call(IOCTL, file, request, argument)


def ioctls():
    dimm = os.open("/dev/nmem0", os.O_RDWR)
    yield from pointers(dimm)
    yield from descriptors(dimm)
    yield from requests(dimm)
    yield from other_files()
    yield from from_elsewhere(dimm)


def pointers(dimm):
    for name, request, data in (
        ("GET_SIZE", GET_SIZE, bytes(12)),
        ("GET_DATA", GET_DATA, struct.pack("=II", 0, 5000) + bytes(5004)),
        ("SET_DATA", SET_DATA, struct.pack("=II", 0, 5000) + bytes(5004)),
    ):
        for what, pointer in BAD_POINTERS.items():
            yield f"{name} at {what}", ask(dimm, request, pointer())
        for what, protection in (("that may not be read", NONE), ("that may not be written", READ)):
            yield f"{name} in memory {what}", ask(dimm, request, memory(data, protection=protection))
        for cut in (1, 4, 8, len(data) - 8, len(data) - 1, len(data)):
            yield f"{name} {cut} bytes short", ask(dimm, request, memory(data[: len(data) - cut]))
            yield f"{name} {cut} bytes before others' memory", ask(dimm, request, memory(data[:-cut], behind=NONE))
        yield f"{name} {len(data)} bytes", ask(dimm, request, memory(data))
    for length in (1 << 17, (1 << 17) + 1, 4 * MIB, 4 * MIB + 1, 1 << 31, 0xFFFFFFF0, 0xFFFFFFFF):
        for name, request in (("GET_DATA", GET_DATA), ("SET_DATA", SET_DATA)):
            argument = struct.pack("=II", 0, length) + bytes(512)
            yield f"{name} of {length} bytes that are not there", ask(dimm, request, memory(argument))
            yield f"{name} of {length} bytes", ask(dimm, request, memory(argument + bytes(5 * MIB)))


def descriptors(dimm):
    argument = memory(bytes(12))
    for number in (-1, 999, 1 << 31):
        yield f"descriptor {number}", ask(number, GET_SIZE, argument)
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_PATH, os.O_RDONLY | os.O_NONBLOCK):
        file = os.open("/dev/nmem0", flags)
        yield f"GET_SIZE, opened with {flags}", ask(file, GET_SIZE, argument)
        yield f"SET_DATA, opened with {flags}", ask(file, SET_DATA, memory(struct.pack("=II", 0, 0) + bytes(4)))
        os.close(file)
        yield f"GET_SIZE, closed, opened with {flags}", ask(file, GET_SIZE, argument)
    high = os.open("/dev/null", os.O_RDONLY)
    for number in (300, 1000):
        os.dup2(dimm, number)
        yield f"GET_SIZE, descriptor {number}", ask(number, GET_SIZE, argument)
        yield f"GET_SIZE, descriptor {number} and 32 bits more", ask(number | 1 << 32, GET_SIZE, argument)
        os.dup2(high, number)
        yield f"GET_SIZE, descriptor {number}, another file now", ask(number, GET_SIZE, argument)
    again = os.open(f"/proc/self/fd/{dimm}", os.O_RDONLY)
    yield "GET_SIZE, opened again by /proc", ask(again, GET_SIZE, argument)


def requests(dimm):
    argument = memory(bytes(PAGE))
    for number in range(0, 256, 15):
        yield f"number {number}", ask(dimm, 0x4E00 | number, argument)
        yield f"number {number} at NULL", ask(dimm, 0x4E00 | number, 0)
    for request in (0x4E04, 0x40004E04, 0xFFFF4E04, GET_SIZE | 1 << 32, GET_SIZE | 0xDEAD << 48):
        yield f"request {request:#x}", ask(dimm, request, argument)


def other_files():
    argument = memory(bytes(PAGE))
    Path("/run/file").touch()
    files = {
        "/dev/null": os.open("/dev/null", os.O_RDWR),
        "/dev/zero": os.open("/dev/zero", os.O_RDWR),
        "a file": os.open("/run/file", os.O_RDWR),
        "a folder": os.open("/run", os.O_RDONLY),
        "an attribute": os.open("/sys/bus/nd/drivers_autoprobe", os.O_RDONLY),
        "a socket": socket.socket(socket.AF_UNIX).fileno(),
        "a pipe": os.pipe()[0],
        "memory": os.memfd_create("x"),
        "a terminal": os.openpty()[1],
        "its other end": os.openpty()[0],
    }
    for name, file in files.items():
        for request in (GET_SIZE, GET_DATA, 0x4E00, 0x4EFF):
            yield f"request {request:#x} on {name}", ask(file, request, argument)
            if name != "an attribute":  # FUSE looks there before it asks
                yield f"request {request:#x} on {name} at NULL", ask(file, request, 0)


def from_elsewhere(dimm):
    def get_size():
        argument = memory(bytes(12))
        answer = ask(dimm, GET_SIZE, argument)
        yield "answer", [answer, ctypes.string_at(argument, 12).hex()]

    def named(name, answers):
        return ((name, answer) for _, answer in answers)

    yield from named("GET_SIZE", get_size())
    yield from named("GET_SIZE in a child", in_child(get_size))
    yield from named("GET_SIZE in a thread", in_thread(get_size))
    yield from named("GET_SIZE in a child's thread", in_child(lambda: in_thread(get_size)))
    yield from named("GET_SIZE in a child of a thread", in_thread(lambda: in_child(get_size)))
    program = [sys.executable, __file__, "inherited", str(dimm)]
    done = subprocess.run(program, check=True, capture_output=True, pass_fds=[dimm])
    yield "GET_SIZE in another program", json.loads(done.stdout)[1]
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"x"], [dimm])
    _, (received,), _, _ = socket.recv_fds(theirs, 1, 1)
    yield "GET_SIZE, descriptor from a socket", ask(received, GET_SIZE, memory(bytes(12)))


def inherited():
    argument = memory(bytes(12))
    answer = ask(int(sys.argv[2]), GET_SIZE, argument)
    yield "answer", [answer, ctypes.string_at(argument, 12).hex()]


def in_child(questions):
    """Ask in another process."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of a fork beside other threads: that is the question
        child = os.fork()
    if child == 0:
        os.write(writer, json.dumps(list(questions())).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        found = json.load(answers)
    os.waitpid(child, 0)
    return found


def in_thread(questions):
    """Ask in another thread."""
    found = []
    thread = threading.Thread(target=lambda: found.extend(questions()))
    thread.start()
    thread.join()
    return found


if __name__ == "__main__":
    for question in {"modules": modules, "ioctls": ioctls, "inherited": inherited}[sys.argv[1]]():
        print(json.dumps(question), flush=True)
