"""A mount whose process reaches a limit of the host refuses what it cannot do, and goes on."""

import errno
import os
import resource
from pathlib import Path

import mounting

PIECE = 4096


def errno_of(call, *arguments):
    try:
        call(*arguments)
    except OSError as failure:
        return failure.errno
    return 0


def write(path, data, offset):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, data, offset)
        os.fsync(fd)
    finally:
        os.close(fd)


def test_the_thread_that_invalidates_is_there_from_the_beginning(mount):
    """Later it might not be started: the user, or the control group, has as many processes as it may have."""
    assert len(list(Path(f"/proc/{mount.pid}/task").iterdir())) == 2


def test_a_file_size_limit_refuses_a_write_and_nothing_else(new_mount, tmp_path):
    (tmp_path / "media").mkdir()
    mount = new_mount(mounting.MACHINE, "--memmap", "16M!4G", "--media", tmp_path / "media")
    disk = mount.directory / "dev/pmem0"
    resource.prlimit(mount.pid, resource.RLIMIT_FSIZE, (PIECE, resource.RLIM_INFINITY))
    assert errno_of(write, disk, bytes([1]) * PIECE, 2 * PIECE) == errno.EFBIG
    resource.prlimit(mount.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert errno_of(write, disk, bytes([1]) * PIECE, 2 * PIECE) == 0
    with disk.open("rb") as file:
        file.seek(2 * PIECE)
        assert file.read(PIECE) == bytes([1]) * PIECE


def test_a_descriptor_limit_is_none_for_open_files_of_a_mount(mount):
    """The daemon opens nothing of the host for a file that is opened in the mount."""
    resource.prlimit(mount.pid, resource.RLIMIT_NOFILE, (3, 1024))
    opened = [os.open(mount.directory, os.O_RDONLY) for _ in range(100)]
    assert "sys" in os.listdir(opened[-1])  # noqa: PTH208  # of a descriptor
    for fd in opened:
        os.close(fd)
