"""Checkpoints of a machine: after a reset everything is as it was.  tests/torture/resets.py has the random walks."""

from __future__ import annotations

import errno

import pytest
from descriptions import described
from poke import Hands

from nvdimmfs.kernfs import Attribute, Directory
from nvdimmfs.machine.checkpoint import CheckpointError
from nvdimmfs.machine.machine import Machine
from nvdimmfs.units import GIB

CHECKPOINT = "kernel/debug/nvdimmfs/checkpoint"


class Mirror:
    """A listener that knows the tree from what it was told."""

    def __init__(self, machine):
        self.nodes = set()
        self.notified_paths = []
        self.restored_count = 0
        self._add(machine.tree.root)
        machine.tree.subscribe(self)

    def _add(self, node):
        self.nodes.add(node)
        if isinstance(node, Directory):
            for child in node.instantiated:
                self._add(child)

    def added(self, _directory, node):
        self._add(node)

    instantiated = added

    def removed(self, _directory, node):
        assert node in self.nodes
        self.nodes.discard(node)
        if isinstance(node, Directory):
            for child in node.instantiated:
                self.removed(node, child)

    def notified(self, node):
        self.notified_paths.append(node.path)

    def revoked(self, node):
        """No page of this listener is mapped."""

    def resetting(self):
        """Each change is reported."""

    def restored(self):
        self.restored_count += 1


def walk(node):
    yield node
    if isinstance(node, Directory):
        for child in node.instantiated:
            yield from walk(child)


def to_pfn(hands):
    hands.bring_up(0, "pfn", mode="pmem")


@pytest.fixture
def hands():
    return Hands.on("512M!4G,256M!6G", ram=8 * GIB)


def test_a_claim_a_binding_bytes_and_settings_are_undone(hands):
    with hands.machine.checkpoint() as checkpoint:
        before = described(hands.machine)
    hands.write("devices/platform/e820_pmem/ndbus0/region0/read_only", "1")
    hands.write("devices/platform/e820_pmem/ndbus0/region0/read_only", "0")
    to_pfn(hands)
    hands.write("kernel/debug/nvdimmfs/fail_registration", "ENOMEM")
    assert "pfn0.0" in hands.debug("memmap")
    hands.machine.tree.root.find("dev/pmem0").data.write(4096, b"data")
    checkpoint.reset()
    assert described(hands.machine) == before


def test_a_reset_can_be_repeated_and_checkpoints_nested(hands):
    outer = hands.machine.checkpoint()
    first = described(hands.machine)
    outer.reset()
    to_pfn(hands)
    inner = hands.machine.checkpoint()
    second = described(hands.machine)
    for checkpoint, expected in ((inner, second), (outer, first), (inner, second), (outer, first)):
        checkpoint.reset()
        assert described(hands.machine) == expected


def test_modules_are_loaded_and_unloaded_again(hands):
    with hands.machine.checkpoint() as checkpoint:
        before = described(hands.machine)
    for act in ("load kmem", "unload kmem", "unload dax_pmem"):
        hands.write("kernel/debug/nvdimmfs/modules", act)
    hands.write("bus/platform/drivers/e820_pmem/unbind", "e820_pmem")
    for module in ("nd_pmem", "nd_e820", "nd_btt", "libnvdimm"):
        hands.write("kernel/debug/nvdimmfs/modules", f"unload {module}")
    assert hands.machine.nd_bus is None
    checkpoint.reset()
    assert described(hands.machine) == before


def test_a_block_of_memory_that_was_looked_at_later_stays_valid(hands):
    mirror = Mirror(hands.machine)
    sys = hands.machine.system.sys
    checkpoint = hands.machine.checkpoint()
    block, link = sys.find("devices/system/memory/memory40"), sys.find("bus/memory/devices/memory40")
    state = block.find("state")
    state.store(b"offline\n")
    assert link.target is block
    checkpoint.reset()
    assert sys.find("devices/system/memory/memory40") is block
    assert block.find("state") is state
    assert state.show() == b"online\n"
    assert sys.find("bus/memory/devices/memory40").target is block
    assert block.path == "/sys/devices/system/memory/memory40"
    state.store(b"offline\n")
    assert state.show() == b"offline\n"
    assert block in mirror.nodes
    assert link not in mirror.nodes


def test_a_backing_device_info_that_was_looked_at_later_stays_valid(hands):
    mirror = Mirror(hands.machine)
    sys = hands.machine.system.sys
    checkpoint = hands.machine.checkpoint()
    assert not list(sys.find("devices/virtual/bdi").instantiated)
    bdi = sys.find("class/bdi/259:0").target
    ratio = bdi.find("min_ratio")
    ratio.store(b"7")
    checkpoint.reset()
    assert sys.find("devices/virtual/bdi/259:0") is bdi
    assert sys.find("block/pmem0").target.find("bdi").target is bdi
    assert (bdi.find("min_ratio"), ratio.show()) == (ratio, b"0\n")
    ratio.store(b"8")
    hands.write("bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    assert bdi.parent is None
    assert bdi not in mirror.nodes


def test_pending_events_and_the_time_are_restored():
    hands = Hands.described("nfit_test")
    machine = hands.machine
    scrub = "devices/platform/nfit_test.0/ndbus0/nfit/scrub"
    count = hands.read(scrub)
    machine.checkpoint()
    due = machine.system.clock.pending
    machine.system.clock.advance(10**12)
    assert hands.read(scrub) != count
    machine.reset()
    assert machine.system.clock.pending == due
    assert hands.read(scrub) == count


def test_the_hosts_time_does_not_pass_across_a_reset():
    now = 0
    machine = Machine.legacy("512M!4G", 8 * GIB)
    clock = machine.system.clock
    clock._host = lambda: now
    clock.start()
    now = 5
    checkpoint = machine.checkpoint()
    then = clock.now
    now = 10**9
    checkpoint.reset()
    assert clock.now == then
    now += 7
    assert clock.now == then + 7


def test_listeners_are_told_of_every_node_that_comes_or_goes(hands):
    mirror = Mirror(hands.machine)
    region = hands.device("region0")
    checkpoint = hands.machine.checkpoint()
    for change in (to_pfn, lambda hands: hands.write("bus/nd/drivers/nd_region/unbind", "region0")):
        change(hands)
        checkpoint.reset()
        root = hands.machine.tree.root
        assert {node for node in mirror.nodes if node.parent or node is root} == set(walk(root))
    assert mirror.restored_count == 2
    assert hands.read(f"{region}/namespace_seed") == "namespace0.0\n"


def test_a_node_that_was_made_after_the_checkpoint_is_a_removed_one(hands):
    checkpoint = hands.machine.checkpoint()
    to_pfn(hands)
    seed = hands.machine.system.sys.find("devices/platform/e820_pmem/ndbus0/region0/pfn0.1")
    attribute = seed.find("mode")
    checkpoint.reset()
    assert seed.is_detached
    assert seed.path.endswith("/region0/pfn0.1")
    with pytest.raises(Exception, match="was removed") as refusal:
        attribute.show()
    assert refusal.value.errno == errno.ENODEV


def test_a_node_that_was_only_looked_up_after_the_checkpoint_stays_valid(hands):
    Mirror(hands.machine)
    device = hands.machine.system.sys.find("devices/platform/e820_pmem/ndbus0/region0/pfn0.0")
    platform = hands.machine.system.sys.find("devices/platform/e820_pmem")
    checkpoint = hands.machine.checkpoint()
    power = platform.find("power")
    control, mode = power.find("control"), device.find("mode")
    assert isinstance(mode, Attribute)
    hands.write(f"{hands.device('pfn0.0')}/mode", "ram")
    mode.mode &= ~0o200
    checkpoint.reset()
    assert platform.find("power") is power
    assert power.find("control") is control
    assert device.find("mode") is mode
    assert (mode.show(), mode.mode & 0o777) == (b"none\n", 0o644)


def test_a_node_that_was_removed_is_the_same_node_again(hands):
    device = hands.machine.system.sys.find("devices/platform/e820_pmem/ndbus0/region0/pfn0.0")
    mode = device.find("mode")
    inode = mode.ino
    with hands.machine.checkpoint():
        hands.write("bus/nd/drivers/nd_region/unbind", "region0")
        assert device.is_detached
    assert hands.machine.system.sys.find("devices/platform/e820_pmem/ndbus0/region0/pfn0.0/mode") is mode
    assert (mode.show(), mode.ino) == (b"none\n", inode)


def test_the_debug_file_takes_a_checkpoint_and_resets(hands):
    assert hands.read(CHECKPOINT) == "none\n"
    assert hands.refused(CHECKPOINT, "reset") == errno.EINVAL
    hands.write(CHECKPOINT, "take")
    assert hands.read(CHECKPOINT) == "taken\n"
    to_pfn(hands)
    hands.write(CHECKPOINT, "reset")
    assert hands.read(f"{hands.device('pfn0.0')}/mode") == "none\n"
    assert hands.refused(CHECKPOINT, "again") == errno.EINVAL


def test_the_debug_file_keeps_checkpoints_by_name(hands):
    mode = f"{hands.device('pfn0.0')}/mode"
    hands.write(CHECKPOINT, "take first")
    hands.write(mode, "ram")
    hands.write(CHECKPOINT, "take second")
    assert hands.read(CHECKPOINT) == "taken\nfirst\nsecond\n"
    for name, expected in (("first", "none\n"), ("second", "ram\n"), ("first", "none\n")):
        hands.write(CHECKPOINT, f"reset {name}")
        assert hands.read(mode) == expected
    hands.write(CHECKPOINT, "reset")
    assert hands.read(mode) == "ram\n"
    hands.write(CHECKPOINT, "forget first")
    assert hands.read(CHECKPOINT) == "taken\nsecond\n"
    for mistake in ("reset first", "forget first", "forget", "take a/b", "take a b"):
        assert hands.refused(CHECKPOINT, mistake) == errno.EINVAL


def test_a_machine_whose_bytes_are_in_files_has_no_checkpoints(tmp_path):
    machine = Machine.legacy("512M!4G", 8 * GIB, tmp_path)
    with pytest.raises(CheckpointError, match="--media"):
        machine.checkpoint()
    hands = Hands.of(machine)
    assert hands.refused(CHECKPOINT, "take") == errno.EOPNOTSUPP
    with pytest.raises(CheckpointError, match="no checkpoint"):
        machine.reset()
    machine.close()
