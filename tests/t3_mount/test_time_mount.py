"""A machine's clock behind a real mount."""

import subprocess
import sys

import pytest
from mounting import MACHINE, QUIET

ND = "sys/bus/nd"
CLOCK = "sys/kernel/debug/nvdimmfs/clock"
SCRUB = "sys/devices/platform/nfit_test.0/ndbus0/nfit/scrub"

#: Binds a namespace anew, whose device DAX gets its mapping later; waits in the way that is asked for; prints whether
#: it is there.
REBIND = """
import errno, os, sys, time
os.chdir(sys.argv[1])
def write(path, text):
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text.encode())  # once, while a file object that is refused tries again
    finally:
        os.close(file)
def wait_asleep():
    time.sleep(1)
def wait_awake():
    end = time.monotonic() + 1
    while time.monotonic() < end:
        pass
def wait_advancing():
    write("sys/kernel/debug/nvdimmfs/clock", "advance 1s")
nd = "sys/bus/nd"
write(f"{nd}/drivers/nd_pmem/unbind", "namespace0.0")
write(f"{nd}/devices/dax0.0/mode", "pmem")
write(f"{nd}/devices/dax0.0/uuid", "00000000-0000-0000-0000-000000000001")
write(f"{nd}/devices/dax0.0/namespace", "namespace0.0")
write(f"{nd}/drivers/dax_pmem/bind", "dax0.0")
write(f"{nd}/drivers/dax_pmem/unbind", "dax0.0")
write(f"{nd}/devices/dax0.0/namespace", "\\n")
try:
    write(f"{nd}/drivers/nd_pmem/bind", "namespace0.0")  # finds the device on media, and has it claim the namespace
except OSError as refusal:
    assert refusal.errno == errno.ENXIO
globals()[f"wait_{sys.argv[2]}"]()
print("mapping0" in os.listdir("sys/bus/dax/devices/dax0.0"))
"""


def seen(mount, waiting):
    done = subprocess.run(
        [sys.executable, "-c", REBIND, mount.directory, waiting], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.strip() == "True"


@pytest.mark.parametrize(
    ("mode", "waiting", "there"),
    [
        ("steps", "asleep", True),
        ("steps", "awake", False),
        ("steps", "advancing", True),
        ("manual", "asleep", False),
        ("manual", "advancing", True),
        ("real", "asleep", True),
        ("real", "awake", True),
    ],
)
def test_what_makes_time_pass(new_mount, mode, waiting, there):
    mount = new_mount(MACHINE, *QUIET, "--clock", mode)
    assert seen(mount, waiting) is there


def test_a_poll_waits_for_the_end_of_a_scrub_in_steps(new_mount):
    mount = new_mount(MACHINE, "--machine", "nfit_test", "--clock", "steps")
    script = (
        "import os, select, sys\n"
        "file = os.open(sys.argv[1], os.O_RDONLY)\n"
        "print(os.read(file, 10))\n"
        "poll = select.poll(); poll.register(file, select.POLLPRI); poll.poll()\n"
        "print(os.pread(file, 10, 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, mount.directory / SCRUB], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("b'0+\\n'\nb'1\\n'\n", "")


def test_the_clock_is_moved_by_its_file_alone(new_mount):
    mount = new_mount(MACHINE, "--machine", "nfit_test", "--clock", "manual")
    script = f"cat {CLOCK} | head -2; cat {SCRUB}; echo advance 10s > {CLOCK}; cat {SCRUB}; echo later > {CLOCK}"
    done = mount.sh(script)
    assert done.stdout == "mode: manual\nnow: 0.200000000 s\n0+\n1\n"
    assert done.returncode != 0
    assert "'later' is not `advance 30s`" in mount.log.read_text()
