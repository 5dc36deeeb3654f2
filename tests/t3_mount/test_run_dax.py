"""`nvdimmfs run`: file systems with DAX, and a debugger that has a thread which maps device DAX."""

import json
import sys

import mounting
import pytest
import sandboxes
from sandboxes import TWO_RANGES, run, sh

pytestmark = pytest.mark.usefixtures("sandbox")

#: Mounts by fsconfig(2), as mount(8) does since util-linux 2.39: prints what each step returned.
BY_FSCONFIG = """
import ctypes, errno, json
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "ok"
for disk in ("pmem0", "pmem1s"):
    context = libc.syscall(430, b"ext4", 0)
    steps = (1, b"source", b"/dev/" + disk.encode(), 0), (0, b"dax", None, 0), (6, None, None, 0)
    print(json.dumps([call(431, context, *step) for step in steps]))
context = libc.syscall(430, b"ext4", 0)
call(431, context, 1, b"source", b"/dev/pmem0", 0)
refused = (
    (context, 0, b"dax", None, 1), (context, 0, b"dax", b"x", 0), (context, 1, b"source", None, 0),
    (context, 1, b"dax", 4096, 0), (999, 1, b"source", b"/dev/pmem0", 0), (999, 0, b"dax", None, 0),
)
print(json.dumps([call(431, *arguments) for arguments in refused]))
"""

#: Makes the dax device of namespace1.0 the target of mmap(2) of a process that another one traces.
TRACED = """
import ctypes, errno, mmap, os, signal, stat
libc = ctypes.CDLL(None, use_errno=True)
traced = os.fork()
if not traced:
    libc.ptrace(0, 0, 0, 0)  # PTRACE_TRACEME
    os.kill(os.getpid(), signal.SIGSTOP)
    file = os.open("/dev/dax1.0", os.O_RDWR)
    memory = mmap.mmap(file, 2 << 20)
    memory[:5] = b"hello"
    try:
        mmap.mmap(file, 2 << 20, flags=mmap.MAP_PRIVATE)
    except OSError as failure:
        print(errno.errorcode[failure.errno], stat.S_ISREG(os.fstat(file).st_mode), flush=True)
    os._exit(0)
os.waitpid(traced, 0)
libc.ptrace(7, traced, 0, 0)  # PTRACE_CONT
os.waitpid(traced, 0)
file = os.open("/dev/dax1.0", os.O_RDONLY)
print(mmap.mmap(file, 2 << 20, prot=mmap.PROT_READ)[:5].decode(), stat.S_ISCHR(os.fstat(file).st_mode))
"""

#: Maps the dax device of namespace1.0, in a process that a filter of its own kills for close(2).
FILTERED = """
import ctypes, mmap, os, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
filtered = os.fork()
if not filtered:
    file = os.open("/dev/dax1.0", os.O_RDWR)
    steps = (0x20, 0, 0, 0), (0x15, 0, 1, 3), (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7FFF0000)
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    whole = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(steps), ctypes.addressof(program)))
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    libc.prctl(22, 2, whole)  # PR_SET_SECCOMP
    ctypes.memmove(libc.mmap(None, ctypes.c_size_t(2 << 20), 3, 1, file, ctypes.c_long(0)), b"hello", 5)
    os._exit(0)
print(os.waitpid(filtered, 0)[1])
print(mmap.mmap(os.open("/dev/dax1.0", os.O_RDONLY), 2 << 20, prot=mmap.PROT_READ)[:5].decode())
"""

MAKE_DAX = """
    cd /sys/bus/nd/devices/dax1.0; echo namespace1.0 > ../namespace1.0/driver/unbind
    echo pmem > mode; echo 10000000-1111-2222-3333-000000000001 > uuid; echo namespace1.0 > namespace
    echo dax1.0 > /sys/bus/nd/drivers/dax_pmem/bind
"""

MAKE_BTT = """
    cd /sys/bus/nd/devices/btt1.0; echo namespace1.0 > ../namespace1.0/driver/unbind
    echo 4096 > sector_size; echo 10000000-1111-2222-3333-000000000001 > uuid; echo namespace1.0 > namespace
    echo btt1.0 > /sys/bus/nd/drivers/nd_pmem/bind
"""


@sandboxes.needs_block_devices
@sandboxes.needs("mkfs.ext4")
def test_dax_is_an_option_where_the_disk_has_it():
    """Answers of Linux 6.1 to the same commands: accepted; EINVAL for other blocks than pages, and for a BTT."""
    script = f"""
        {MAKE_BTT}
        mkdir /run/here
        mkfs.ext4 -q -b 4096 /dev/pmem0; mount -o noatime,dax /dev/pmem0 /run/here; echo hello > /run/here/file
        umount /run/here
        mount -t ext4 -o dax=always /dev/pmem0 /run/here; cat /run/here/file; umount /run/here
        mkfs.ext4 -q -b 4096 /dev/pmem1s
        not mount -t ext4 -o dax /dev/pmem1s /run/here 2> /dev/null
        {sys.executable} - <<- 'EOF'
{BY_FSCONFIG}
EOF
        mkfs.ext4 -q -F -b 1024 /dev/pmem0 2> /dev/null
        not mount -t ext4 -o dax /dev/pmem0 /run/here 2> /dev/null
    """
    hello, pmem, btt, refused = sh(script, *TWO_RANGES).stdout.splitlines()
    assert (hello, json.loads(pmem), json.loads(btt)) == ("hello", ["ok", "ok", "ok"], ["ok", "ok", "EINVAL"])
    assert json.loads(refused) == ["EINVAL", "EINVAL", "EINVAL", "EFAULT", "EBADF", "EBADF"]


def test_a_thread_that_cannot_be_borrowed_maps_the_file_in_the_mount():
    """A debugger has it, or it has a filter that would kill it for a call that it does not make."""
    programs = "\n".join(f"{sys.executable} -c '{program}'" for program in (TRACED, FILTERED))
    done = run("sh", "-ec", f"{MAKE_DAX}\n{programs}", options=TWO_RANGES, env=mounting.environment())
    assert (done.stdout, done.stderr) == ("EINVAL True\nhello True\n0\nhello\n", "")
