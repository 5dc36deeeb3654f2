"""`nvdimmfs mount --media`: the bytes, and all that is made of them, outlive the mount."""

import contextlib
import itertools
import mmap
import os
import signal
import subprocess
import threading
from pathlib import Path

import machines
import pytest
from mounting import MACHINE, QUIET, cli, command, in_private_namespace, is_mounted, refusal

from nvdimmfs.lab.recording_text import load
from nvdimmfs.lab.replay import replay
from nvdimmfs.lab.trees import Mounted

RECORDINGS = Path(__file__).parent.parent / "recordings"

#: How many sectors are written in turns until the daemon is killed.
SECTORS = 7


@pytest.mark.parametrize(
    "story", sorted(RECORDINGS.glob("*/boots/*-again.recording")), ids=lambda story: f"{story.parts[-3]}-{story.stem}"
)
def test_a_second_mount_finds_what_a_second_boot_finds(new_mount, tmp_path, story):
    again = load(story)
    before = load(story.with_stem(again.header.after))
    for recording in (before, again):
        mount = new_mount(
            MACHINE, *machines.options(again.header.machine), "--media", tmp_path / "media", "--clock", "steps"
        )
        report = replay(recording, Mounted(mount.directory / "sys", mount.directory / "dev"))
        assert not report.differences, "\n".join(str(difference) for difference in report.differences[:5])
        mount.umount()


def test_a_namespace_outlives_kill_9(new_mount, tmp_path):
    options = ("--machine", "qemu-nfit-labelled", "--media", tmp_path / "media")
    mount = new_mount(MACHINE, *options)
    namespace = "sys/bus/nd/devices/namespace1.0"
    done = mount.sh(
        f"echo 11111111-2222-4333-8444-555555555555 >{namespace}/uuid; echo kept >{namespace}/alt_name;"
        f"echo 67108864 >{namespace}/size; echo namespace1.0 >sys/bus/nd/drivers/nd_pmem/bind; ls dev"
    )
    assert (done.stdout, done.stderr) == ("pmem1\n", "")
    mount.kill(signal.SIGKILL)
    assert mount.has_ended()
    again = new_mount(MACHINE, *options)
    assert again.sh(f"cat {namespace}/size {namespace}/alt_name").stdout == "67108864\nkept\n"


def test_media_keep_the_bytes(new_mount, tmp_path):
    folder = tmp_path / "media"
    for expected, text in (("\0" * 5, "first"), ("first", "other")):
        mount = new_mount(MACHINE, "--media", folder)
        pmem = mount.directory / "dev/pmem0"
        fd = os.open(pmem, os.O_RDWR)
        assert os.pread(fd, 5, 4096).decode() == expected
        assert os.pwrite(fd, text.encode(), 4096) == 5
        os.close(fd)
        done = mount.umount()
        assert (done.returncode, done.stderr) == (0, "")


def test_media_survive_kill_9(new_mount, tmp_path):
    mount = new_mount(MACHINE, "--media", tmp_path / "media")
    fd = os.open(mount.directory / "dev/pmem0", os.O_WRONLY)
    assert os.pwrite(fd, b"bytes", 4096) == 5
    mount.kill(signal.SIGKILL)
    assert mount.has_ended()
    with contextlib.suppress(OSError):
        os.close(fd)
    again = new_mount(MACHINE, "--media", tmp_path / "media")
    assert again.sh("dd if=dev/pmem0 bs=4096 skip=1 count=1 status=none | head -c 5").stdout == "bytes"


def test_no_sector_of_a_btt_is_lost_or_torn_by_kill_9(new_mount, tmp_path):
    """Sectors are written over and over until the daemon is killed: each holds its last write, or the one at work."""
    options = ("--memmap", "32M!4G", "--media", tmp_path / "media")
    mount = new_mount(MACHINE, *options)
    btt = "sys/bus/nd/devices/btt0.0"
    done = mount.sh(
        "echo namespace0.0 >sys/bus/nd/drivers/nd_pmem/unbind;"
        f"echo 00000000-1111-2222-3333-000000000001 >{btt}/uuid; echo 512 >{btt}/sector_size;"
        f"echo namespace0.0 >{btt}/namespace; echo btt0.0 >sys/bus/nd/drivers/nd_pmem/bind; ls dev"
    )
    assert (done.stdout, done.stderr) == ("pmem0s\n", "")
    fd = os.open(mount.directory / "dev/pmem0s", os.O_WRONLY | os.O_DIRECT)
    killer = threading.Timer(0.3, mount.kill, [signal.SIGKILL])
    killer.start()
    started: list[int] = []
    with pytest.raises(OSError, match=r"Transport endpoint|Software caused"):
        overwrite(fd, started)
    killer.join()
    with contextlib.suppress(OSError):
        os.close(fd)
    assert mount.has_ended()
    completed = {number % SECTORS: number for number in started[:-1]}
    again = new_mount(MACHINE, *options)
    with (again.directory / "dev/pmem0s").open("rb") as disk:
        for sector in range(SECTORS):
            (found,) = {int.from_bytes(disk.read(4), "little") for _ in range(128)}
            assert found == completed.get(sector, 0) or (found == started[-1] and found % SECTORS == sector)


def overwrite(fd: int, started: list[int]) -> None:
    """Write some sectors in turns, each full of its turn's number, which is in `started` before."""
    with mmap.mmap(-1, 512) as page:
        for number in itertools.count():
            started.append(number)
            page[:] = number.to_bytes(4, "little") * 128
            os.pwritev(fd, [page], 512 * (number % SECTORS))


def test_media_belong_to_one_machine_at_a_time(new_mount, tmp_path):
    new_mount(MACHINE, "--media", tmp_path / "media")
    (tmp_path / "m").mkdir()
    assert "in use" in refusal(cli("mount", tmp_path / "m", "--media", tmp_path / "media"))
    assert not is_mounted(tmp_path / "m")


def test_media_must_be_a_folder(fuse, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "m").mkdir()
    assert str(tmp_path / "file") in refusal(cli("mount", tmp_path / "m", "--media", tmp_path / "file"))


@pytest.mark.parametrize("words", [("mount", "mountpoint"), ("run",)])
def test_the_host_refuses_a_file(fuse, tmp_path, words):
    (tmp_path / "mountpoint").mkdir()
    file = tmp_path / "media" / "pmem-100000000-11fffffff.img"
    file.mkdir(parents=True)
    done = cli(*words, "--media", "media", *QUIET, *(["--", "true"] if words == ("run",) else []), cwd=tmp_path)
    assert refusal(done) == f"{file}: Is a directory"


@pytest.mark.parametrize("words", ["mount mountpoint", "run"])
def test_the_host_has_no_room_for_labels(fuse, tmp_path, words):
    (tmp_path / "mountpoint").mkdir()
    (tmp_path / "media").mkdir()
    command_line = f"{' '.join(MACHINE)} {words} --machine one-dimm --media media"
    done = in_private_namespace(
        f"mount -t tmpfs -o size=4k none {tmp_path}/media",
        f"cd {tmp_path}; head -c 4096 /dev/zero > media/else",
        f"exec {command_line} {'-- true' if words == 'run' else ''}",
    )
    assert refusal(done) == f"{tmp_path}/media: No space left on device"


def test_a_full_host_refuses_a_store_whole_and_takes_it_once_there_is_room(fuse, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "media").mkdir()
    nvdimmfs = " ".join(MACHINE)
    done = in_private_namespace(
        f"cd {tmp_path}",
        "mount -t tmpfs -o size=6m none media",
        f"{nvdimmfs} mount m --machine one-dimm --media media",
        "cat /dev/zero > media/filler 2>/dev/null || true",
        "cd m/sys/bus/nd/devices/namespace0.0",
        "bash -c 'echo 01234567-89ab-cdef-0123-456789abcdef > uuid' && exit 1",
        f"ls -A {tmp_path}/media | sort; rm {tmp_path}/media/filler",
        "echo 16777216 > size; echo name > alt_name",
        f"cd {tmp_path}",
        f"{nvdimmfs} umount m",
        f"{nvdimmfs} mount m --machine one-dimm --media media",
        "cat m/sys/bus/nd/devices/namespace0.0/alt_name m/sys/bus/nd/devices/namespace0.0/size",
        f"{nvdimmfs} umount m",
    )
    assert (done.returncode, done.stdout) == (
        0,
        ".lock\nfiller\nlabels-ACPI.NFIT-1.img\npmem-180000000-57fffffff.img\nname\n16777216\n",
    )
    assert "No space left on device" in done.stderr


def test_a_read_only_file_system_keeps_no_media(fuse, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "media").mkdir()
    done = in_private_namespace(
        f"mount -t tmpfs -o ro none {tmp_path}/media",
        f"exec {' '.join(MACHINE)} mount {tmp_path}/m {' '.join(QUIET)} --media {tmp_path}/media",
    )
    assert refusal(done) == f"{tmp_path}/media: cannot keep media there: Read-only file system"


def test_a_file_is_no_folder_of_media(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "media").touch()
    done = cli("mount", tmp_path / "m", *QUIET, "--media", tmp_path / "media")
    assert refusal(done) == f"{tmp_path}/media: cannot keep media there: Not a directory"


def limited(*command_line: str | Path, kib: int) -> subprocess.CompletedProcess[str]:
    """Run `nvdimmfs` with a limit on the size of files."""
    return command("bash", "-c", f'ulimit -f {kib}; exec "$@"', "bash", *MACHINE, *command_line)


def test_a_limit_on_the_size_of_files_refuses_a_new_machine(fuse, tmp_path):
    (tmp_path / "m").mkdir()
    done = limited("mount", tmp_path / "m", *QUIET, "--media", tmp_path / "media", kib=64)
    assert refusal(done) == f"{tmp_path}/media: File too large"


def test_a_limit_on_the_size_of_files_refuses_a_store(new_mount, tmp_path):
    """SIGXFSZ does not end the daemon."""
    options = ("--machine", "one-dimm", "--media", tmp_path / "media")
    new_mount(MACHINE, *options).umount()
    (tmp_path / "limited").mkdir()
    try:
        done = limited("mount", tmp_path / "limited", *options, kib=64)
        assert (done.returncode, done.stderr) == (0, "")
        namespace = tmp_path / "limited/sys/bus/nd/devices/namespace0.0"
        with (namespace / "uuid").open("wb", buffering=0) as uuid, pytest.raises(OSError, match="File too large"):
            uuid.write(b"01234567-89ab-cdef-0123-456789abcdef")  # which writes an index block
        assert (namespace / "nstype").read_text() == "5\n"
    finally:
        cli("umount", tmp_path / "limited")
    assert not (tmp_path / "media/.journal").exists()
    again = new_mount(MACHINE, *options)
    assert again.sh("cat sys/bus/nd/devices/namespace0.0/size").stdout == "0\n"


def test_media_sync_needs_media(tmp_path):
    (tmp_path / "m").mkdir()
    done = cli("mount", tmp_path / "m", *QUIET, "--media-sync", "flush")
    assert refusal(done, 2) == "--media-sync flush: there is no --media FOLDER to sync"
