"""The layout of pfn and dax devices, as one pure function for all kernels.

    start      +4K          +8K                      dataoff                       end_trunc
      | unused | info block | memmap (mode pmem) ... | data, npfns pages ......... | unused |

Offsets count from the start of the namespace, or from the end of `start_pad` in kernels that have it (4.6 to 5.2).
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.pfn import PfnMode
from nvdimmfs.kernels.kernel import INFO_BLOCK_RESERVE, KERNEL_6_1, Kernel
from nvdimmfs.kernels.layout_rules import CapacityCheck, Collisions, LayoutRules
from nvdimmfs.mm.altmap import VmemAltmap
from nvdimmfs.mm.resource import Intersection, Resource
from nvdimmfs.units import (
    PAGE_SIZE,
    SECTION_SIZE,
    STRUCT_PAGE_SIZE,
    U64_MASK,
    Range,
    align_down,
    align_up,
    exact_size,
    pages,
)


@attrs.frozen
class Neighbourhood:
    """The surroundings of a namespace, for kernels that pad it when a neighbour shares one of its sections.

    Attributes:
        iomem: the resource tree, to find System RAM.
        region_conflict: whether a range (start, size) overlaps a region of the bus other than the namespace's own.
    """

    iomem: Resource
    region_conflict: Callable[[int, int], bool] = lambda _start, _size: False


@attrs.frozen
class PfnLayout:
    """The layout of one pfn or dax device, as the info block records it.  In bytes except `npfns`.

    Attributes:
        start, size: of the namespace.
        mode: where the memmap is stored.
        align: the align attribute, as the info block records it.
        start_pad: unused bytes at the start.
        dataoff: offset of the data.
        npfns: pages of data.
        end_trunc: unused bytes at the end.
        minor: version_minor of the info block.
    """

    start: int
    size: int
    mode: PfnMode
    align: int
    start_pad: int
    dataoff: int
    npfns: int
    end_trunc: int
    minor: int

    @property
    def range(self) -> Range:
        """The range that is registered as device memory: the namespace without the padding."""
        return Range(self.start + self.start_pad, self.start + self.size - 1 - self.end_trunc)

    @property
    def data(self) -> Range:
        """The range available to user space."""
        return Range.sized(self.range.start + self.dataoff, self.data_size)

    @property
    def data_size(self) -> int:
        """Bytes of data, the value of the size attribute."""
        return self.size - self.start_pad - self.end_trunc - self.dataoff

    @property
    def memmap_size(self) -> int:
        """Bytes reserved for the memmap in the namespace; 0 in mode ram."""
        return self.dataoff - INFO_BLOCK_RESERVE if self.mode is PfnMode.PMEM else 0


def lay_out(
    start: int,
    size: int,
    align: int,
    mode: PfnMode,
    kernel: Kernel = KERNEL_6_1,
    *,
    dax: bool = False,
    neighbourhood: Neighbourhood | None = None,
) -> PfnLayout:
    """Lay out a namespace of `size` bytes at physical address `start` (nd_pfn_init when there is no info block).

    `align` is the align attribute, in bytes; `dax` is true for a dax device and false for a pfn device.

    Errors in this order: namespace too small or misaligned, ENODEV or (since 5.7) EINVAL; mode none, ENXIO; no space
    left for data, ENXIO.  The caller must refuse a read-only region before.
    """
    rules = kernel.layout
    if size < rules.minimum_size:
        raise KernelError(errno.ENODEV, f"a namespace of {exact_size(size)} is smaller than a section")
    if start % rules.start_alignment:
        raise KernelError(rules.start_errno, f"start {start:#x} is not aligned to {rules.start_alignment:#x}")
    start_pad, end_trunc = _padding(rules, start, size, align, neighbourhood)
    mapped = size - start_pad - (0 if rules.memmap_counts_end else end_trunc)
    dataoff = _data_offset(rules, start + start_pad, mapped, align, mode, dax=dax)
    _check_capacity(rules, size, dataoff, start_pad, end_trunc)
    # A 64-bit number, which wraps around in kernels that do not check the capacity.
    npfns = pages((size - dataoff - start_pad - end_trunc) & U64_MASK)
    return PfnLayout(start, size, mode, align, start_pad, dataoff, npfns, end_trunc, rules.minor)


def altmap_for(layout: PfnLayout, kernel: Kernel = KERNEL_6_1) -> VmemAltmap | None:
    """Return the page frames for the memmap of a device in mode pmem (__nvdimm_setup_pfn); None in mode ram.

    The base is rounded down to the unit in which the kernel adds memory; the frames before the start count as reserved.
    EINVAL when the layout leaves no room for the info block; ENXIO in a mode without layout.
    """
    if layout.mode is PfnMode.NONE:
        raise KernelError(errno.ENXIO, "the mode is not set")
    if layout.dataoff < INFO_BLOCK_RESERVE:
        raise KernelError(errno.EINVAL, "the data would overlap the info block")
    if layout.mode is PfnMode.RAM:
        if kernel.layout.ram_offset_is_fixed and layout.dataoff != INFO_BLOCK_RESERVE:
            raise KernelError(errno.EINVAL, f"the data begins at {layout.dataoff:#x}, not right after the info block")
        return None
    first_pfn = layout.range.first_pfn
    base_pfn = align_down(first_pfn, pages(kernel.granularity)) if kernel.layout.aligns_address else first_pfn
    return VmemAltmap(
        base_pfn=base_pfn,
        end_pfn=pages(layout.range.end),
        reserve=pages(INFO_BLOCK_RESERVE) + first_pfn - base_pfn,
        free=pages(layout.memmap_size),
        skips_reserve=kernel.altmap_skips_reserve,
    )


def _padding(
    rules: LayoutRules, start: int, size: int, align: int, neighbourhood: Neighbourhood | None
) -> tuple[int, int]:
    """Return start_pad and end_trunc."""
    end = start + size
    if rules.collisions is Collisions.IGNORED:
        return 0, end % max(align, rules.minimum_alignment_pmem) if rules.trims_end else 0
    start_pad = end_trunc = 0
    head = start % SECTION_SIZE
    tail = align_up(end, SECTION_SIZE) - end
    widened = size + head if rules.collisions is Collisions.SYSTEM_RAM_AND_REGIONS else size
    if _collides(rules, neighbourhood, start - head, widened):
        start_pad = align_up(start, SECTION_SIZE) - start
    if _collides(rules, neighbourhood, start, size + tail):
        end_trunc = end % SECTION_SIZE
    if rules.trims_end and (end_trunc or end % align):
        end_trunc = end - min(align_down(end, SECTION_SIZE), align_down(end, align))
    return start_pad, end_trunc


def _collides(rules: LayoutRules, neighbourhood: Neighbourhood | None, start: int, size: int) -> bool:
    """Whether a namespace, widened to whole sections, overlaps a neighbour that the kernel checks for."""
    if neighbourhood is None:
        return False
    if neighbourhood.iomem.intersects(start, size) is Intersection.MIXED:
        return True
    return rules.collisions is Collisions.SYSTEM_RAM_AND_REGIONS and neighbourhood.region_conflict(start, size)


def _data_offset(rules: LayoutRules, start: int, size: int, align: int, mode: PfnMode, *, dax: bool) -> int:
    """Return the offset of the data from `start`, with a memmap for `size` bytes.  ENXIO in a mode without layout."""
    used = INFO_BLOCK_RESERVE + (rules.dax_reserve if dax else 0)
    alignment = rules.minimum_alignment_ram
    if mode is PfnMode.PMEM and rules.mode_pmem:
        npfns = align_up((size - INFO_BLOCK_RESERVE) // PAGE_SIZE, rules.memmap_pages)
        used += align_up(npfns * STRUCT_PAGE_SIZE, rules.memmap_size)
        alignment = rules.minimum_alignment_pmem
    elif mode is not PfnMode.RAM:
        raise KernelError(errno.ENXIO, f"mode {mode.name.lower()} has no layout")
    if rules.uses_align:
        alignment = max(alignment, align)
    origin = start if rules.aligns_address else 0
    return align_up(origin + used, alignment) - origin


def _check_capacity(rules: LayoutRules, size: int, dataoff: int, start_pad: int, end_trunc: int) -> None:
    if rules.capacity is CapacityCheck.NONE:
        return
    if rules.capacity is CapacityCheck.OFFSET_AND_PADS:
        dataoff += start_pad + end_trunc
    if rules.capacity is CapacityCheck.OFFSET_BELOW_END:
        size = (size - end_trunc) & U64_MASK
    if dataoff >= size:
        raise KernelError(errno.ENXIO, f"no space for data: it would begin at offset {dataoff}, and the size is {size}")
