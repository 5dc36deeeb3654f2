"""Struct pages for namespaces: how drivers use memory hotplug."""

from __future__ import annotations

from nvdimmfs.core.device import Device
from nvdimmfs.mm.buffers import Buffer, DriverMemory
from nvdimmfs.mm.memremap import DevPagemap, MemoryType
from nvdimmfs.mm.pfn_layout import PfnLayout, altmap_for
from nvdimmfs.nd.namespace import NamespaceDevice
from nvdimmfs.nd.pfn import PageMapPersonality
from nvdimmfs.traces.effects import PagesRegistered, PagesRemoved
from nvdimmfs.units import PAGE_SHIFT, PAGE_SIZE, Range


def raw_pagemap(namespace: NamespaceDevice) -> DevPagemap:
    """The page map of a raw namespace of legacy memory: all of it, with the memmap in RAM."""
    return DevPagemap((Range(namespace.start, namespace.end),), owner=namespace.name)


def pfn_pagemap(personality: PageMapPersonality, layout: PfnLayout) -> DevPagemap:
    """The page map of a pfn or dax device: its range and its altmap; errors as `mm.pfn_layout.altmap_for`."""
    region = personality.region
    altmap = altmap_for(layout, region.memory.kernel)
    return DevPagemap(
        (layout.range,), altmap=altmap, media=region.media, media_start=region.start, owner=personality.name
    )


def for_device_dax(pagemap: DevPagemap, align: int) -> None:
    """Turn a page map into one for device dax: pages of its alignment, compound above 4 KiB."""
    pagemap.type = MemoryType.GENERIC
    if align > PAGE_SIZE:
        pagemap.vmemmap_shift = (align >> PAGE_SHIFT).bit_length() - 1


def map_pages(device: Device, memory: DriverMemory, pagemap: DevPagemap, node: int) -> None:
    """Register a page map while the device is bound, but not of a buffer; errors as `Memory.memremap_pages`."""
    if isinstance(memory, Buffer):
        return
    memory.memremap_pages(pagemap, node)
    if (trace := device.system.trace) is not None:
        memmap = "RAM" if pagemap.altmap is None else "media"
        for each in pagemap.ranges:
            trace.report(PagesRegistered(device.name, each.start, each.end, memmap))

    def unmap() -> None:
        memory.memunmap_pages(pagemap)
        if (trace := device.system.trace) is not None:
            for each in pagemap.ranges:
                trace.report(PagesRemoved(device.name, each.start, each.end))

    device.manage(unmap)
