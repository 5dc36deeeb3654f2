"""Where a machine's RAM is, and the NUMA nodes that it belongs to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import attrs

from nvdimmfs.mm.intervals import IntervalSet

#: The distances that Linux assumes without a table, of a node to itself and to another (include/linux/topology.h).
LOCAL_DISTANCE = 10
REMOTE_DISTANCE = 20

#: The node of memory that no table assigns to a node.
FIRST_NODE = 0

#: No node (include/linux/numa.h).
NUMA_NO_NODE = -1


@attrs.frozen
class RamSpan:
    """RAM at the physical addresses from `start` to before `end`, of the node `nid`."""

    start: int
    end: int
    nid: int = FIRST_NODE

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


def place_ram(
    size: int, start: int, nid: int, usable: Iterable[tuple[int, int]], taken: IntervalSet
) -> Iterator[RamSpan]:
    """Yield where `size` bytes of RAM are placed: from address `start` upward, around what is taken.

    Less is yielded where the usable addresses, given as (first, end) in ascending order, have no room.
    """
    for low, high in usable:
        low = max(low, start)
        for first, end in taken.gaps(low, high):
            end = min(end, first + size)
            if first < end:
                yield RamSpan(first, end, nid)
                size -= end - first


@attrs.frozen
class NodeAccess:
    """How fast the nearest processors, those of `FIRST_NODE`, reach the memory of a node; 0 for what is not known.

    Attributes:
        nid: the node.
        read_latency, write_latency: nanoseconds.
        read_bandwidth, write_bandwidth: MB/s.
    """

    nid: int
    read_latency: int = 0
    write_latency: int = 0
    read_bandwidth: int = 0
    write_bandwidth: int = 0


@attrs.frozen
class Nodes:
    """The NUMA nodes of a machine, as its firmware describes them (SRAT, SLIT, HMAT).

    Attributes:
        ram: which RAM belongs to which node; RAM that is in none of the spans belongs to `FIRST_NODE`.
        online: the nodes that are online at boot even without RAM: those with processors, or nearest to a range.
        possible: all nodes that the machine can have; a node that is not online appears with its first memory.
        distances: row by row, for all nodes; empty where there is no table.
        accesses: how fast the memory is of those nodes of which that is known.
    """

    ram: tuple[RamSpan, ...] = ()
    online: frozenset[int] = frozenset({FIRST_NODE})
    possible: frozenset[int] = frozenset({FIRST_NODE})
    distances: tuple[tuple[int, ...], ...] = ()
    accesses: tuple[NodeAccess, ...] = ()

    @classmethod
    def count(cls, number: int) -> Nodes:
        """So many nodes, the first of which has all RAM."""
        nodes = frozenset(range(number))
        return cls(online=nodes, possible=nodes)

    def distance(self, nid: int, other: int) -> int:
        """The distance of two nodes (node_distance, arch/x86/mm/numa.c, Linux 6.1)."""
        if max(nid, other) < len(self.distances):
            return self.distances[nid][other]
        return LOCAL_DISTANCE if nid == other else REMOTE_DISTANCE

    def nearest(self, nid: int, online: Collection[int]) -> int:
        """A node if it is online, else the nearest one that is (numa_map_to_online_node, Linux 6.1).

        Args:
            nid: the node.
            online: the nodes that are online, in ascending order.
        """
        return nid if nid in online else min(online, key=lambda other: self.distance(nid, other))

    def access(self, nid: int) -> NodeAccess | None:
        """How fast the memory of a node is; None if that is not known."""
        return next((each for each in self.accesses if each.nid == nid), None)

    def node_of(self, address: int) -> int:
        """The node of a physical address (memory_add_physaddr_to_nid, phys_to_target_node)."""
        return next((span.nid for span in self.ram if span.start <= address < span.end), FIRST_NODE)

    def split(self, first: int, end: int) -> Iterator[RamSpan]:
        """Yield the parts of a range of RAM, given by its addresses, that are of one node each, in address order."""
        for span in self.ram:
            low, high = max(first, span.start), min(end, span.end)
            if low < high:
                if first < low:
                    yield RamSpan(first, low)
                yield RamSpan(low, high, span.nid)
                first = high
        if first < end:
            yield RamSpan(first, end)
