"""Namespaces: the parts of a region that are used."""

from __future__ import annotations

import enum
import errno
import uuid
from typing import ClassVar, Self

from nvdimmfs.core.attribute import AttributeGroup, attribute, truth_value
from nvdimmfs.core.parse import line
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.info_block import NULL_UUID
from nvdimmfs.kernels.kernel import INFO_BLOCK_RESERVE
from nvdimmfs.media.base import Media, MediaWindow
from nvdimmfs.mm.resource import Intersection
from nvdimmfs.nd.device import ND_DEVICE_GROUP, DeviceType, NdDevice
from nvdimmfs.nd.region import RegionDevice, SeedKind


class ClaimClass(enum.Enum):
    """The kind of personality that may claim a namespace."""

    NONE = "none"
    BTT = "btt 1.1"
    BTT2 = "btt 2.0"
    PFN = "pfn"
    DAX = "dax"
    UNKNOWN = "unknown"


#: The content of holder_class for each class.
_SHOWN_CLASS = {
    ClaimClass.NONE: "",
    ClaimClass.BTT: "btt",
    ClaimClass.BTT2: "btt",
    ClaimClass.PFN: "pfn",
    ClaimClass.DAX: "dax",
    ClaimClass.UNKNOWN: "<unknown>",
}


class Claimant(NdDevice):
    """A device that can claim a namespace: a personality, see `nd.claim`.

    Attributes:
        kind: btt, pfn or dax.
    """

    kind: ClassVar[SeedKind]


class NamespaceDevice(NdDevice):
    """A namespace of either kind.

    Attributes:
        region: the region that contains it.
        id: the number after the dot.
        start: first physical address.
        size: bytes.
        claim: the personality that claims it; None for none.
        claim_class: the kind of personality that may claim it.
        force_raw: the next probe neither looks for info blocks nor maps with struct page.
    """

    parent: RegionDevice

    def __init__(self, region: RegionDevice, number: int, start: int, size: int) -> None:
        super().__init__(region.system, f"{SeedKind.NAMESPACE}{region.id}.{number}", region)
        self.bus = region.bus
        self.region = region
        self.id = number
        self.start = start
        self.size = size
        self.numa_node = region.numa_node
        self.target_node = region.target_node
        self.claim: Claimant | None = None
        self.claim_class = ClaimClass.NONE
        self.force_raw = False

    @property
    def media(self) -> Media:
        """Its bytes; errors as `window`."""
        return self.window(self.start, self.size)

    def window(self, start: int, size: int) -> MediaWindow:
        """Its bytes from a physical address on.

        EBUSY when it is not inside its region, which a uuid of two regions can cause (`start_of`).  Linux 6.1 binds it
        if nothing has reserved those addresses, to whatever memory is there.
        """
        self._require_region()
        return MediaWindow(self.region.media, start - self.region.start, size)

    @property
    def begins_blank(self) -> bool:
        """Whether it is known, without a read, that it has no info block; errors as `window`."""
        self._require_region()
        offset = self.start - self.region.start
        return self.size >= INFO_BLOCK_RESERVE and self.region.media.is_blank(offset, INFO_BLOCK_RESERVE)

    def _require_region(self) -> None:
        if self.start < self.region.start or self.end > self.region.end:
            raise KernelError(errno.EBUSY, f"{self.name} at {self.start:#x} is not inside {self.region.name}")

    def read_head(self) -> bytes:
        """Its first bytes, as many as are reserved for info blocks.  Errors as `media` and as the medium."""
        return self.media.read(0, min(self.size, INFO_BLOCK_RESERVE))

    @property
    def modalias_type(self) -> DeviceType:
        return self.region.nstype

    @property
    def end(self) -> int:
        """Last physical address."""
        return self.start + self.size - 1

    @property
    def parent_uuid(self) -> uuid.UUID:
        """The parent uuid of info blocks on this namespace: null if no label gives the namespace a uuid."""
        return NULL_UUID

    @property
    def logical_block_size(self) -> int:
        """Bytes of a sector of its disk."""
        return 512

    @property
    def page_mapped(self) -> bool:
        """Whether its raw form is mapped with struct page (pmem_should_map_pages, Linux 6.1)."""
        rules = self.system.kernel.devices
        if not self.region.page_mapped or not rules.raw_pagemap:
            return False
        if self.force_raw and rules.force_raw_is_not_mapped:
            return False
        return not (rules.mixed_is_not_mapped and self._mixed_with_ram)

    @property
    def _mixed_with_ram(self) -> bool:
        found = self.region.memory.iomem.intersects(self.start, self.size)
        return found is Intersection.MIXED

    @property
    def disk_name(self) -> str:
        """The block device's name: pmemX, pmemX.Y from the second namespace on, followed by s for a BTT.

        Older kernels add an m for struct pages.
        """
        rules = self.system.kernel.disks
        number = f".{self.id}" if self.id and rules.disk_numbers else ""
        unclaimed = "memory" if self.page_mapped else "raw"
        suffix = rules.disk_suffixes.get(self.claim.kind.value if self.claim else unclaimed, "")
        return f"pmem{self.region.id}{number}{suffix}"

    def unregister(self) -> None:
        """Unregister; a claim that has its disk below the namespace is unbound first."""
        if self.children and self.claim and self.claim.driver:
            self.bus.unbind(self.claim)
        super().unregister()

    def require_idle(self) -> None:
        """EBUSY while a driver is bound or a personality claims it."""
        if self.driver or self.claim:
            raise KernelError(errno.EBUSY, f"{self.name} is in use")

    def require_ready(self) -> None:
        """Refuse a driver if this kind of namespace is not ready for it."""

    def btt_class(self) -> ClaimClass:
        """The BTT version that the holder class `btt` selects (btt_claim_class, Linux 6.1).

        BTT 1.1 if a DIMM is disabled or the region has none, and for labels 1.1; 2.0 for labels 1.2, and while there
        are no labels, even if none are ever written.  ENXIO when the DIMMs differ.
        """
        found = set()
        for mapping in self.region.mappings:
            data = mapping.dimm.data
            if data is None:
                return ClaimClass.BTT
            if data.labels.index is None:
                found.add("none yet")
            else:
                found.add("1.1" if data.labels.is_version_1_1 else "1.2")
        if len(found) > 1:
            raise KernelError(errno.ENXIO, "the DIMMs have labels of different versions")
        return ClaimClass.BTT if found <= {"1.1"} else ClaimClass.BTT2

    def update_labels(self) -> None:
        """Write changes to the labels.  ENXIO without labels."""
        raise KernelError(errno.ENXIO, f"{self.name} has no label")


class NamespaceIo(NamespaceDevice):
    """A namespace that fills its region, without labels."""

    device_type = "nd_namespace_io"

    def __init__(self, region: RegionDevice) -> None:
        super().__init__(region, 0, region.start, region.size)

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (ND_DEVICE_GROUP, NAMESPACE_GROUP, FIXED_SIZE_GROUP, *self.numa_groups)


@attribute("nstype")
def nstype(namespace: NamespaceDevice) -> str:
    """The device type: 4 without labels, 5 with labels."""
    return f"{namespace.region.nstype}\n"


@attribute("size")
def size(namespace: NamespaceDevice) -> str:
    """Bytes."""
    return f"{namespace.size}\n"


#: The content of `mode` for each kind of claim.
_CLAIMED_MODE = {SeedKind.BTT: "safe", SeedKind.PFN: "memory", SeedKind.DAX: "dax"}


@attribute("mode", since="4.5")
def mode(namespace: NamespaceDevice) -> str:
    """How the namespace is, or would be, used: `safe` (BTT), `memory` (with struct page), `dax` or `raw`."""
    if namespace.claim:
        return f"{_CLAIMED_MODE[namespace.claim.kind]}\n"
    return "memory\n" if namespace.page_mapped else "raw\n"


@attribute("holder")
def holder(namespace: NamespaceDevice) -> str:
    """The btt, pfn or dax device that claims it; empty for none."""
    return f"{namespace.claim.name if namespace.claim else ''}\n"


@attribute("holder_class", since="4.15")
def holder_class(namespace: NamespaceDevice) -> str:
    """The only kind of device that may claim it: `btt`, `pfn`, `dax`, `<unknown>`; empty for any."""
    return f"{_SHOWN_CLASS[namespace.claim_class]}\n"


@holder_class.on_store
def _store_holder_class(namespace: NamespaceDevice, data: bytes) -> None:
    """`btt`, `pfn`, `dax`, or an empty line for any.

    EBUSY while bound or claimed, EINVAL for anything else, ENXIO when its DIMMs have labels of different versions.
    ENXIO also without a label that could store it; the class is set even so, until the region is unbound.
    """
    namespace.require_idle()
    match line(data):
        case "":
            namespace.claim_class = ClaimClass.NONE
        case "btt":
            namespace.claim_class = namespace.btt_class()
        case "pfn":
            namespace.claim_class = ClaimClass.PFN
        case "dax":
            namespace.claim_class = ClaimClass.DAX
        case _:
            raise KernelError(errno.EINVAL, "not a holder class")
    namespace.update_labels()


@attribute("resource", 0o400, private_since="4.15")
def resource(namespace: NamespaceDevice) -> str:
    """First physical address.  ENXIO while it has no size."""
    if namespace.size == 0:
        raise KernelError(errno.ENXIO, f"{namespace.name} is empty")
    return f"{namespace.start:#x}\n"


@attribute("force_raw")
def force_raw(namespace: NamespaceDevice) -> str:
    """1 when the next probe ignores info blocks, else 0."""
    return f"{int(namespace.force_raw)}\n"


@force_raw.on_store
def _store_force_raw(namespace: NamespaceDevice, data: bytes) -> None:
    """Allowed at any time, also while bound or claimed.  EINVAL for anything but a truth value."""
    namespace.force_raw = truth_value(namespace, data)


NAMESPACE_GROUP: AttributeGroup[NamespaceDevice] = AttributeGroup(
    (nstype, mode, holder, holder_class, resource, force_raw)
)
FIXED_SIZE_GROUP: AttributeGroup[NamespaceDevice] = AttributeGroup((size,))
