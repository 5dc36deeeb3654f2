"""/proc/iomem shows its addresses to root alone, by who has opened it: asked of Linux 6.1 by `nvdimmfs lab ask`."""

from __future__ import annotations

import os

import attrs
import pytest

from nvdimmfs.kernfs.open_file import open_node
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


def test_other_users_see_names(iomem):
    file = open_node(iomem, os.O_RDONLY, Caller(12345))
    assert file.read(0, 60) == b"00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n"
    assert file.read(29, 31) == b"00000000-00000000 : System RAM\n"
