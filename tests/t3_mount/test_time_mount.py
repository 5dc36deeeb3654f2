"""A machine's clock behind a real mount."""

import subprocess
import sys

import mounting
import pytest
from mounting import MACHINE, QUIET

ND = "sys/bus/nd"
CLOCK = "sys/kernel/debug/nvdimmfs/clock"
SCRUB = "sys/devices/platform/nfit_test.0/ndbus0/nfit/scrub"

#: Binds a namespace whose dax device is found on media and gets its mapping later; pauses in the way that the second
#: argument names; prints whether the mapping is there.
REBIND = """
import errno, os, sys, time
os.chdir(sys.argv[1])
def write(path, text):
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text.encode())  # once: a file object writes a refused text again when it is closed
    finally:
        os.close(file)
def pause_asleep():
    time.sleep(1)
def pause_advancing():
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
    write(f"{nd}/drivers/nd_pmem/bind", "namespace0.0")
except OSError as refusal:
    assert refusal.errno == errno.ENXIO
globals()[f"pause_{sys.argv[2]}"]()
print("mapping0" in os.listdir("sys/bus/dax/devices/dax0.0"))
"""


def mapping_appears(mount, pause):
    done = subprocess.run(
        [sys.executable, "-c", REBIND, mount.directory, pause], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.strip() == "True"


@pytest.mark.parametrize(
    ("mode", "pause", "appears"),
    [
        ("steps", "asleep", False),
        ("steps", "advancing", True),
        ("manual", "asleep", False),
        ("manual", "advancing", True),
        ("real", "asleep", True),
        ("real", "advancing", True),
    ],
)
def test_a_pause_moves_the_clock_only_in_real_time(new_mount, mode, pause, appears):
    mount = new_mount(MACHINE, *QUIET, "--clock", mode)
    assert mapping_appears(mount, pause) is appears


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


@pytest.mark.parametrize("inside", [("mount",), ("show", "umount")], ids="-".join)
def test_daemon_and_commands_may_be_in_different_time_namespaces(inside, fuse, tmp_path):
    """Three years lie between their monotonic clocks."""
    namespace = ("unshare", "--time", "--monotonic", "100000000", "--boottime", "100000000")
    if mounting.command(*namespace, "true").returncode:
        pytest.skip("needs time namespaces")
    mount = mounting.Mount(MACHINE, tmp_path / "mount", tmp_path / "log")
    mount.directory.mkdir()
    try:
        for command, *options in (("mount", *QUIET), ("show",), ("umount",)):
            prefix = namespace if command in inside else ()
            done = mounting.command(*prefix, *MACHINE, command, mount.directory, *options)
            assert (done.returncode, done.stderr) == (0, ""), command
        assert not mounting.is_mounted(mount.directory)
    finally:
        mount.dispose()


def test_a_sandbox_may_be_in_a_time_namespace_of_its_own(new_mount, sandbox):
    mount = new_mount(MACHINE, *QUIET)
    for options in (QUIET, ("--attach", str(mount.directory))):
        argv = (*MACHINE, "run", *options, "--", "cat", "/sys/bus/nd/devices/region0/size")
        done = mounting.command("unshare", "--time", "--monotonic", "100000000", *argv)
        if "unshare:" in done.stderr:
            pytest.skip("needs time namespaces")
        assert (done.stdout, done.stderr) == ("536870912\n", "")
