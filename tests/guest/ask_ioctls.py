"""Put questions to the kernel it runs on: JSON objects, one a line, from stdin; each comes back with its answer.

    python3 ask_ioctls.py < questions.jsonl > tests/recordings/ioctl/story.jsonl

It needs only Python and root, because it runs in a guest.  tests/recordings/README.md describes what the questions
are; the answers of a recording are ignored, so that a recording can be asked again.  Memory for an ioctl ends where no
memory is, so that the kernel cannot read beyond what the question describes.
"""

import ctypes
import errno
import json
import os
import re
import sys
import time
from pathlib import Path

DEVICES = Path("/sys/bus/nd/devices")
PAGE = 4096
PROT_NONE, PROT_READ, PROT_READ_WRITE = 0, 1, 3
MAP_PRIVATE_ANONYMOUS, MAP_SHARED_ANONYMOUS = 0x22, 0x21
SETTLE = 0.1

# Keys: system calls on x86-64, an operation, a keyring; what all keys are encrypted with.
SYS_ADD_KEY, SYS_KEYCTL, KEYCTL_UNLINK, SESSION_KEYRING = 248, 250, 9, -3
MASTER = bytes(range(32))
keys = {}

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


def from_hex(text):
    """Bytes of words like 0102 and 00*4096."""
    words = (word.partition("*") for word in text.split())
    return b"".join(bytes.fromhex(data) * int(times or 1) for data, _, times in words)


def to_hex(data):
    runs = re.findall(rb"(?s)(.)(\1{7,})|(.)", data)
    words, plain = [], ""
    for first, more, single in runs:
        if single:
            plain += single.hex()
            continue
        words += [plain, f"{first.hex()}*{1 + len(more)}"]
        plain = ""
    return " ".join(filter(None, [*words, plain]))


def region_of(dimm):
    """The regions of a new machine are numbered as its workers happen to run."""
    for mapping in DEVICES.glob("region*/mapping0"):
        if mapping.read_text().startswith(f"{dimm},"):
            return mapping.parent.name
    raise LookupError(dimm)


def seed_of(dimm):
    return (DEVICES / region_of(dimm) / "namespace_seed").read_text().strip()


def resolve(text):
    text = re.sub(r"\{key ([^}]+)\}", lambda match: f"{keys[match[1]]:#010x}", text)  # always as long
    text = re.sub(r"\{region of (\w+)\}", lambda match: region_of(match[1]), text)
    return re.sub(r"\{seed of (\w+)\}", lambda match: seed_of(match[1]), text)


def ioctl(question):
    data = from_hex(question.get("memory", ""))
    size = max(1, -(-len(data) // PAGE)) * PAGE
    base = libc.mmap(None, size + PAGE, PROT_READ_WRITE, MAP_SHARED_ANONYMOUS, -1, 0)
    libc.mprotect(base + size, PAGE, PROT_NONE)
    at = base + size - len(data)
    ctypes.memmove(at, data, len(data))
    if question.get("constant"):
        libc.mprotect(base, size, PROT_READ)
    file = os.open("/dev/" + question["ioctl"], os.O_RDONLY if question.get("open") == "r" else os.O_RDWR)
    argument = question.get("value", at)
    if question.get("by") == "nobody":
        result, refusal = as_nobody(lambda: ask(file, question["request"], argument))
    else:
        result, refusal = ask(file, question["request"], argument)
    answer = {"errno": errno.errorcode[refusal]} if refusal else {"result": result}
    after = ctypes.string_at(at, len(data))
    if after != data:
        answer["memory"] = to_hex(after)
    os.close(file)
    libc.munmap(base, size + PAGE)
    return answer


def ask(file, request, argument):
    """What ioctl(2) returns, and its errno, which is not set for results that are negative, but no errno."""
    ctypes.set_errno(0)
    result = libc.ioctl(file, request, argument)
    return result, ctypes.get_errno()


def as_nobody(call):
    """What a call returns, two numbers, in a process that may not administer the system."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os.write(writer, json.dumps(call()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        result, refusal = json.load(answer)
    os.waitpid(child, 0)
    return result, refusal


def write(question):
    file = os.open("/sys/" + resolve(question["write"]), os.O_WRONLY)
    try:
        return {"wrote": os.write(file, resolve(question["data"]).encode("latin-1"))}
    finally:
        os.close(file)
        time.sleep(SETTLE)


def read(question):
    return {"data": Path("/sys", resolve(question["read"])).read_bytes().decode("latin-1")}


def pmem_read(question):
    file = os.open("/dev/" + question["pread"], os.O_RDONLY | os.O_DIRECT)
    try:
        size = question["length"]
        base = libc.mmap(None, size, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0)
        buffer = (ctypes.c_char * size).from_address(base)
        count = os.preadv(file, [buffer], question["offset"])
        return {"hex": to_hex(bytes(buffer)[:count])}
    finally:
        os.close(file)


def pmem_write(question):
    data = from_hex(question["hex"])
    file = os.open("/dev/" + question["pwrite"], os.O_RDWR | os.O_DIRECT)
    try:
        base = libc.mmap(None, len(data), PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0)
        buffer = (ctypes.c_char * len(data)).from_address(base)
        buffer[:] = data
        return {"wrote": os.pwritev(file, [buffer], question["offset"])}
    finally:
        os.close(file)


def sleep(question):
    time.sleep(question["sleep"])
    return {}


def add_key(kind, description, payload):
    serial = libc.syscall(SYS_ADD_KEY, kind.encode(), description.encode(), payload, len(payload), SESSION_KEYRING)
    if serial < 0:
        refusal = ctypes.get_errno()
        raise OSError(refusal, os.strerror(refusal))
    return serial


def make_key(question):
    """A new key, which takes the place of one of the same kind and name."""
    name = question["key"]
    if question.get("kind") == "user":
        keys[name] = add_key("user", name, os.urandom(32))
        return {}
    forget_key({"forget": name})
    add_key("user", "master", MASTER)
    how = "new default user:master {}" if question.get("size", 32) != 32 else "new enc32 user:master {}"
    keys[name] = add_key("encrypted", name, how.format(question.get("size", 32)).encode())
    return {}


def forget_key(question):
    serial = keys.pop(question["forget"], None)
    if serial is not None:
        libc.syscall(SYS_KEYCTL, KEYCTL_UNLINK, serial, SESSION_KEYRING)
    return {}


KINDS = {
    "key": make_key,
    "forget": forget_key,
    "ioctl": ioctl,
    "write": write,
    "read": read,
    "pread": pmem_read,
    "pwrite": pmem_write,
    "sleep": sleep,
}


def answer(question):
    kind = next(kind for kind in KINDS if kind in question)
    try:
        return KINDS[kind](question)
    except OSError as error:
        return {"errno": errno.errorcode[error.errno]}


if __name__ == "__main__":
    for line in sys.stdin:
        question = json.loads(line)
        question.pop("answer", None)
        if set(KINDS) & set(question):
            question["answer"] = answer(question)
        print(json.dumps(question), flush=True)
