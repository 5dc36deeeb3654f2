"""`nvdimmfs save`, and --restore of mount and run, behind real mounts."""

import mmap
import os
import signal
import sys
import threading
import uuid

import pytest
from mounting import MACHINE, cli, command, refusal

from nvdimmfs.cli.main import main
from nvdimmfs.machine.saved import read_saved

ND = "sys/bus/nd/devices"


@pytest.fixture
def mount(new_mount):
    return new_mount(MACHINE, "--machine", "qemu-nfit")


def save(mount, file, **options):
    done = cli("save", mount.directory, file, **options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return file


@pytest.mark.parametrize("kept", [False, True])
def test_a_saved_machine_is_mounted_elsewhere(mount, new_mount, tmp_path, kept):
    (mount.directory / "sys/kernel/debug/nvdimmfs/plug").write_text("dimm size=64M\n")
    (mount.directory / "dev/pmem2").write_bytes(b"kept")
    file = save(mount, tmp_path / "machine.saved")
    media = ["--media", tmp_path / "media"] if kept else []
    copy = new_mount(MACHINE, "--restore", file, *media)
    assert (copy.directory / "dev/pmem2").read_bytes()[:4] == b"kept"
    assert (copy.directory / ND / "region2/mapping0").read_text() == "nmem2,0,67108864,0\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert any(tmp_path.glob("media/pmem-*.img")) is kept


def test_a_sandbox_runs_on_a_saved_machine(mount, sandbox, tmp_path):
    (mount.directory / "dev/pmem0").write_bytes(b"kept")
    file = save(mount, tmp_path / "machine.saved")
    done = cli("run", "--restore", file, "--", "head", "-c4", "/dev/pmem0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "kept", "")


def test_bytes_stored_to_device_dax_are_saved(mount, new_mount, tmp_path):
    nd = mount.directory / "sys/bus/nd"
    (nd / "drivers/nd_pmem/unbind").write_text("namespace0.0")
    for name, value in (("mode", "pmem"), ("uuid", str(uuid.UUID(int=1))), ("namespace", "namespace0.0")):
        (nd / "devices/dax0.0" / name).write_text(value)
    (nd / "drivers/dax_pmem/bind").write_text("dax0.0")
    with (mount.directory / "dev/dax0.0").open("r+b") as device, mmap.mmap(device.fileno(), 2 << 20) as memory:
        memory[:4] = b"kept"
        file = save(mount, tmp_path / "machine.saved")
        memory[:4] = b"late"
    copy = new_mount(MACHINE, "--restore", file)
    assert (copy.directory / "dev/dax0.0").read_bytes()[:4] == b"kept"


def test_each_save_is_of_one_moment_while_the_machine_is_in_use(mount, new_mount, tmp_path):
    """The writer writes a number to two places, one after the other: a save never has a later one in the second."""
    going = True

    def write():
        with (mount.directory / "dev/pmem0").open("r+b", buffering=0) as disk:
            number = 0
            while going:
                number += 1
                for place in (0, 200 << 20):
                    os.pwrite(disk.fileno(), number.to_bytes(4096, "big"), place)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        files = [save(mount, tmp_path / f"{number}.saved") for number in range(3)]
    finally:
        going = False
        writer.join()
    copy = new_mount(MACHINE, "--restore", files[-1])
    with (copy.directory / "dev/pmem0").open("rb", buffering=0) as disk:
        first, second = (int.from_bytes(os.pread(disk.fileno(), 4096, place), "big") for place in (0, 200 << 20))
    assert second <= first <= second + 1


def test_a_file_that_cannot_be_restored_is_refused_in_one_line(mount, tmp_path):
    file = save(mount, tmp_path / "machine.saved")
    place = tmp_path / "place"
    place.mkdir()
    file.write_bytes(file.read_bytes()[:500])
    assert "not a saved machine" in refusal(cli("mount", place, "--restore", file))
    assert "No such file" in refusal(cli("mount", place, "--restore", tmp_path / "missing"))
    assert "not a saved machine" in refusal(cli("run", "--restore", file, "--", "true"))
    assert "--ram cannot change it" in refusal(cli("mount", place, "--restore", file, "--ram", "4G"), 2)
    assert "--restore cannot change it" in refusal(
        cli("run", "--attach", mount.directory, "--restore", file, "--", "true"), 2
    )


def test_a_save_that_fails_leaves_the_file_as_it_was(mount, tmp_path):
    file = save(mount, tmp_path / "machine.saved")
    before = file.read_bytes()
    assert "is not a mount" in refusal(cli("save", tmp_path, file))
    line = refusal(cli("save", mount.directory, tmp_path / "missing" / "machine.saved"))
    assert line == f"{tmp_path}/missing/machine.saved: No such file or directory"
    os.mkfifo(tmp_path / "fifo")
    assert "is not a regular file" in refusal(cli("save", mount.directory, tmp_path / "fifo"), 2)
    assert (tmp_path / "fifo").is_fifo()
    (mount.directory / "dev/pmem0").write_bytes(os.urandom(1 << 20))
    limited = cli("save", mount.directory, file, preexec_fn=_limit_file_size)
    assert refusal(limited) == f"{file}: File too large"
    assert file.read_bytes() == before
    assert not list(tmp_path.glob(".machine.saved*"))


#: Saves, and is killed when all is written.
KILLED = """
import os, signal, sys
from nvdimmfs.cli.main import main
from nvdimmfs.machine import saved
saved.read_saved = lambda _: os.kill(os.getpid(), signal.SIGKILL)
main(["save", *sys.argv[1:]])
"""


@pytest.fixture
def folder(tmp_path):
    """An empty folder."""
    place = tmp_path / "folder"
    place.mkdir()
    return place


def test_a_save_that_is_killed_leaves_nothing(mount, folder):
    file = save(mount, folder / "machine.saved")
    before = file.read_bytes()
    (mount.directory / "dev/pmem0").write_bytes(b"kept")
    done = command(sys.executable, "-c", KILLED, mount.directory, file)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    assert file.read_bytes() == before
    assert list(folder.iterdir()) == [file]


def test_a_file_system_on_which_each_file_has_a_name(mount, folder, monkeypatch):
    monkeypatch.setattr("nvdimmfs.cli.save._without_name", lambda _: None)
    file = folder / "machine.saved"
    for _ in range(2):
        assert main(["save", str(mount.directory), str(file)]) == 0
        read_saved(file)
        assert list(folder.iterdir()) == [file]


def _limit_file_size():
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))


def test_only_the_owner_may_save(mount):
    assert (mount.directory / "sys/kernel/debug/nvdimmfs/saved").stat().st_mode & 0o777 == 0o400
