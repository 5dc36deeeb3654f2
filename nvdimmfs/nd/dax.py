"""dax devices: a namespace that user space maps directly, without a file system."""

from __future__ import annotations

from nvdimmfs.formats.pfn import DAX_SIGNATURE
from nvdimmfs.nd.device import DeviceType
from nvdimmfs.nd.namespace import ClaimClass
from nvdimmfs.nd.pfn import PageMapPersonality
from nvdimmfs.nd.region import SeedKind


class DaxDevice(PageMapPersonality):
    """A dax device on the nvdimm bus; while it is bound, it has a child on the dax bus."""

    device_type = "nd_dax"
    kind = SeedKind.DAX
    claim_classes = frozenset({ClaimClass.DAX})
    signature = DAX_SIGNATURE
    claims_uuid = False  # Linux 6.1 compares those of namespaces, btt and pfn devices (is_uuid_busy, namespace_devs.c)

    @property
    def modalias_type(self) -> DeviceType:
        return DeviceType.DAX_PMEM
