"""Another user of a mount, who makes the kernel wait with a lock held, keeps no other request waiting."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mounting import MACHINE, QUIET, Mount, is_mounted, refusal
from sandboxes import wait_until
from watchdog import WATCHDOG

STRANGER = (sys.executable, str(Path(__file__).resolve().parents[1] / "support" / "strangers.py"))
REGION = "sys/devices/platform/e820_pmem/ndbus0/region0"


@pytest.fixture
def stranger(strangers: None) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start another user of a mount; all are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(mount: Mount, *arguments: str) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen([*STRANGER, *arguments], cwd=mount.directory, text=True, **pipes)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def machine(new_mount) -> Mount:
    """A mount of a machine, of which all names and attributes below the first region are cached."""
    mount = new_mount(MACHINE, *QUIET)
    mount.sh(f"ls -lR {REGION} dev sys/bus/nd > /dev/null")
    return mount


@pytest.mark.parametrize(
    "directory", ["sys/bus/nd/devices", REGION, f"{REGION}/namespace0.0", f"{REGION}/..", "dev", "sys/class/block"]
)
def test_a_stranger_who_lists_a_directory_keeps_no_removal_waiting(machine, stranger, directory):
    lister = stranger(machine, "lists", directory)
    removed = machine.directory / REGION / "namespace0.0"
    assert machine.sh("echo region0 > sys/bus/nd/drivers/nd_region/unbind").returncode == 0
    assert machine.sh(f"cat {REGION}/namespace0.0/mode").stderr.endswith("No such file or directory\n")
    assert not removed.exists()
    for link in ("sys/bus/nd/devices/namespace0.0", "sys/class/block/pmem0", "dev/pmem0"):
        assert not os.path.lexists(machine.directory / link)
        with pytest.raises(FileNotFoundError):
            os.open(machine.directory / link, os.O_RDONLY)
    assert removed not in removed.parent.iterdir()
    assert machine.sh("echo region0 > sys/bus/nd/drivers/nd_region/bind").returncode == 0
    assert machine.sh(f"cat {REGION}/namespace0.0/mode dev/pmem0 | head -c 6").stdout == "memory"
    assert lister.poll() is None


def test_names_that_were_left_in_the_cache_leave_it_with_the_last_listing(machine, stranger):
    lister = stranger(machine, "lists")
    kept = os.open(machine.directory / REGION / "namespace0.0/mode", os.O_RDONLY)
    try:
        machine.sh("echo region0 > sys/bus/nd/drivers/nd_region/unbind")
        assert os.fstat(kept).st_nlink == 1  # of what this thread has open
        lister.communicate(timeout=WATCHDOG)
        assert not (machine.directory / REGION / "namespace0.0").exists()
        assert os.fstat(kept).st_nlink == 1
    finally:
        os.close(kept)


def test_a_mount_ends_although_a_stranger_lists_it(machine, stranger):
    stranger(machine, "lists")
    stranger(machine, "lists", "dev")
    machine.sh("echo region0 > sys/bus/nd/drivers/nd_region/unbind")
    machine.kill(signal.SIGTERM)
    assert machine.has_ended()


def test_umount_answers_although_a_stranger_lists_the_mount(machine, stranger):
    stranger(machine, "lists")
    assert f"{machine.directory} is busy" in refusal(machine.umount())
    assert machine.umount("--lazy").returncode == 0
    assert not is_mounted(machine.directory)
    machine.kill(signal.SIGTERM)
    assert machine.has_ended()


def test_cached_names_lead_on_although_another_stranger_waits_to_make_one(machine, stranger):
    """mkdir(2) waits for the listing, and lookups of names that are not cached for mkdir(2), as in any file system."""
    lister = stranger(machine, "lists")
    makes = "import os; os.setuid(65534); print('ready', flush=True); os.mkdir('sys/bus/nd/devices/new')"
    with subprocess.Popen([sys.executable, "-c", makes], cwd=machine.directory, stdout=subprocess.PIPE) as maker:
        try:
            maker.stdout.readline()
            wait_until(lambda: "filename_create" in Path(f"/proc/{maker.pid}/stack").read_text())
            assert machine.sh("cat sys/bus/nd/devices/region0/size").stdout == "536870912\n"
            assert machine.sh("echo region0 > sys/bus/nd/drivers/nd_region/unbind").returncode == 0
            machine.kill(signal.SIGTERM)
            assert machine.has_ended()
        finally:
            lister.kill()  # until then the other one cannot be killed
            maker.kill()


def test_changes_through_a_mapping_are_on_the_media_when_the_disk_goes(machine):
    """As real Linux 6.1 writes back the page cache of a disk that is unbound; afterwards, writes are ENOSPC."""
    disk = os.open(machine.directory / "dev/pmem0", os.O_RDWR)
    try:
        with mmap.mmap(disk, 1 << 20) as memory:
            memory[:6] = b"mapped"
            memory[-4096:] = bytes(4095) + b"x"
            machine.sh("echo namespace0.0 > sys/bus/nd/drivers/nd_pmem/unbind")
            with pytest.raises(OSError, match="No space left"):
                os.pwrite(disk, b"late", 0)
    finally:
        os.close(disk)
    machine.sh("echo namespace0.0 > sys/bus/nd/drivers/nd_pmem/bind")
    with (machine.directory / "dev/pmem0").open("rb") as again:
        data = again.read(1 << 20)
    assert (data[:6], data[-1:]) == (b"mapped", b"x")
