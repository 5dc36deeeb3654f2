"""A module is not unloaded while a process has one of its device nodes open."""

import errno

import pytest
from control_session import ControlSession
from poke import Hands

from nvdimmfs.formats import control
from nvdimmfs.machine.node_owners import owner_of_node


@pytest.fixture
def session():
    return ControlSession(Hands.on("512M!4G,256M!6G").machine)


def unload(session, module, *open_nodes):
    reply = session.request(control.Unload(module, open_nodes=open_nodes))
    return reply.errno if isinstance(reply, control.Refused) else 0


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("dax0.0", "device_dax"),
        ("pmem0", "nd_pmem"),
        ("pmem0.1", "nd_pmem"),
        ("pmem12p3", "nd_pmem"),
        ("pmem0s", "nd_btt"),
        ("pmem0.1s2", "nd_btt"),
        ("ndctl0", "libnvdimm"),
        ("nmem7", "libnvdimm"),
        ("sda", None),
    ],
)
def test_who_owns_a_node(node, module):
    assert owner_of_node(node) == module


def test_a_module_with_an_open_node_is_in_use(session):
    assert unload(session, "device_dax", "dax0.0") == errno.EAGAIN
    assert unload(session, "nd_pmem", "dax0.0", "pmem1") == errno.EAGAIN
    assert unload(session, "no_such", "dax0.0") == errno.ENOENT


def test_nodes_of_other_modules_do_not_matter(session):
    assert unload(session, "device_dax", "pmem0", "ndctl0") == 0
    assert unload(session, "dax_pmem", "dax0.0") == 0
