"""`nvdimmfs dump` and `nvdimmfs diff` on real mounts."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from mounting import MACHINE, cli, refusal

from nvdimmfs.testing import Engine


@pytest.mark.parametrize("machine", ["e820", "nfit_test"])
def test_a_mount_and_an_engine_have_the_same_dump(new_mount, machine, tmp_path):
    mount = new_mount(MACHINE, "--machine", machine, "--clock", "manual")
    printed = cli("dump", mount.directory)
    with Engine(machine, clock="manual") as engine:
        assert (printed.stdout, printed.stderr, printed.returncode) == (engine.dump(), "", 0)
    file = tmp_path / "file.dump"
    assert cli("dump", mount.directory / "sys", "-o", file).stdout == ""
    assert file.read_text() == printed.stdout
    same = cli("diff", file, mount.directory)
    assert (same.stdout, same.stderr, same.returncode) == ("", "", 0)


def test_the_differences_of_two_mounts(new_mount):
    one, two = (new_mount(MACHINE, "--memmap", "64M!4G", "--clock", "manual") for _ in range(2))
    one.sh("echo namespace0.0 > sys/bus/nd/drivers/nd_pmem/unbind; chmod 600 sys/bus/nd/devices/region0/read_only")
    done = cli("diff", two.directory, one.directory)
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == ["device pmem0 is gone", "driver of device namespace0.0: nd_pmem -> none"]
    assert "mode of attribute read_only of device region0: rw-r--r-- -> rw-------" in done.stdout.splitlines()


@pytest.mark.parametrize("words", [("dump", "-o"), ("show", "--svg")])
def test_a_file_without_room_is_named(new_mount, words):
    command, option = words
    mount = new_mount(MACHINE, "--memmap", "64M!4G")
    assert refusal(cli(command, mount.directory, option, "/dev/full")) == "/dev/full: No space left on device"


@pytest.mark.parametrize("command", ["dump", "diff"])
def test_places_that_cannot_be_read(new_mount, command, tmp_path):
    status = {"dump": 1, "diff": 2}[command]
    second = [tmp_path] if command == "diff" else []
    for place, reason in ((tmp_path / "nothing", "No such file"), (tmp_path, "neither a mount")):
        assert reason in refusal(cli(command, place, *second), status)
    mount = new_mount(MACHINE, "--memmap", "64M!4G")
    mount.may_log_warnings = True
    mount.kill(signal.SIGSTOP)
    for place in (mount.directory, mount.directory / "sys"):
        assert "stopped" in refusal(cli(command, place, *second), status)
    mount.kill(signal.SIGKILL)
    assert "umount" in refusal(cli(command, mount.directory, *second), status)


def test_the_sysfs_of_this_host_is_the_same_twice(tmp_path):
    if not Path("/sys/bus").is_dir():
        pytest.skip("no sysfs at /sys")
    file = tmp_path / "host.dump"
    assert cli("dump", "/sys", "-o", file).returncode == 0
    assert cli("diff", file, file).returncode == 0
