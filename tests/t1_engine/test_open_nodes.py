"""Device nodes that processes have open; the kernel's answers are in tests/recordings/e820, holds and references."""

import errno
import os

import pytest
from poke import Hands

from nvdimmfs.errors import KernelError
from nvdimmfs.machine.open_nodes import open_device_node


@pytest.fixture
def hands():
    return Hands.on("512M!4G,256M!6G", ram=8 << 30)


def refusal(hands, name, flags):
    with pytest.raises(KernelError) as refused:
        open_device_node(hands.machine, name, flags)
    return refused.value.errno


def number_of(hands, name):
    return hands.machine.persistent_memory.blocks.disks[name].number.minor


def test_the_number_of_a_disk_is_free_when_its_node_is_closed(hands):
    first, second = (open_device_node(hands.machine, "pmem0", os.O_RDONLY) for _ in range(2))
    minor = number_of(hands, "pmem0")
    for close in (None, first.close, second.close):
        if close:
            close()
        hands.unbind("namespace0.0")
        hands.bind("namespace0.0")
        assert (number_of(hands, "pmem0") == minor) is (close == second.close)


@pytest.mark.parametrize(
    ("name", "owner", "references"),
    [("pmem0", "nd_pmem", 1), ("ndctl0", "libnvdimm", 2), ("dax1.0", "device_dax", 2)],
)
def test_a_module_is_in_use_while_a_node_is_open(hands, name, owner, references):
    hands.bring_up(1, "dax", mode="pmem")
    module = hands.machine.persistent_memory.modules.loaded[owner]
    before = module.reference_count
    node = open_device_node(hands.machine, name, os.O_RDONLY)
    assert module.reference_count == before + references
    node.close()
    assert module.reference_count == before


def test_opening_a_missing_or_exclusive_node_is_refused(hands):
    assert refusal(hands, "pmem9", os.O_RDONLY) == errno.ENOENT
    node = open_device_node(hands.machine, "pmem0", os.O_RDONLY | os.O_EXCL)
    assert refusal(hands, "pmem0", os.O_RDONLY | os.O_EXCL) == errno.EBUSY
    open_device_node(hands.machine, "pmem0", os.O_RDONLY).close()
    node.close()
    open_device_node(hands.machine, "pmem0", os.O_RDONLY | os.O_EXCL).close()
