"""BTT devices: a namespace behind a block translation table, whose sectors are written whole or not at all."""

from __future__ import annotations

import errno
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, attribute, constant
from nvdimmfs.core.parse import select, select_list
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.btt import (
    BTT_1_1,
    BTT_2_0,
    BTT_SIGNATURE,
    LBASIZES,
    BttInfoBlock,
    BttVersion,
    arena_is_valid,
    sector_size_of,
)
from nvdimmfs.nd.claim import MIN_CLAIM_SIZE, Personality, namespace_attribute, uuid_attribute
from nvdimmfs.nd.device import ND_DEVICE_GROUP, DeviceType
from nvdimmfs.nd.namespace import ClaimClass, NamespaceDevice
from nvdimmfs.nd.namespace_io import read_info_block
from nvdimmfs.nd.region import RegionDevice, SeedKind


class BttDevice(Personality):
    """A btt device.

    Attributes:
        sector_size: bytes of a sector with its metadata; 0 before it is set.
        size: bytes of the disk while bound.
    """

    device_type = "nd_btt"
    kind = SeedKind.BTT
    signature = BTT_SIGNATURE
    claim_classes = frozenset({ClaimClass.BTT, ClaimClass.BTT2})

    def __init__(self, region: RegionDevice) -> None:
        super().__init__(region)
        self.sector_size = 0
        self.size = 0

    @property
    def modalias_type(self) -> DeviceType:
        return self.region.nstype

    @property
    def has_metadata(self) -> bool:
        """Whether there is room for metadata beside each sector."""
        return self.sector_size != sector_size_of(self.sector_size)

    def reset(self) -> None:
        super().reset()
        self.sector_size = 0

    @classmethod
    def info_offset(cls, namespace: NamespaceDevice) -> int:
        return btt_version(namespace).initial_offset

    def adopt(self) -> None:
        """Take uuid and sector size from the first info block.

        ENXIO below 16 MiB and for a block that cannot be read, ENODEV without a valid one.
        """
        namespace = self.namespace
        assert namespace is not None, "only called with a namespace"
        if namespace.size < MIN_CLAIM_SIZE:
            raise KernelError(errno.ENXIO, f"{namespace.name} is smaller than 16 MiB")
        version = btt_version(namespace)
        raw = read_info_block(namespace, version.initial_offset)
        if not arena_is_valid(raw, namespace.parent_uuid):
            raise KernelError(errno.ENODEV, f"no BTT on {namespace.name}")
        block = BttInfoBlock.from_bytes(raw)
        if (block.version_major, block.version_minor) != (version.major, version.minor):
            raise KernelError(errno.ENODEV, "a BTT of another version")
        self.uuid = block.uuid
        self.sector_size = block.external_lbasize

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (BTT_GROUP, ND_DEVICE_GROUP, *self.numa_groups)


def btt_version(namespace: NamespaceDevice) -> BttVersion:
    """The version of the BTT that a namespace may hold, by its holder class (nd_btt_version, Linux 6.1)."""
    return BTT_2_0 if namespace.claim_class is ClaimClass.BTT2 else BTT_1_1


@attribute("sector_size")
def sector_size(btt: BttDevice) -> str:
    """The supported sector sizes, the selected one in brackets."""
    return select_list(LBASIZES, btt.sector_size)


@sector_size.on_store
def _store_sector_size(btt: BttDevice, data: bytes) -> None:
    """EBUSY while bound; EINVAL for a size that is not supported, ERANGE past 64 bits."""
    btt.require_unbound()
    btt.sector_size = select(data, LBASIZES)


@attribute("size", since="4.9")
def size(btt: BttDevice) -> str:
    """Bytes of the disk.  ENXIO unless bound."""
    if btt.driver is None:
        raise KernelError(errno.ENXIO, f"{btt.name} is not bound")
    return f"{btt.size}\n"


BTT_GROUP: AttributeGroup[BttDevice] = AttributeGroup(
    (sector_size, namespace_attribute, uuid_attribute, size, constant("log_zero_flags", "Y\n", since="4.15"))
)
