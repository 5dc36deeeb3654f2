"""dax devices: a namespace whose data is mapped by user space directly, with no file system between."""

from __future__ import annotations

from nvdimmfs.formats.pfn import DAX_SIGNATURE
from nvdimmfs.nd.device import DeviceType
from nvdimmfs.nd.namespace import ClaimClass
from nvdimmfs.nd.pfn import PageMapPersonality
from nvdimmfs.nd.region import SeedKind


class DaxDevice(PageMapPersonality):
    """A dax device on the nvdimm bus; once bound, a device on the dax bus stands below it."""

    device_type = "nd_dax"
    kind = SeedKind.DAX
    claim_classes = frozenset({ClaimClass.DAX})
    signature = DAX_SIGNATURE
    claims_uuid = False  # Linux 6.1 looks at namespaces, btt and pfn devices (is_uuid_busy, namespace_devs.c)

    @property
    def modalias_type(self) -> DeviceType:
        return DeviceType.DAX_PMEM
