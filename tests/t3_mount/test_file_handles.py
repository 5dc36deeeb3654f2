"""File handles: name_to_handle_at(2) and open_by_handle_at(2), which sysfs does not support and FUSE does."""

import ctypes
import errno
import os
import struct

import mounting
import pytest

#: Room for any handle (MAX_HANDLE_SZ, include/linux/fcntl.h), after its length and its type.
ROOM = 128

libc = ctypes.CDLL(None, use_errno=True)


def handle_of(path):
    handle = ctypes.create_string_buffer(struct.pack("Ii", ROOM, 0), 8 + ROOM)
    mount_id = ctypes.c_int()
    assert not libc.name_to_handle_at(-100, os.fsencode(path), handle, ctypes.byref(mount_id), 0), ctypes.get_errno()
    return handle


def read_by(handle, directory):
    """What the file of a handle holds, or the errno of opening it."""
    mount = os.open(directory, os.O_RDONLY)
    try:
        fd = libc.open_by_handle_at(mount, handle, os.O_RDONLY)
        if fd < 0:
            return ctypes.get_errno()
    finally:
        os.close(mount)
    with os.fdopen(fd, "rb") as file:
        return file.read()


@pytest.fixture
def root_user():
    if os.geteuid():
        pytest.skip("open_by_handle_at(2) needs root")


def test_a_handle_leads_to_its_node_or_nowhere(root_user, new_mount):
    mount = new_mount(mounting.MACHINE, "--memmap", "16M!4G")
    nd = mount.directory / "sys/bus/nd"
    kept, removed = (handle_of(nd / path) for path in ("drivers_autoprobe", "devices/namespace0.0/size"))
    assert read_by(removed, mount.directory) == b"16777216\n"
    (nd / "drivers/nd_region/unbind").write_text("region0")
    (nd / "drivers/nd_region/bind").write_text("region0")
    assert (nd / "devices/namespace0.0/size").read_text() == "16777216\n"
    assert (read_by(kept, mount.directory), read_by(removed, mount.directory)) == (b"1\n", errno.ESTALE)


def test_a_handle_of_an_earlier_mount_leads_nowhere(root_user, mount):
    handles = [handle_of(path) for path in mount.directory.rglob("*") if path.is_file()]
    assert mount.umount().returncode == 0
    assert mount.has_ended()
    mount.start()
    found = [path for path in mount.directory.rglob("*") if path.is_file()]
    assert found, "the numbers of the earlier mount are in use again"
    assert {read_by(handle, mount.directory) for handle in handles} == {errno.ESTALE}
