"""The nodes with which a sandbox begins, while other sandboxes use the same machine."""

import errno

import attrs

from nvdimmfs.sandbox.dev_directory import DevDirectory
from nvdimmfs.sandbox.device_node import NodeNumber
from nvdimmfs.sandbox.supervisor import Supervisor

#: What the machine lists.
NODES = (
    ("char", 252, 0, "ndctl0", 0, False),
    ("block", 259, 0, "pmem0", 512, False),
    ("block", 259, 1, "pmem1", 4096, True),
)


class Client:
    """Takes the place of the machine's client."""

    def __init__(self):
        self.renumbered = []

    def nodes(self):
        return NODES

    def renumber_all(self, changes):
        self.renumbered += changes


@attrs.frozen
class Node:
    """Takes the place of a device node."""

    number: NodeNumber


class Characters:
    """Takes the place of the host's libnvdimm."""

    def create(self, path, current):
        return NodeNumber(254, current.minor)

    def release(self, number):
        raise AssertionError


class Loops:
    """Takes the place of loop devices; the first disk has gone when it is attached."""

    def __init__(self):
        self.attached = []

    def attach(self, file, path, block_size, *, read_only):
        if file.name == "pmem0":
            raise OSError(errno.ENOENT, "it has just been removed")
        self.attached.append((file.name, path.name, block_size, read_only))
        return Node(NodeNumber(7, 257))


class ClosedDisks:
    """Takes the place of what writes back closed disks."""

    def watch(self, path):
        """Nothing to do."""


class Begun:
    """Takes the place of a supervisor."""

    _create_node = Supervisor._create_node

    def __init__(self, directory, loops):
        self._client = Client()
        self._dev = DevDirectory(
            directory, directory, directory, loops, ClosedDisks(), warn=lambda _: None, characters=Characters()
        )
        self._devices, self._names, self._disk_files = set(), {}, {}


def test_a_device_that_goes_meanwhile_is_left_out(tmp_path):
    loops = Loops()
    begun = Begun(tmp_path, loops)
    Supervisor.create_nodes(begun)
    assert begun._names == {("char", NodeNumber(254, 0)): "ndctl0", ("block", NodeNumber(7, 257)): "pmem1"}
    assert begun._devices == set(begun._names)
    assert begun._client.renumbered == [("char", (252, 0), (254, 0)), ("block", (259, 1), (7, 257))]
    assert loops.attached == [("pmem1", "pmem1", 4096, True)]
    assert list(tmp_path.iterdir()) == []
