"""A machine in this process that answers the questions of recordings."""

import pytest

from nvdimmfs.lab.emulated import emulated
from nvdimmfs.machine_file.files import load_machine

UNBIND = {"op": "write", "path": "bus/nd/drivers/nd_pmem/unbind", "data": "namespace0.0"}
UEVENTS = {"op": "uevents"}


@pytest.fixture
def tree():
    with emulated(load_machine("e820")) as tree:
        yield tree


def sent(tree):
    return [(action, path.rpartition("/")[2]) for action, path, *_ in tree.answer(UEVENTS)["events"]]


def test_uevents_are_those_of_the_last_question(tree):
    assert sent(tree) == []
    tree.answer(UNBIND)
    assert [action for action, _ in sent(tree)] == ["remove", "remove", "unbind"]
    assert sent(tree) == []
    tree.answer(UNBIND | {"path": "bus/nd/drivers/nd_pmem/bind"})
    tree.answer({"op": "read", "path": "bus/nd/devices/region0/size"})
    assert sent(tree) == []


def test_a_machine_that_has_booted_again_is_sent(tree):
    tree.answer(UNBIND)
    tree.answer({"op": "reboot"})
    assert sent(tree) == []
    tree.answer(UNBIND)
    assert ("unbind", "namespace0.0") in sent(tree)


def test_watched_files_are_notified_and_removed(tree):
    """A region that is unbound keeps its own files."""
    assert tree.answer({"op": "watch", "path": "bus/nd/devices/none"}) == {"errno": "ENOENT"}
    assert tree.answer({"op": "watch", "path": "bus/nd/devices"}) == {"errno": "EISDIR"}
    for path in ("bus/nd/devices/region0/size", "bus/nd/devices/btt0.0/size", "bus/nd/devices/btt1.0/size"):
        assert tree.answer({"op": "watch", "path": path}) == {"result": 0}
    assert tree.answer({"op": "poll"}) == {"names": []}
    tree.answer({"op": "write", "path": "bus/nd/drivers/nd_region/unbind", "data": "region0"})
    assert tree.answer({"op": "poll"}) == {"names": ["bus/nd/devices/btt0.0/size"]}
    assert tree.answer({"op": "poll"}) == {"names": []}
    tree.answer({"op": "reboot"})
    assert tree.answer({"op": "poll"}) == {"names": []}
