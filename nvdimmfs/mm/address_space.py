"""The direct map and vmemmap in the kernel's virtual address space (x86-64, without KASLR)."""

from __future__ import annotations

import attrs

from nvdimmfs.kernels.kernel import Kernel
from nvdimmfs.units import PAGE_SHIFT, STRUCT_PAGE_SIZE


@attrs.frozen
class AddressSpace:
    """The two linear maps (Documentation/x86/x86_64/mm.rst).

    Attributes:
        page_offset: virtual address of physical address 0 in the direct map.
        vmemmap_base: virtual address of the struct page of pfn 0.
        physical_bits: addresses of physical memory are below 1 << physical_bits (MAX_PHYSMEM_BITS).
    """

    page_offset: int
    vmemmap_base: int
    physical_bits: int

    @classmethod
    def of(cls, kernel: Kernel, highest: int) -> AddressSpace:
        """Return the maps of a machine whose memory ends at address `highest`.

        4-level paging covers 64 TiB of physical memory, 5-level paging 4 PiB.
        """
        if highest < 1 << 46:
            return cls(kernel.page_offset[0], 0xFFFF_EA00_0000_0000, 46)
        return cls(kernel.page_offset[1], 0xFFD4_0000_0000_0000, 52)

    @property
    def has_five_levels(self) -> bool:
        """Whether page tables have five levels."""
        return self.physical_bits > 46

    @property
    def physical_end(self) -> int:
        """The address after the last one that memory may have."""
        return 1 << self.physical_bits

    def phys_to_virt(self, physical: int) -> int:
        """The direct map's address (__va)."""
        return self.page_offset + physical

    def virt_to_phys(self, virtual: int) -> int | None:
        """The physical address behind an address of the direct map (__pa); None for any other address."""
        physical = virtual - self.page_offset
        return physical if 0 <= physical < self.physical_end else None

    def pfn_to_page(self, pfn: int) -> int:
        """The virtual address of a page's struct page, computed whether or not one is mapped there."""
        return self.vmemmap_base + pfn * STRUCT_PAGE_SIZE

    def page_to_pfn(self, page: int) -> int | None:
        """The pfn of the page that a struct page describes; None for an address that is not a struct page's."""
        pfn, rest = divmod(page - self.vmemmap_base, STRUCT_PAGE_SIZE)
        return pfn if not rest and 0 <= pfn < self.physical_end >> PAGE_SHIFT else None
