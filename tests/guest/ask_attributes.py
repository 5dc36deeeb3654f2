#!/usr/bin/env python3
"""Make system calls on attributes, directories and links of sysfs, and print each with its answer, a JSON array a line.

    ask_attributes.py >> tests/recordings/calls/attributes.jsonl

It needs two ranges of legacy memory (memmap=512M!4G,256M!6G) and root, in a guest with a real kernel and in a sandbox.
Calls are made as root, and again as an ordinary user.  It leaves out what the host's kernel answers without asking a
FUSE file system (docs/architecture.md), and what Linux Security Modules decide.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import select
import stat
import struct
from functools import partial
from pathlib import Path

PAGE = 4096
TOP = (1 << 63) - 1
NOBODY = 65534

libc = ctypes.CDLL(None, use_errno=True)
libc.lseek.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_int)
libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
libc.renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
libc.lseek.restype = ctypes.c_long
for function in (libc.pread, libc.pwrite):
    function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long)
    function.restype = ctypes.c_ssize_t

BUS = Path("/sys/bus/nd")
REGION = (BUS / "devices/region0").resolve()
BTT = REGION / "btt0.0"
#: Names by what they are.
FILES = {
    "read-only": REGION / "size",
    "read-write": BTT / "sector_size",
    "write-only": BUS / "drivers/nd_pmem/bind",
    "of root": REGION / "resource",
    "uevent": REGION / "uevent",
    "refusing": BTT / "size",
    "directory": BTT,
    "link": REGION / "driver",
    "nothing": REGION / "nothing",
    "below a file": REGION / "size/x",
    "below nothing": REGION / "nothing/x",
    "file and a slash": f"{REGION}/size/",
    "link and a slash": f"{BTT}/../driver/",
    "long name": REGION / ("x" * 255),
    "longer name": REGION / ("x" * 256),
    "iomem": Path("/proc/iomem"),
}
#: Those that a sandbox has in a mount of their own.
ELSEWHERE = ("write-only", "link and a slash", "iomem")
ACCESSES = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR, "3": 3}
FLAGS = {
    name: getattr(os, f"O_{name}")
    for name in (
        *("APPEND", "CREAT", "DIRECT", "DIRECTORY", "EXCL", "NOATIME", "NOCTTY", "NOFOLLOW", "NONBLOCK", "PATH"),
        *("SYNC", "TMPFILE", "TRUNC"),
    )
} | {"CREAT|EXCL": os.O_CREAT | os.O_EXCL, "PATH|NOFOLLOW": os.O_PATH | os.O_NOFOLLOW}
KINDS = {
    "file": stat.S_IFREG,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
}
LOCKS = {"shared": fcntl.LOCK_SH | fcntl.LOCK_NB, "exclusive": fcntl.LOCK_EX | fcntl.LOCK_NB, "none": fcntl.LOCK_UN}
#: Offsets, as far as any host accepts them.
PLACES = (0, 1, 4, 5, 4095, PAGE, PAGE + 1, -1, -PAGE)
LENGTHS = (0, 1, 3, PAGE, PAGE + 1)
WHENCES = (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE, 9)


def call(function, *arguments, **more):
    """What a function of Python's returns, or the name of an errno."""
    try:
        result = function(*arguments, **more)
    except OSError as failure:
        return errno.errorcode[failure.errno]
    if isinstance(result, bytes):
        return result.decode("latin-1")
    return list(result) if isinstance(result, tuple) else result


def raw(function, *arguments):
    """What a function of the C library returns, for numbers that Python would refuse."""
    result = function(*arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else result


@contextlib.contextmanager
def opened(path, flags):
    file = os.open(path, flags)
    try:
        yield file
    finally:
        os.close(file)


def open_flags():
    """With each flag; what is answered as without it is left out."""
    for name, path in FILES.items():
        for access, flags in ACCESSES.items():
            usual = opens(path, flags)
            answers = {flag: opens(path, flags | number) for flag, number in FLAGS.items()}
            yield f"open {access} {name}", [usual, {flag: each for flag, each in answers.items() if each != usual}]


def opens(path, flags):
    return call(lambda: os.close(os.open(path, flags)))


def names():
    """What makes, moves and removes names."""
    for name, path in FILES.items():
        acts = {
            "mkdir": partial(os.mkdir, path),
            "rmdir": partial(os.rmdir, path),
            "unlink": partial(os.unlink, path),
            "symlink": partial(os.symlink, "x", path),
            "link": partial(os.link, REGION / "size", path),
            "readlink": partial(os.readlink, path),
            "chdir": partial(os.chdir, path),
            "listdir": partial(has_names, path),
            "rename to /run": partial(os.rename, path, "/run/new"),
        }
        acts |= {f"mknod {kind}": partial(os.mknod, path, number | 0o600) for kind, number in KINDS.items()}
        acts |= {f"truncate {size}": partial(os.truncate, path, size) for size in (0, 1, -1)}
        if name not in ELSEWHERE:
            acts["link elsewhere"] = partial(os.link, path, REGION / "new", follow_symlinks=False)
            targets = ("new", "nothing/new", "size", "align", "power")
            acts |= {f"rename to {target}": partial(os.rename, path, REGION / target) for target in targets}
            for flags in (1, 2, 4, 8):
                arguments = (-100, os.fsencode(path), -100, os.fsencode(REGION / "align"), flags)
                yield f"renameat2 {name}, {flags}", raw(libc.renameat2, *arguments)
        yield f"names {name}", {what: call(act) for what, act in acts.items()}
        os.chdir("/")
        yield f"access {name}", [os.access(path, mode) for mode in range(8)]


def has_names(path):
    return len(os.listdir(path)) > 0  # noqa: PTH208  # it may be a descriptor


def statuses():
    for name, path in FILES.items():
        for what, function in (("stat", os.stat), ("lstat", os.lstat)):
            yield f"{what} {name}", call(shown, function, path)


def shown(status, file):
    found = status(file)
    size = None if stat.S_ISDIR(found.st_mode) else found.st_size
    return [
        *(stat.filemode(found.st_mode), found.st_nlink, found.st_uid, found.st_gid, size),
        *(found.st_blocks, found.st_blksize, found.st_rdev),
    ]


def owners():
    """Modes, owners and times, which sysfs lets root change."""
    for name in ("read-write", "read-only", "directory", "link", "nothing"):
        path = FILES[name]
        was = path.stat() if path.exists() else None
        acts = {
            **{f"chmod {mode:o}": partial(os.chmod, path, mode) for mode in (0, 0o777, 0o7777, 0o100600)},
            **{f"chown {uid} {gid}": partial(os.chown, path, uid, gid) for uid, gid in ((1, 1), (-1, 2), (3, -1))},
            "utime": partial(os.utime, path, ns=(10**18, 2 * 10**18 + 1)),
            "lchown": partial(os.lchown, path, 5, 5),
            "lutime": partial(os.utime, path, ns=(10**18, 10**18), follow_symlinks=False),
        }
        for what, act in acts.items():
            yield f"{what} {name}", [call(act), call(owned, path), opens(path, os.O_RDONLY)]
        if was:
            call(os.chown, path, 0, 0)
            call(os.lchown, path, 0, 0)
            call(os.chmod, path, stat.S_IMODE(was.st_mode))


def owned(path):
    """What chmod(2) and its kin change, of a link itself as well."""
    found, of_link = path.stat(), path.lstat()
    times = [time if time % 10**18 < 2 else "now" for time in (found.st_atime_ns, found.st_mtime_ns)]
    return [stat.filemode(found.st_mode), found.st_uid, found.st_gid, times, of_link.st_uid, of_link.st_gid]


def attributes():
    """Extended attributes."""
    keys = ["user.x", "trusted.x", "system.x", "x", "user.", "trusted."]
    if os.geteuid() == 0:  # security modules decide about others
        keys += ["security.x", "security.", "system.posix_acl_access"]
    for name in ("read-write", "directory", "link", "nothing"):
        path = FILES[name]
        for key in keys:
            answers = [call(os.getxattr, path, key)]
            # FUSE finds that an attribute of a user is not there before it finds that it cannot be set.
            ways = (0, os.XATTR_CREATE) if key == "user.x" else (0, os.XATTR_CREATE, os.XATTR_REPLACE)
            answers += [call(os.setxattr, path, key, b"value", flags) for flags in ways]
            answers += [call(os.getxattr, path, key), call(os.listxattr, path)]
            answers += [call(os.removexattr, path, key), call(os.removexattr, path, key)]
            yield f"extended attribute {key} of {name}", answers


def transfers():
    """Reads of any length anywhere."""
    pages = mmap.mmap(-1, 8 * PAGE)
    memory = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    for name in ("read-only", "read-write", "refusing", "uevent", "iomem"):
        with opened(FILES[name], os.O_RDONLY) as file:
            for length in LENGTHS if name != "iomem" else (1, 3):
                answers = [raw(libc.pread, file, memory, length, place) for place in PLACES]
                yield f"pread {length} of {name}", answers
            for whence in WHENCES if name != "iomem" else (os.SEEK_SET, os.SEEK_CUR):
                answers = []
                for place in PLACES:
                    os.lseek(file, 5, os.SEEK_SET)
                    answers.append(raw(libc.lseek, file, place, whence))
                yield f"lseek {whence} of {name}", answers
            yield f"write to {name}, open for reading", call(os.write, file, b"0")
            os.lseek(file, 0, os.SEEK_SET)
            if name != "iomem":  # which begins as the memory of the machine does
                yield f"reads of {name}", [call(os.read, file, length) for length in (1, 2, 0, 100, 100)]
                buffers = [bytearray(2), bytearray(0), bytearray(3), bytearray(200)]
                yield f"preadv of {name}", call(os.preadv, file, buffers, 0)
                yield f"its pieces of {name}", [bytes(buffer).rstrip(b"\0").decode() for buffer in buffers]


DATA = (
    *(b"512", b"512\n", b" 512", b"512 ", b"512\n\n", b"512\0", b"512\0x", b"\0", b"0x200", b"01000", b"+512", b"-512"),
    *(
        b"512x",
        b"5 12",
        b"",
        b"\n",
        b"512" + b" " * 4092,
        b"512" + b" " * 4093,
        b"512" + b" " * 4094,
        b"512" + b"\n" * 9000,
    ),
    *(b"512" + b"\0" * 4093, b"512" + b"\0" * 4094, b"512\xff", "512\u00b2".encode()),
)


def writes():
    """Data with spaces, zeros and ends of lines, as long as a page and longer; in pieces, and at offsets."""
    path = FILES["read-write"]
    for data in DATA:
        name = f"{data[:8]!r}+{len(data)}"
        with opened(path, os.O_RDWR) as file:
            answers = [call(os.write, file, data), os.lseek(file, 0, os.SEEK_CUR), call(os.read, file, 100)]
            yield f"write {name}", answers
            places = (0, 1, 100, PAGE - 1, PAGE, PAGE + 1, 1 << 40)
            yield f"pwrite {name}", [call(os.pwrite, file, data, place) for place in places]
        with opened(path, os.O_WRONLY | os.O_SYNC) as file:
            yield f"writev {name}", call(os.writev, file, [data[:1], data[1:]])
    with opened(path, os.O_RDWR) as file:
        for data in (b"4096", b"520", b"x", b"512"):
            answers = [call(os.write, file, data), os.lseek(file, 0, os.SEEK_CUR), call(os.read, file, 100)]
            yield f"write {data} again", [*answers, call(os.pread, file, 100, 0)]
        yield "pwrite of bad memory", [raw(libc.pwrite, file, 1, length, 0) for length in (0, 1, PAGE)]
    for name in ("write-only", "uevent", "iomem"):
        with opened(FILES[name], os.O_WRONLY) as file:
            data = (b"\n", b"x", b"x\0", b"x" * PAGE, b"x" * (PAGE + 1))
            yield f"writes to {name}", [call(os.write, file, each) for each in data]
            yield f"read of {name}", call(os.read, file, 1)


def whole_file():
    """What is done with a file that is open."""
    for name in ("read-only", "read-write", "directory", "iomem"):
        with opened(FILES[name], os.O_RDONLY) as file:
            answers = dict(of_open(file))
            if name == "iomem":
                del answers["ioctl 0x2"]  # FIGETBSZ: the block size of the file system
            yield f"open {name}, r", answers
    with opened(FILES["read-write"], os.O_RDWR) as file:
        yield "open read-write, rw", dict(of_open(file))
    for name in ("read-only", "link"):
        with opened(FILES[name], os.O_PATH | os.O_NOFOLLOW) as file:
            yield f"open {name}, path", dict(of_open(file))


def of_open(file):
    yield "fstat", call(shown, os.fstat, file)
    for name in ("fsync", "fdatasync"):
        yield name, call(getattr(os, name), file)
    for size in (0, 1, PAGE, 8192, -1):
        yield f"ftruncate {size}", call(os.ftruncate, file, size)
    for mode in (0, 1, 2, 3, 0x10, 0x40):
        yield f"fallocate {mode:#x}", raw(libc.fallocate, file, mode, 0, PAGE)
    for name, kind in LOCKS.items():
        yield f"flock {name}", call(fcntl.flock, file, kind)
        yield f"lockf {name}", call(fcntl.lockf, file, kind)
    for lease in (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK):
        yield f"lease {lease}", call(fcntl.fcntl, file, fcntl.F_SETLEASE, lease)
    yield "getlease", call(fcntl.fcntl, file, fcntl.F_GETLEASE)
    yield "notify", call(fcntl.fcntl, file, fcntl.F_NOTIFY, 0)
    for flags in (os.O_APPEND, os.O_NONBLOCK, 0):
        yield f"setfl {flags:#x}", call(fcntl.fcntl, file, fcntl.F_SETFL, flags)
        yield f"getfl after {flags:#x}", call(lambda: fcntl.fcntl(file, fcntl.F_GETFL) & ~os.O_LARGEFILE & 0o3777777)
    for request in (
        0x2,
        0xC020660B,
        0x40049409,
        0x5421,
        0x5450,
        0x5451,
        0x5452,
        0x541B,
        0x80086601,
        0x40086602,
        0x5401,
        0x1268,
    ):
        answer = call(fcntl.ioctl, file, request, bytes(64))
        yield f"ioctl {request:#x}", answer.rstrip("\0")
    poll = select.poll()
    poll.register(file, select.POLLIN | select.POLLPRI | select.POLLERR | select.POLLOUT)
    yield "poll", [events for _, events in poll.poll(0)]
    for advice in range(6):
        yield f"fadvise {advice}", call(os.posix_fadvise, file, 0, PAGE, advice)
    yield "readahead", raw(libc.readahead, file, ctypes.c_long(0), ctypes.c_size_t(PAGE))
    yield "sync_file_range", raw(libc.sync_file_range, file, ctypes.c_long(0), ctypes.c_long(PAGE), 2)
    yield "read", call(os.read, file, 8)
    yield "fchdir", call(os.fchdir, file)
    yield "getdents", call(has_names, file)
    for protection in (1, 2, 3, 4):
        for flags in (1, 3):
            yield f"mmap {protection}, {flags}", raw_map(file, protection, flags)


def raw_map(file, protection, flags):
    try:
        mmap.mmap(file, PAGE, flags, protection).close()
    except (OSError, ValueError) as failure:
        return errno.errorcode[failure.errno] if isinstance(failure, OSError) else str(failure)
    return "ok"


def copies():
    """Copies from and to attributes, in the kernel."""
    read, written = FILES["read-only"], FILES["read-write"]
    for count in (0, 1, 5, 100, PAGE, 1 << 20):
        for offset in (None, 0, 1, PAGE):
            with opened(read, os.O_RDONLY) as file, opened("/run/copy", os.O_RDWR | os.O_CREAT | os.O_TRUNC) as copy:
                yield f"sendfile {count} at {offset}", call(os.sendfile, copy, file, offset, count)
                yield "it has", call(os.pread, copy, 100, 0)
            reader, writer = os.pipe()
            with opened(read, os.O_RDONLY) as file:
                yield f"splice {count} at {offset}", call(os.splice, file, writer, count, offset_src=offset)
                os.close(writer)
                yield "it has", call(os.read, reader, 100)
                os.close(reader)
            with opened(read, os.O_RDONLY) as file, opened("/run/copy", os.O_RDWR | os.O_CREAT | os.O_TRUNC) as copy:
                yield f"copy_file_range {count} at {offset}", call(os.copy_file_range, file, copy, count, offset)
                yield "it has", call(os.pread, copy, 100, 0)
    Path("/run/copy").write_bytes(b"4096\n")
    for count in (5, 2, 0, PAGE):
        with opened("/run/copy", os.O_RDONLY) as copy, opened(written, os.O_RDWR) as file:
            yield f"sendfile {count} to it", call(os.sendfile, file, copy, 0, count)
            yield "it has", call(os.pread, file, 100, 0)
        with opened(written, os.O_RDWR) as file:
            reader, writer = os.pipe()
            os.write(writer, b"512\n")
            os.close(writer)
            yield f"splice {count} to it", call(os.splice, reader, file, count)
            yield "it has", call(os.pread, file, 100, 0)
            os.close(reader)
        with opened("/run/copy", os.O_RDONLY) as copy, opened(written, os.O_RDWR) as file:
            yield f"copy_file_range {count} to it", call(os.copy_file_range, copy, file, count)
            yield "it has", call(os.pread, file, 100, 0)
    with opened(read, os.O_RDONLY) as file, opened(written, os.O_RDWR) as other:
        yield "copy_file_range between them", call(os.copy_file_range, file, other, 10)
        yield "sendfile between them", call(os.sendfile, other, file, 0, 10)


def watches():
    """What inotify(7) tells of what is done to an attribute."""
    path = FILES["read-write"]
    watcher = libc.inotify_init1(os.O_NONBLOCK)
    for name in ("read-write", "directory"):
        yield f"watch {name}", raw(libc.inotify_add_watch, watcher, os.fsencode(FILES[name]), 0xFFF)
    acts = {
        "open and close": lambda: opens(path, os.O_RDONLY),
        "read": path.read_text,
        "write": lambda: write(path, b"512"),
        "a refused write": lambda: call(write, path, b"x"),
        "chmod": lambda: path.chmod(0o644),
        "truncate": lambda: call(os.truncate, path, 0),
        "stat": path.stat,
        "listdir": lambda: has_names(FILES["directory"]),
    }
    for name, act in acts.items():
        act()
        yield f"watched: {name}", events(watcher)
    os.close(watcher)


def write(path, data):
    with opened(path, os.O_WRONLY) as file:
        os.write(file, data)


def events(watcher):
    """What it has told since the last question: the watch, the kind of event, and the name."""
    try:
        data = os.read(watcher, 65536)
    except BlockingIOError:
        return []
    found, place = [], 0
    while place < len(data):
        watch, mask, _, length = struct.unpack_from("=iIII", data, place)
        name = data[place + 16 : place + 16 + length].rstrip(b"\0").decode()
        found.append([watch, f"{mask:#x}", name])
        place += 16 + length
    return found


def iomem():
    """Whether addresses are shown is decided by who opens the file."""
    with opened("/proc/iomem", os.O_RDONLY) as file:
        yield "iomem of root", memory(file)
        with nobody():
            yield "iomem of root, read by nobody", memory(file)
    with nobody(), opened("/proc/iomem", os.O_RDONLY) as file:
        yield "iomem of nobody", memory(file)
        with root():
            yield "iomem of nobody, read by root", memory(file)
    with opened(FILES["of root"], os.O_RDONLY) as file, nobody():
        yield "resource of root, read by nobody", call(os.pread, file, 100, 0)


def memory(file):
    """The lines about persistent memory, with those below them."""
    os.lseek(file, 0, os.SEEK_SET)
    text = b"".join(iter(lambda: os.read(file, 65536), b"")).decode()
    shown_words = ("System RAM", "Persistent", "namespace")
    return [line for line in text.splitlines() if any(word in line for word in shown_words)]


@contextlib.contextmanager
def nobody():
    """As an ordinary user."""
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@contextlib.contextmanager
def root():
    os.setresuid(0, 0, 0)
    try:
        yield
    finally:
        os.setresuid(NOBODY, NOBODY, 0)


TOPICS = (open_flags, statuses, names, transfers, writes, whole_file, copies, watches, attributes, owners, iomem)
OF_NOBODY = (open_flags, statuses, names, transfers, attributes, owners)

if __name__ == "__main__":
    os.chdir("/")
    for topic in TOPICS:
        for question in topic():
            print(json.dumps(question), flush=True)
    with nobody():
        for topic in OF_NOBODY:
            for what, answer in topic():
                print(json.dumps([f"nobody: {what}", answer]), flush=True)
