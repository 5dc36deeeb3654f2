"""Labelled namespaces: parts of a region that labels on its DIMMs describe."""

from __future__ import annotations

import errno
import uuid
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.parse import WHITE_SPACE, c_string, parse_unsigned, select, select_list
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.info_block import NULL_UUID
from nvdimmfs.formats.label import (
    BTT2_GUID,
    BTT_GUID,
    DAX_GUID,
    LABEL_NAME_SIZE,
    LBASIZES,
    PFN_GUID,
    LabelFlag,
    NamespaceLabel,
)
from nvdimmfs.nd.device import ND_DEVICE_GROUP
from nvdimmfs.nd.dimm import DimmData
from nvdimmfs.nd.identity import UuidCounts, UuidHolder
from nvdimmfs.nd.label import MappingLabels, label_id
from nvdimmfs.nd.mapping import Mapping
from nvdimmfs.nd.namespace import NAMESPACE_GROUP, ClaimClass, NamespaceDevice
from nvdimmfs.nd.region import RegionDevice, SeedKind
from nvdimmfs.units import U64_MASK

#: The abstraction GUID in a label of version 1.2 for each kind of personality.
_ABSTRACTIONS = {
    ClaimClass.NONE: NULL_UUID,
    ClaimClass.BTT: BTT_GUID,
    ClaimClass.BTT2: BTT2_GUID,
    ClaimClass.PFN: PFN_GUID,
    ClaimClass.DAX: DAX_GUID,
    ClaimClass.UNKNOWN: NULL_UUID,
}
_CLASSES = {guid: claim_class for claim_class, guid in _ABSTRACTIONS.items() if guid != NULL_UUID}


def claim_class_of(label: NamespaceLabel) -> ClaimClass:
    """The kind of personality that a label reserves its namespace for; labels 1.1 reserve nothing."""
    if label.abstraction_guid in (None, NULL_UUID):
        return ClaimClass.NONE
    return _CLASSES.get(label.abstraction_guid, ClaimClass.UNKNOWN)


def start_of(region: RegionDevice, identity: uuid.UUID) -> int | None:
    """The physical address of a namespace's extents; None if it has none on the first DIMM.

    Extents are found by uuid.  If an unbound region on the same DIMM has left extents of that uuid, this is the address
    that they would have in this region, and it may be outside (nd_namespace_pmem_set_resource, Linux 6.1).
    """
    mapping = region.mappings[0]
    extents = _extents(mapping, identity)
    return region.start + (extents[0] - mapping.start) * len(region.mappings) & U64_MASK if extents else None


def _extents(mapping: Mapping, identity: uuid.UUID) -> list[int]:
    """The start of each of a namespace's extents on a DIMM."""
    data = mapping.dimm.data
    return [resource.start for resource in data.dpa.named(label_id(identity))] if data else []


class NamespacePmem(UuidHolder, NamespaceDevice):
    """A namespace that labels describe; while it has no size, it is not configured.

    Attributes:
        uuid: the uuid in its labels.
        alt_name: a descriptive name, at most 63 bytes.
        sector_size: bytes of a sector; 0 before it is set.
    """

    device_type = "nd_namespace_pmem"

    def __init__(self, region: RegionDevice) -> None:
        super().__init__(region, region.numbering[SeedKind.NAMESPACE].allocate(), region.start, 0)
        self.alt_name = b""
        self.sector_size = 0

    @property
    def bus_uuids(self) -> UuidCounts:
        return self.region.parent.uuids

    @property
    def is_seed(self) -> bool:
        return self.region.seeds[SeedKind.NAMESPACE] is self

    @property
    def parent_uuid(self) -> uuid.UUID:
        return self.uuid or NULL_UUID

    @property
    def logical_block_size(self) -> int:
        return 4096 if self.sector_size == 4096 else 512

    def require_ready(self) -> None:
        if self.uuid is None:
            raise KernelError(errno.ENODEV, f"{self.name} has no uuid")

    def place(self, size: int) -> None:
        """Set size and start, the latter from the extent on the first DIMM."""
        self.place_at(start_of(self.region, self.parent_uuid) if size else None, size)

    def place_at(self, start: int | None, size: int) -> None:
        """Set start and size; without a start it has no size."""
        self.size = size if start is not None else 0
        self.start = self.region.start if start is None else start

    def update_labels(self) -> None:
        """Write labels to all DIMMs, or delete them once the namespace is empty.

        Nothing is written while it is bound or claimed, and before it has a uuid.  When the host refuses a write
        (OSError), the copies of the labels in memory are put back; so are the media, unless a power cut is ordered or
        this is the first boot (`Journal.transaction`).
        """
        if self.driver or self.claim or self.uuid is None:
            return
        mappings = self.region.mappings
        undo = [_labels(mapping).undo() for mapping in mappings if mapping.labels and mapping.dimm.data]
        try:
            with self.system.transaction():
                self._update_labels(self.uuid)
        except OSError:
            for restore in undo:
                restore()
            raise

    def _update_labels(self, identity: uuid.UUID) -> None:
        if self.size == 0:
            for mapping in self.region.mappings:
                _labels(mapping).delete(identity)
            return
        for position, mapping in enumerate(self.region.mappings):
            _labels(mapping).prepare(len(_data(mapping).dpa))
            self._write_label(mapping, position, LabelFlag.UPDATING)
        for position, mapping in enumerate(self.region.mappings):
            self._write_label(mapping, position, LabelFlag(0))

    def release(self) -> None:
        self.region.numbering[SeedKind.NAMESPACE].free(self.id)

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (ND_DEVICE_GROUP, NAMESPACE_GROUP, PMEM_GROUP, *self.numa_groups)

    def _write_label(self, mapping: Mapping, position: int, flags: LabelFlag) -> None:
        interleave_set = self.region.description.interleave_set
        assert interleave_set is not None, "labels are on interleave sets only"
        assert self.uuid is not None, "a label has the namespace's uuid"
        data = _data(mapping)
        resource = next(iter(data.dpa.named(label_id(self.uuid))), None)
        if resource is None:
            raise KernelError(errno.ENXIO, f"{self.name} has no extent on {mapping.dimm.name}")
        label = NamespaceLabel(
            uuid=self.uuid,
            name=self.alt_name,
            flags=flags,
            nlabel=len(self.region.mappings),
            position=position,
            isetcookie=interleave_set.cookie1 if data.labels.is_version_1_1 else interleave_set.cookie2,
            lbasize=self.sector_size,
            dpa=resource.start,
            rawsize=resource.size,
            type_guid=interleave_set.type_guid,
            abstraction_guid=_ABSTRACTIONS[self.claim_class],
        )
        _labels(mapping).write(label)


def _data(mapping: Mapping) -> DimmData:
    """ENXIO while the DIMM is disabled."""
    if mapping.dimm.data is None:
        raise KernelError(errno.ENXIO, f"{mapping.dimm.name} is disabled")
    return mapping.dimm.data


def _labels(mapping: Mapping) -> MappingLabels:
    """ENXIO while the DIMM is disabled."""
    if mapping.labels is None or mapping.dimm.data is None:
        raise KernelError(errno.ENXIO, f"{mapping.dimm.name} is disabled")
    mapping.labels.follow(mapping.dimm.data.labels)
    return mapping.labels


@attribute("size")
def size(namespace: NamespacePmem) -> str:
    """Bytes; 0 before it is configured."""
    return f"{namespace.size}\n"


@size.on_store
def _store_size(namespace: NamespacePmem, data: bytes) -> None:
    """Grow or shrink; 0 deletes the namespace, which is unregistered unless it is the seed or the region's first.

    In this order (size_store, drivers/nvdimm/namespace_devs.c, Linux 6.1): EINVAL or ERANGE for no number; EBUSY in
    use; ENXIO without uuid; EINVAL unless a multiple of the region's align; ENXIO while a DIMM is disabled; ENOSPC.
    """
    wanted = parse_unsigned(data)
    namespace.require_idle()
    _resize(namespace, wanted)
    namespace.update_labels()
    if wanted == 0:
        namespace.uuid = None


def _resize(namespace: NamespacePmem, wanted: int) -> None:
    region, mappings = namespace.region, namespace.region.mappings
    if namespace.uuid is None or not mappings:
        raise KernelError(errno.ENXIO, f"{namespace.name} has no uuid or no DIMMs")
    if wanted % region.align:
        raise KernelError(errno.EINVAL, f"{wanted} is not a multiple of {region.align}")
    name = label_id(namespace.uuid)
    allocated = sum(_data(mapping).dpa.allocated(name) for mapping in mappings)
    if wanted > region.allocatable() + allocated:
        raise KernelError(errno.ENOSPC, f"{region.name} has no room for {wanted} bytes")
    if wanted == allocated:
        return
    share, owned = wanted // len(mappings), allocated // len(mappings)
    for mapping in mappings:
        dpa = _data(mapping).dpa
        if share < owned:
            dpa.shrink(name, owned - share)
        else:
            dpa.grow(region.window(mapping), name, share - owned)
    namespace.place(share * len(mappings))
    if wanted == 0 and namespace.id and not namespace.is_seed:
        namespace.unregister_async()


@attribute("uuid")
def uuid_attribute(namespace: NamespacePmem) -> str:
    """The uuid in its labels; empty before it is set."""
    return f"{namespace.uuid or ''}\n"


@uuid_attribute.on_store
def _store_uuid(namespace: NamespacePmem, data: bytes) -> None:
    """EBUSY while in use; EINVAL for no UUID, or one that is in use on the bus; EBUSY without labels to replace."""
    namespace.require_idle()
    identity = namespace.parse_uuid(data)
    if identity in namespace.bus_uuids:
        raise KernelError(errno.EINVAL, f"{identity} is in use")
    if namespace.uuid is not None:
        _rename(namespace, namespace.uuid, identity)
    namespace.uuid = identity
    namespace.update_labels()


def _rename(namespace: NamespacePmem, old: uuid.UUID, new: uuid.UUID) -> None:
    """Rename the extents, and let the next labels replace the old ones."""
    mappings = namespace.region.mappings
    if not all(_labels(mapping).entries for mapping in mappings):
        raise KernelError(errno.EBUSY, f"{namespace.name} has no labels to replace")
    for mapping in mappings:
        _data(mapping).dpa.rename(label_id(old), label_id(new))
        _labels(mapping).mark_outdated(old)


@attribute("alt_name")
def alt_name(namespace: NamespacePmem) -> str:
    """A descriptive name; usually empty."""
    return f"{namespace.alt_name.decode('latin-1')}\n"


@alt_name.on_store
def _store_alt_name(namespace: NamespacePmem, data: bytes) -> None:
    """EBUSY while in use, EINVAL past 63 bytes."""
    namespace.require_idle()
    name = c_string(data).strip(WHITE_SPACE)
    if len(name) >= LABEL_NAME_SIZE:
        raise KernelError(errno.EINVAL, f"a name of {len(name)} bytes does not fit a label")
    namespace.alt_name = name
    namespace.update_labels()


@attribute("sector_size")
def sector_size(namespace: NamespacePmem) -> str:
    """The supported sector sizes, the selected one in brackets."""
    return select_list(LBASIZES, namespace.sector_size)


@sector_size.on_store
def _store_sector_size(namespace: NamespacePmem, data: bytes) -> None:
    """EBUSY while in use; EINVAL for a size that is not supported, ERANGE past 64 bits."""
    namespace.require_idle()
    namespace.sector_size = select(data, LBASIZES)
    namespace.update_labels()


@attribute("dpa_extents")
def dpa_extents(namespace: NamespacePmem) -> str:
    """The number of its extents: one on each DIMM."""
    if namespace.uuid is None:
        return "0\n"
    return f"{sum(len(_extents(mapping, namespace.uuid)) for mapping in namespace.region.mappings)}\n"


PMEM_GROUP: AttributeGroup[NamespacePmem] = AttributeGroup((size, uuid_attribute, alt_name, sector_size, dpa_extents))
