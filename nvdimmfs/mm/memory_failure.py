"""Pages that user space declares to be bad (mm/memory-failure.c, Linux 6.1).

A page of RAM that is free leaves the page allocator.  Linux moves what is in use and can be moved; here that counts as
free, and what the engine itself keeps in RAM, struct pages and the kernel's image, cannot be moved.
"""

from __future__ import annotations

import errno

from nvdimmfs.errors import KernelError
from nvdimmfs.mm.memory import Memory

#: "Memory page has hardware error" (include/uapi/asm-generic/errno.h), which Python 3.11 has no name for.
EHWPOISON = 133


def soft_offline_page(memory: Memory, pfn: int) -> None:
    """Use a page no more, as it may fail soon; nothing happens to one that is bad already.

    ENXIO without a struct page; EIO for what is not RAM that is on line, and for a page that cannot be moved.
    """
    if not memory.pages.pfn_valid(pfn):
        raise KernelError(errno.ENXIO, f"pfn {pfn:#x} has no struct page")
    if memory.pages.pfn_to_online_page(pfn) is None:
        raise KernelError(errno.EIO, f"pfn {pfn:#x} is not on line")
    if memory.is_poisoned(pfn):
        return
    if not memory.is_free(pfn):
        raise KernelError(errno.EIO, f"pfn {pfn:#x} is in use")
    memory.poison(pfn)


def memory_failure(memory: Memory, pfn: int) -> None:
    """A page has failed: use it no more.

    EHWPOISON when it is bad already; EBUSY when the kernel uses it, and it counts as bad nevertheless; EBUSY for device
    memory, as no process has mapped it; ENXIO for what is neither RAM that is on line nor device memory with an
    initialised struct page.
    """
    if memory.pages.pfn_to_online_page(pfn) is None:
        _device_memory_failure(memory, pfn)
        return
    if memory.is_poisoned(pfn):
        raise KernelError(EHWPOISON, f"pfn {pfn:#x} is bad already")
    was_free = memory.is_free(pfn)
    memory.poison(pfn)
    if not was_free:
        raise KernelError(errno.EBUSY, f"pfn {pfn:#x} is in use")


def _device_memory_failure(memory: Memory, pfn: int) -> None:
    """memory_failure_dev_pagemap, where no process has mapped the page."""
    pagemap = memory.get_dev_pagemap(pfn)
    if pagemap is not None:
        memory.put_dev_pagemap(pagemap)
    if pagemap is None or not pagemap.pfn_valid(pfn):
        raise KernelError(errno.ENXIO, f"pfn {pfn:#x} is outside of the kernel's control")
    raise KernelError(errno.EBUSY, f"no process has mapped pfn {pfn:#x}")
