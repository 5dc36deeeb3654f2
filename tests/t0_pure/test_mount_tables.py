"""Mount tables with hostile names of directories: the kernel escapes only blanks, newlines and backslashes."""

import subprocess
import sys
from pathlib import Path

import pytest
from mounting import environment

from nvdimmfs.cli import mount_table
from nvdimmfs.cli.errors import CommandError
from nvdimmfs.formats.mount_table import parse_mounts
from nvdimmfs.sandbox.device_node import NodeNumber
from nvdimmfs.sandbox.mounted_disks import mounted_on

FORGED = "30 1 7:300 / /etc rw - ext4 pmem0 rw"
HOSTILE = [f"/tmp/x{control}{FORGED}" for control in "\r\v\f\x1c\x85\u2028"]


def line(target):
    return f"29 1 0:99 / {target.replace(' ', chr(92) + '040')} rw - fuse.nvdimmfs nvdimmfs rw\n"


@pytest.mark.parametrize(
    ("options", "user"),
    [("rw,user_id=1000,group_id=0", 1000), ("user_id=0", 0), ("rw,xuser_id=5", None), ("rw", None)],
)
def test_who_mounted_it(options, user):
    (mount,) = parse_mounts(f"29 1 0:99 / /mnt rw - fuse.nvdimmfs nvdimmfs {options}\n".encode())
    assert (mount.source, mount.user) == ("nvdimmfs", user)


def test_names_are_decoded_as_those_of_arguments():
    """In a locale without UTF-8 a mount on such a name was found by no command, and could not be unmounted."""
    script = (
        "import sys; from nvdimmfs.formats.mount_table import parse_mounts; "
        "print(str(parse_mounts(sys.stdin.buffer.read())[0].mountpoint) == sys.argv[1])"
    )
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script, "/mnt/ü"],
        input=line("/mnt/ü").encode(),
        env=environment() | variables,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == b"True\n"


def test_a_missing_table_is_named_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(mount_table, "_MOUNT_TABLE", tmp_path / "mountinfo")
    with pytest.raises(CommandError, match=r"mountinfo is missing; run `mount -t proc proc /proc` as root$"):
        mount_table.mount_at(tmp_path)


@pytest.mark.parametrize("target", HOSTILE)
def test_a_name_adds_no_line(target, tmp_path, monkeypatch):
    table = (line(target) + line("/mnt")).encode()
    (tmp_path / "mountinfo").write_bytes(table)
    monkeypatch.setattr(mount_table, "_MOUNT_TABLE", tmp_path / "mountinfo")
    assert [mount.mountpoint for mount in mount_table._mounts()] == [Path(target), Path("/mnt")]
    assert mounted_on({"pmem0": NodeNumber(7, 300)}, table) == []
