"""quotactl(2): a mount has no quota, as sysfs has none."""

import ctypes
import errno
import os
import struct
from pathlib import Path

import pytest
import sandboxes

#: A system call that has the same number on all architectures (include/uapi/asm-generic/unistd.h).
QUOTACTL_FD = 443

#: Q_SYNC, Q_QUOTAON, Q_QUOTAOFF, Q_GETFMT, Q_GETINFO, Q_SETINFO, Q_GETQUOTA, Q_SETQUOTA, Q_GETNEXTQUOTA
#: (include/uapi/linux/quota.h) and Q_XGETQSTATV (include/uapi/linux/dqblk_xfs.h), of users and of groups.
COMMANDS = [command << 8 | kind for command in (*range(0x800001, 0x80000A), 0x5808) for kind in (0, 1)]

libc = ctypes.CDLL(None, use_errno=True)


def answers(path: Path) -> list[int]:
    """The errno of each command on the file system of a path; 0 for success."""
    file = os.open(path, os.O_RDONLY)
    room = ctypes.create_string_buffer(struct.pack("256x"))
    try:
        results = []
        for command in COMMANDS:
            failed = libc.syscall(ctypes.c_long(QUOTACTL_FD), file, ctypes.c_uint(command), 0, room)
            results.append(ctypes.get_errno() if failed else 0)
        return results
    finally:
        os.close(file)


def test_a_mount_answers_as_sysfs(mount):
    expected = answers(Path("/sys"))
    if set(expected) == {errno.ENOSYS} and not Path("/proc/sys/fs/quota").exists():
        pytest.skip("this kernel has no quotas")
    assert answers(mount.directory) == expected


@pytest.mark.usefixtures("sandbox")
@sandboxes.needs_block_devices
def test_a_disk_without_a_file_system_has_none():
    """ENODEV, as for any block device that is not mounted."""
    script = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.quotactl(ctypes.c_int(0x800004 << 8), b"/dev/pmem0", 0, ctypes.create_string_buffer(256))
print(ctypes.get_errno())
"""
    done = sandboxes.run("python3", "-c", script, options=sandboxes.TWO_RANGES)
    assert (done.stdout, done.stderr) == (f"{errno.ENODEV}\n", "")
