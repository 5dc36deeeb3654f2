"""The driver that turns a dax device into System RAM."""

from __future__ import annotations

import contextlib
import errno

from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Bus
from nvdimmfs.core.module import Module
from nvdimmfs.dax.bus import DaxBusDevice, DaxDriver
from nvdimmfs.dax.device import DevDax
from nvdimmfs.errors import KernelError
from nvdimmfs.mm.hotplug import MemoryBlocks, claim_as_ram, whole_blocks
from nvdimmfs.mm.resource import Resource

#: The name of the memory in /proc/iomem (drivers/dax/kmem.c, Linux 6.1).
RESOURCE_NAME = "System RAM (kmem)"


class KmemDriver(DaxDriver):
    """kmem: matches the devices whose names were written to new_id, and since 6.6 those of soft reserved memory."""

    name = "kmem"

    def __init__(self, bus: Bus, module: Module, blocks: MemoryBlocks) -> None:
        """`blocks`: the machine's System RAM."""
        self._blocks = blocks
        self._claims: dict[Device, list[Resource]] = {}
        super().__init__(bus, module)

    def matches_kind(self, device: DaxBusDevice) -> bool:
        return device.is_for_kmem

    def probe(self, device: Device) -> None:
        """Add the whole memory blocks in its ranges (dev_dax_kmem_probe, drivers/dax/kmem.c, Linux 6.1).

        EINVAL without a target node, and since Linux 5.15 for less than one block; EBUSY while the range is reserved,
        possibly by this driver, if an earlier removal failed; else as `MemoryBlocks.add`.  Of several ranges, one must
        succeed.
        """
        assert isinstance(device, DevDax)
        if device.region.target_node < 0:
            raise KernelError(errno.EINVAL, f"{device.name} has no target node")
        ranges = [whole_blocks(each.start, each.end, self._blocks.size) for each in device.ranges]
        ranges = [(start, end) for start, end in ranges if start < end]
        if not ranges and device.system.kernel.devices.kmem_needs_a_block:
            raise KernelError(errno.EINVAL, f"{device.name} contains no whole block of {self._blocks.size} bytes")
        claims: list[Resource] = []
        for start, end in ranges:
            try:
                claims.append(self._add(device, start, end - start))
            except KernelError:
                if not claims:
                    raise
        self._claims[device] = claims

    def remove(self, device: Device) -> None:
        """Remove the memory.  A range that is partly online stays, and remains reserved."""
        for claim in self._claims.pop(device):
            with contextlib.suppress(KernelError):
                self._blocks.remove(claim.start, claim.size)
                claim.detach()

    def _add(self, device: DevDax, start: int, size: int) -> Resource:
        claim = claim_as_ram(device.layer.memory, start, size, device.name)
        try:
            self._blocks.add(start, size, device.region.target_node, RESOURCE_NAME)
        except KernelError:
            claim.detach()
            raise
        return claim
