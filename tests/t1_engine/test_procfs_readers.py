"""/proc/iomem shows its addresses to root alone, by who has opened it, as `calls/attributes.jsonl` shows."""

from __future__ import annotations

import errno
import os

import attrs
import pytest

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs.open_attribute import ALWAYS_READY
from nvdimmfs.kernfs.open_file import file_size, open_node
from nvdimmfs.kernfs.path import resolve
from nvdimmfs.machine.machine import Machine
from nvdimmfs.units import GIB


@attrs.frozen
class Caller:
    uid: int
    command: str = "reader"


@pytest.fixture(scope="module")
def iomem():
    machine = Machine.legacy("512M!4G", 4 * GIB)
    yield resolve(machine.tree.root, "proc/iomem")
    machine.close()


@pytest.mark.parametrize("uid", [0, os.geteuid(), None])
def test_root_and_the_owner_of_the_mount_see_addresses(iomem, uid):
    file = open_node(iomem, os.O_RDONLY, None if uid is None else Caller(uid))
    assert file.read(0, 60) == b"00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n"


def test_a_file_of_proc_is_no_attribute(iomem):
    """As in tests/recordings/calls/attributes.jsonl: root opens it for writing, in vain, and it is never notified."""
    file = open_node(iomem, os.O_RDWR)
    assert file_size(iomem) == 0
    assert file.ready() == ALWAYS_READY
    with pytest.raises(KernelError) as refused:
        file.write(0, b"x")
    assert refused.value.errno == errno.EIO
    with pytest.raises(KernelError) as refused:
        file.sync()
    assert refused.value.errno == errno.EINVAL


def test_other_users_see_names(iomem):
    file = open_node(iomem, os.O_RDONLY, Caller(12345))
    assert file.read(0, 60) == b"00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n"
    assert file.read(29, 31) == b"00000000-00000000 : System RAM\n"
