"""The resource tree, physical address ranges and their owners, behind /proc/iomem (kernel/resource.c, Linux 6.1)."""

from __future__ import annotations

import bisect
import enum
import errno
import functools
import itertools
import operator
from collections.abc import Iterator

import attrs

from nvdimmfs.errors import KernelError


class ResourceFlag(enum.Flag):
    """The type of a resource, and whether it is busy (include/linux/ioport.h)."""

    MEM = enum.auto()
    SYSRAM = enum.auto()
    BUSY = enum.auto()
    SYSTEM_RAM = MEM | SYSRAM


class ResourceDescriptor(enum.IntEnum):
    """IORES_DESC_*: the use of a memory resource (include/linux/ioport.h)."""

    NONE = 0
    CRASH_KERNEL = 1
    ACPI_TABLES = 2
    ACPI_NV_STORAGE = 3
    PERSISTENT_MEMORY = 4
    PERSISTENT_MEMORY_LEGACY = 5
    DEVICE_PRIVATE_MEMORY = 6
    RESERVED = 7
    SOFT_RESERVED = 8


class Intersection(enum.Enum):
    """How a range overlaps resources of one kind (REGION_* of include/linux/mm.h).

    INTERSECTS also applies when the rest of the range belongs to no resource; MIXED when it belongs to another kind.
    """

    DISJOINT = enum.auto()
    INTERSECTS = enum.auto()
    MIXED = enum.auto()


@attrs.define(eq=False, weakref_slot=False)
class Resource:
    """A range of addresses with a name, and the ranges within it.

    Attributes:
        start, end: addresses, both inclusive.
        flags: within a resource that is not BUSY, other resources can be requested.
        desc: the kind of memory, for searches by kind.
        children: resources within this one, in address order, without overlaps.
    """

    name: str
    start: int
    end: int
    flags: ResourceFlag = ResourceFlag.MEM
    desc: ResourceDescriptor = ResourceDescriptor.NONE
    parent: Resource | None = attrs.field(default=None, repr=False)
    children: list[Resource] = attrs.field(factory=list, repr=False)

    @property
    def size(self) -> int:
        return self.end - self.start + 1

    @property
    def busy(self) -> bool:
        return ResourceFlag.BUSY in self.flags

    def copy(self) -> Resource:
        """A tree of its own with the same resources."""
        new = Resource(self.name, self.start, self.end, self.flags, self.desc)
        new.children = [child.copy() for child in self.children]
        for child in new.children:
            child.parent = new
        return new

    def insert(self, new: Resource) -> Resource:
        """Insert a resource below this one; resources that it contains become its children (insert_resource).

        EBUSY when it overlaps a resource in part, or extends beyond this resource.
        """
        parent = self
        while True:
            conflict = parent._conflict(new.start, new.end)
            if conflict is None:
                return parent._adopt(new)
            if conflict is parent:
                raise _busy(new, parent)
            if not _holds_more_than(conflict, new):
                break
            parent = conflict
        covered = list(parent._overlapping(new.start, new.end))
        for child in covered:
            if child.start < new.start or child.end > new.end:
                raise _busy(new, child)
        for child in covered:
            child.detach()
            new._adopt(child)
        return parent._adopt(new)

    def request(self, start: int, size: int, name: str) -> Resource:
        """Reserve a range for one user, as a busy resource (request_mem_region).

        The range may lie within a resource that is not busy, so that a driver can own a part of "Persistent Memory
        (legacy)".  EBUSY when it overlaps a busy resource, or any resource in part.
        """
        parent = self._free_within(start, size, name)
        return parent._adopt(Resource(name, start, start + size - 1, _requested_in(parent.flags), parent.desc))

    def check(self, start: int, size: int, name: str) -> None:
        """Raise the EBUSY that `request` would raise, without reserving the range."""
        self._free_within(start, size, name)

    def _free_within(self, start: int, size: int, name: str) -> Resource:
        """Return the innermost resource that contains a range without any owner.  EBUSY."""
        parent, end = self, start + size - 1
        while conflict := parent._conflict(start, end):
            if conflict is parent or conflict.busy:
                raise _busy(f"{name} {start:#x}-{end:#x}", conflict)
            parent = conflict
        return parent

    def release(self, start: int, size: int) -> None:
        """Release a range that `request` reserved; it must be the same range (release_mem_region)."""
        end = start + size - 1
        holder = self
        while True:
            inside = next(holder._overlapping(start, end), None)
            if inside is None or inside.start > start or inside.end < end:
                raise LookupError(f"no resource holds {start:#x}-{end:#x}")
            if not inside.busy:
                holder = inside
                continue
            if (inside.start, inside.end) != (start, end):
                raise LookupError(f"{start:#x}-{end:#x} is only a part of {inside}")
            inside.detach()
            return

    def detach(self) -> None:
        """Remove this resource and everything below it from the tree (release_resource)."""
        assert self.parent is not None, "the root cannot be removed"
        children = self.parent.children
        del children[bisect.bisect_left(children, self.start, key=_start)]
        self.parent = None

    def remove(self) -> None:
        """Remove this resource from the tree; its children move up to its parent (remove_resource)."""
        parent, children = self.parent, list(self.children)
        assert parent is not None, "the root cannot be removed"
        self.detach()
        for child in children:
            child.detach()
            parent._adopt(child)

    def intersects(
        self,
        start: int,
        size: int,
        flags: ResourceFlag = ResourceFlag.SYSTEM_RAM,
        desc: ResourceDescriptor = ResourceDescriptor.NONE,
    ) -> Intersection:
        """How a range overlaps resources of a kind, System RAM by default (region_intersects)."""
        end = start + size - 1
        matching = other = False
        for child in self._overlapping(start, end):
            if child.matches(flags, desc):
                matching = True
                continue
            inner = [
                resource
                for _, resource in child.walk()
                if resource.start <= end and resource.end >= start and resource.matches(flags, desc)
            ]
            matching = matching or bool(inner)
            other = other or not _covered(max(start, child.start), min(end, child.end), inner)
        if not matching:
            return Intersection.DISJOINT
        return Intersection.MIXED if other else Intersection.INTERSECTS

    def matches(self, flags: ResourceFlag, desc: ResourceDescriptor = ResourceDescriptor.NONE) -> bool:
        """Whether the resource has all of `flags` and is of kind `desc` (NONE: any kind)."""
        return flags in self.flags and desc in (ResourceDescriptor.NONE, self.desc)

    def matching(self, flags: ResourceFlag, desc: ResourceDescriptor = ResourceDescriptor.NONE) -> Iterator[Resource]:
        """Yield the resources of a kind in address order, without those nested in another one (walk_iomem_res_desc)."""
        for child in self.children:
            if child.matches(flags, desc):
                yield child
            else:
                yield from child.matching(flags, desc)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Resource]]:
        """Yield (depth, resource) for everything below, parents first, in address order; depth counts from 0."""
        for child in self.children:
            yield depth, child
            yield from child.walk(depth + 1)

    def __str__(self) -> str:
        return f"{self.name} {self.start:#x}-{self.end:#x}"

    def _conflict(self, start: int, end: int) -> Resource | None:
        """Return the resource that prevents a child with these addresses: this one if it does not fit, or a child."""
        if end < start or start < self.start or end > self.end:
            return self
        children = self.children
        index = bisect.bisect_left(children, start, key=_end)
        return children[index] if index < len(children) and children[index].start <= end else None

    def _overlapping(self, start: int, end: int) -> Iterator[Resource]:
        """Yield the children that overlap a range."""
        for child in itertools.islice(self.children, self._first_ending_from(start), None):
            if child.start > end:
                return
            yield child

    def _first_ending_from(self, start: int) -> int:
        """Return the index of the first child that does not end before an address.

        Children do not overlap, so their ends are in the same order as their starts.
        """
        return bisect.bisect_left(self.children, start, key=_end)

    def _adopt(self, new: Resource) -> Resource:
        self.children.insert(bisect.bisect_left(self.children, new.start, key=_start), new)
        new.parent = self
        return new


def iomem_root(end: int) -> Resource:
    """Create the root of a tree that ends at the processor's last physical address ("PCI mem" in the kernel)."""
    return Resource("PCI mem", 0, end)


@functools.cache  # arithmetic of flags takes as long as all else in `request`, which each namespace makes
def _requested_in(flags: ResourceFlag) -> ResourceFlag:
    """The flags of what is requested within a resource."""
    return flags & ResourceFlag.SYSTEM_RAM | ResourceFlag.BUSY


_start = operator.attrgetter("start")
_end = operator.attrgetter("end")


def _holds_more_than(outer: Resource, inner: Resource) -> bool:
    """Whether `outer` contains `inner` and is larger."""
    covers = outer.start <= inner.start and outer.end >= inner.end
    return covers and (outer.start, outer.end) != (inner.start, inner.end)


def _covered(start: int, end: int, resources: list[Resource]) -> bool:
    """Whether the resources, in address order, leave no gap from `start` to `end`."""
    for resource in resources:
        if resource.start > start:
            return False
        start = max(start, resource.end + 1)
        if start > end:
            return True
    return False


def _busy(new: object, conflict: Resource) -> KernelError:
    return KernelError(errno.EBUSY, f"{new} conflicts with {conflict}")
