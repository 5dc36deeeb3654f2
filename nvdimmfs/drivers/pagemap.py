"""What the drivers ask of memory hotplug: struct pages for a namespace."""

from __future__ import annotations

import errno

from nvdimmfs.core.device import Device
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.pfn import PfnInfoBlock, PfnMode
from nvdimmfs.mm.altmap import VmemAltmap
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.memremap import DevPagemap, MemoryType
from nvdimmfs.mm.units import PAGE_SHIFT, PAGE_SIZE, PAGES_PER_SUBSECTION, Range, align_down, pages
from nvdimmfs.nd.namespace import NamespaceDevice
from nvdimmfs.nd.pfn import INFO_BLOCK_RESERVE, PageMapPersonality


def raw_pagemap(namespace: NamespaceDevice) -> DevPagemap:
    """The whole namespace, with its memmap in RAM: how legacy persistent memory is mapped without info block."""
    return DevPagemap((Range(namespace.start, namespace.end),), owner=namespace.name)


def pfn_pagemap(personality: PageMapPersonality, namespace: NamespaceDevice, block: PfnInfoBlock) -> DevPagemap:
    """The range and the altmap that an info block stands for.

    EINVAL when the memmap is in RAM and the data overlaps the info block (__nvdimm_setup_pfn, Linux 6.1).
    """
    whole = Range(namespace.start + block.start_pad, namespace.end - block.end_trunc)
    if block.mode == PfnMode.RAM:
        if block.dataoff < INFO_BLOCK_RESERVE:
            raise KernelError(errno.EINVAL, "the data overlaps the info block")
        return DevPagemap((whole,), owner=personality.name)
    base = align_down(whole.first_pfn, PAGES_PER_SUBSECTION)
    altmap = VmemAltmap(
        base_pfn=base,
        end_pfn=pages(whole.end),
        reserve=pages(INFO_BLOCK_RESERVE) + whole.first_pfn - base,
        free=pages(block.dataoff - INFO_BLOCK_RESERVE),
    )
    return DevPagemap((whole,), altmap=altmap, owner=personality.name)


def for_device_dax(pagemap: DevPagemap, align: int) -> None:
    """Make a page map one of device dax: pages of its alignment, compound ones above 4 KiB."""
    pagemap.type = MemoryType.GENERIC
    if align > PAGE_SIZE:
        pagemap.vmemmap_shift = (align >> PAGE_SHIFT).bit_length() - 1


def map_pages(device: Device, memory: Memory, pagemap: DevPagemap, node: int) -> None:
    """Register a page map for as long as the device is bound; errors as `Memory.memremap_pages`."""
    memory.memremap_pages(pagemap, node)

    def unmap() -> None:
        memory.memunmap_pages(pagemap)

    device.manage(unmap)
