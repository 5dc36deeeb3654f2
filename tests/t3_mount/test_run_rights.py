"""`nvdimmfs run`: no user of a sandbox gets more than their rights, whatever they replace or forge meanwhile."""

import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
import sandboxes
from mounting import ROOT
from sandboxes import run
from watchdog import WATCHDOG

pytestmark = [pytest.mark.usefixtures("sandbox"), sandboxes.needs_root]

AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
DIMMS = ("--machine", "qemu-nfit")


@pytest.fixture
def public_folder():
    """A folder that all users may enter, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc: threads of Python do not race closely enough")
def test_a_descriptor_that_is_replaced_during_a_call_opens_no_device(public_folder):
    program = public_folder / "race"
    source = ROOT / "tests" / "support" / "descriptor_race.c"
    subprocess.run(["gcc", "-O2", "-pthread", "-o", program, source], check=True, timeout=WATCHDOG)
    done = run(*AS_NOBODY, program, "/dev/nmem0", "3000", options=DIMMS)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_thread_cannot_write_capabilities_into_its_name(public_folder):
    r"""/proc/PID/status shows the name; the kernel escapes \n in it, but not \r."""
    script = public_folder / "forge.py"
    script.write_text(
        textwrap.dedent(r"""
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        PR_SET_NAME = 15
        assert libc.prctl(PR_SET_NAME, b"\rCapEff:\t3fffff", 0, 0, 0) == 0
        number = {"x86_64": 176}.get(os.uname().machine, 106)  # delete_module
        print(libc.syscall(number, b"device_dax", 0), os.strerror(ctypes.get_errno()))
        """)
    )
    done = run(*AS_NOBODY, sys.executable if _is_public(sys.executable) else "python3", script)
    assert done.stdout == "-1 Operation not permitted\n", done.stderr


def _is_public(program: str) -> bool:
    return subprocess.run([*AS_NOBODY, program, "-c", ""], check=False, capture_output=True).returncode == 0


def test_the_read_only_flag_is_taken_once(public_folder):
    """From the memory that the machine read, and for the disk that it was for."""
    script = r"""
        import array, fcntl, os
        disk = os.open("/dev/pmem0", os.O_RDONLY)
        BLKROSET, BLKROGET = 0x125D, 0x125E
        for value in (1, 0, 7):
            fcntl.ioctl(disk, BLKROSET, array.array("i", [value]))
            flag = array.array("i", [-1])
            fcntl.ioctl(disk, BLKROGET, flag)
            print(flag[0])
    """
    done = run(sys.executable, "-c", textwrap.dedent(script), options=("--memmap", "512M!4G"))
    if "Inappropriate ioctl" in done.stderr:
        pytest.skip("needs loop devices")
    assert (done.stdout.split(), done.stderr) == (["1", "0", "1"], "")


def test_a_page_without_write_permission_is_not_written_and_a_bad_address_is_efault():
    script = r"""
        import ctypes, mmap, os
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        device = os.open("/dev/nmem0", os.O_RDWR)
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        length = ctypes.c_size_t(8192)
        GET_CONFIG_SIZE = ctypes.c_ulong(0xC00C4E04)
        def call(address):
            if libc.ioctl(device, GET_CONFIG_SIZE, ctypes.c_void_p(address)) == 0:
                return "done"
            return os.strerror(ctypes.get_errno())
        read_only = libc.mmap(None, length, mmap.PROT_READ, private, -1, ctypes.c_long(0))
        print(call(read_only), any(ctypes.string_at(read_only, 4096)))
        half = libc.mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, private, -1, ctypes.c_long(0))
        print(call(half + 4090))
        libc.mprotect(ctypes.c_void_p(half + 4096), ctypes.c_size_t(4096), mmap.PROT_READ)
        print(call(half + 4084), "/", call(half + 4090), "/", call(half + 4096))
        libc.munmap(ctypes.c_void_p(half + 4096), ctypes.c_size_t(4096))
        print(call(half + 4090), "/", call(0), "/", call(2**64 - 8), "/", call(2**63))
    """
    done = run(sys.executable, "-c", textwrap.dedent(script), options=DIMMS)
    fault = "Bad address"
    expected = [
        f"{fault} False",
        "done",
        f"done / {fault} / {fault}",
        " / ".join([fault] * 4),
    ]
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")
