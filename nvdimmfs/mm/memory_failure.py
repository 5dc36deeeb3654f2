"""Pages that user space declares bad (mm/memory-failure.c, Linux 6.1 and 6.12).

A free page of RAM is removed from the page allocator.  Linux migrates the content of a page that is in use and movable;
in this model such a page counts as free.  Struct pages and the kernel's image are in use and not movable.
"""

from __future__ import annotations

import errno

from nvdimmfs.errors import EHWPOISON, KernelError
from nvdimmfs.mm.memory import Memory


def soft_offline_page(memory: Memory, pfn: int) -> None:
    """Stop using a page that may fail soon; no effect on a page that is bad already.

    ENXIO without a struct page; EIO for a page that is not online RAM, or is in use and not movable.
    """
    if not memory.pages.pfn_valid(pfn):
        raise KernelError(errno.ENXIO, f"pfn {pfn:#x} has no struct page")
    if memory.pages.pfn_to_online_page(pfn) is None:
        raise KernelError(errno.EIO, f"pfn {pfn:#x} is not online RAM")
    if pfn in memory.bad_pages:
        return
    if not memory.is_free(pfn):
        raise KernelError(errno.EIO, f"pfn {pfn:#x} is in use")
    memory.poison(pfn)


def memory_failure(memory: Memory, pfn: int) -> None:
    """Stop using a page that has failed.

    EHWPOISON when it is bad already, which is no error before Linux 5.15; EBUSY when the kernel uses it, which marks
    it bad nevertheless; EBUSY for device memory, as no process maps it; ENXIO for a page that is neither online RAM nor
    device memory with an initialised struct page.
    """
    if memory.pages.pfn_to_online_page(pfn) is None:
        _device_memory_failure(memory, pfn)
        return
    if pfn in memory.bad_pages:
        if not memory.kernel.reports_bad_pages_again:
            return
        raise KernelError(EHWPOISON, f"pfn {pfn:#x} was declared bad before")
    was_free = memory.is_free(pfn)
    memory.poison(pfn)
    counts = memory.bad_pages.failures_of(memory.node_of(pfn))
    if was_free:
        counts.recovered += 1
    else:
        counts.ignored += 1
        raise KernelError(errno.EBUSY, f"pfn {pfn:#x} is in use")


def _device_memory_failure(memory: Memory, pfn: int) -> None:
    """Handle a failed page of device memory that no process maps (memory_failure_dev_pagemap).  ENXIO, EBUSY."""
    pagemap = memory.get_dev_pagemap(pfn)
    if pagemap is not None:
        memory.put_dev_pagemap(pagemap)
    if pagemap is None or not pagemap.pfn_valid(pfn):
        raise KernelError(errno.ENXIO, f"pfn {pfn:#x} has no initialised struct page")
    memory.bad_pages.add_of_device(pagemap.nid)
    raise KernelError(errno.EBUSY, f"no process maps pfn {pfn:#x}")
