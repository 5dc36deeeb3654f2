"""A reset behind a real mount: the host's kernel remembers nothing of the detour, and open files are what they were."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
from mounting import MACHINE, QUIET, cli

CHECKPOINT = "sys/kernel/debug/nvdimmfs/checkpoint"
ND = "sys/bus/nd"
REGION = "sys/devices/platform/e820_pmem/ndbus0/region0"


def write(path, text):
    """One write(2); a file object would write a refused text again when it is closed."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def to_btt(directory):
    write(directory / ND / "drivers/nd_pmem/unbind", "namespace0.0")
    for name, value in (
        ("sector_size", "512"),
        ("uuid", "00000000-0000-0000-0000-000000000001"),
        ("namespace", "namespace0.0"),
    ):
        write(directory / ND / f"devices/btt0.0/{name}", value)
    write(directory / ND / "drivers/nd_pmem/bind", "btt0.0")


def listing(directory):
    """Every name with its type, mode and link count, and the target of each link."""
    found = {}
    for folder, folders, files in os.walk(directory / "sys"):
        for path in (Path(folder, name) for name in (*folders, *files)):
            status = path.lstat()
            target = path.readlink() if path.is_symlink() else ""
            found[path] = (status.st_mode, status.st_nlink, target)
    return found


@pytest.fixture
def mount(new_mount):
    return new_mount(MACHINE, *QUIET, "--ram", "8G", "--clock", "steps")


def test_names_modes_and_bytes_are_those_of_the_checkpoint(mount):
    directory = mount.directory
    before = listing(directory)
    (directory / "dev/pmem0").write_bytes(b"before")
    write(directory / CHECKPOINT, "take")
    for _ in range(2):
        (directory / "dev/pmem0").write_bytes(b"after!")
        (directory / REGION / "read_only").chmod(0o400)
        to_btt(directory)
        assert (directory / "dev/pmem0s").exists()
        assert listing(directory) != before
        write(directory / CHECKPOINT, "reset")
        assert listing(directory) == before
        assert not (directory / "dev/pmem0s").exists()
        assert (directory / "dev/pmem0").read_bytes()[:6] == b"before"


def test_open_files_are_valid_or_stale_as_they_were(mount):
    directory = mount.directory
    write(directory / CHECKPOINT, "take")
    kept = os.open(directory / REGION / "btt0.0/namespace", os.O_RDONLY)  # instantiated after the checkpoint
    disk = os.open(directory / "dev/pmem0", os.O_RDWR)
    to_btt(directory)
    new = os.open(directory / REGION / "btt0.1/namespace", os.O_RDONLY)
    try:
        assert os.pread(kept, 100, 0) == b"namespace0.0\n"
        write(directory / CHECKPOINT, "reset")
        assert os.pread(kept, 100, 0) == b"\n"
        assert os.pread(disk, 4096, 4096) == bytes(4096)
        with pytest.raises(OSError, match="No such device") as refusal:
            os.pread(new, 100, 0)
        assert refusal.value.errno == errno.ENODEV
    finally:
        for file in (kept, disk, new):
            os.close(file)


def test_a_shell_in_a_directory_goes_on_there(mount):
    script = f"""
        root=$PWD
        echo take > {CHECKPOINT}
        cd {REGION}/btt0.0
        echo 512 > sector_size
        echo reset > "$root"/{CHECKPOINT}
        cat sector_size
        cd .. && ls -d btt0.0
    """
    done = subprocess.run(["sh", "-ec", script], cwd=mount.directory, capture_output=True, text=True, check=False)
    assert (done.stdout.splitlines()[-1], done.stderr, done.returncode) == ("btt0.0", "", 0)


#: Removes both disks and brings them back in the other order, and prints nodes and numbers after a reset.
SANDBOX = f"""
    echo take > /{CHECKPOINT}
    cd /{ND}
    for name in namespace0.0 namespace1.0; do echo $name > drivers/nd_pmem/unbind; done
    for name in namespace1.0 namespace0.0; do echo $name > drivers/nd_pmem/bind; done
    echo namespace1.0 > drivers/nd_pmem/unbind
    ls /dev | grep pmem
    echo reset > /{CHECKPOINT}
    ls /dev | grep pmem
    for disk in pmem0 pmem1; do
        [ ! -b /dev/$disk ] || [ "$(stat -c %Hr:%Lr /dev/$disk)" = "$(cat /sys/block/$disk/dev)" ] || echo $disk differs
    done
"""


def test_a_sandbox_has_the_nodes_of_the_checkpoint(sandbox):
    done = cli("run", "--ram", "8G", "--", "sh", "-ec", SANDBOX)
    assert (done.stdout.split(), done.stderr, done.returncode) == (["pmem0", "pmem0", "pmem1"], "", 0)
