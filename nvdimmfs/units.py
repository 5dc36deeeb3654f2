"""Units of memory on x86-64, ranges of addresses, and arithmetic on the kernel's integers."""

from __future__ import annotations

import attrs

#: Bits of an address within a page (arch/x86/include/asm/page_types.h).
PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT

#: Bytes of a section of sparse memory: 128 MiB (arch/x86/include/asm/sparsemem.h).
SECTION_SIZE = 1 << 27
PAGES_PER_SECTION = SECTION_SIZE >> PAGE_SHIFT

#: Bytes of a subsection, the smallest unit in which device memory is added since Linux 5.3 (include/linux/mmzone.h).
SUBSECTION_SIZE = 1 << 21
PAGES_PER_SUBSECTION = SUBSECTION_SIZE >> PAGE_SHIFT

#: Bytes mapped by one entry of a page middle directory, which is also the block size of a section's memmap.
PMD_SIZE = 1 << 21
PAGES_PER_PMD = PMD_SIZE >> PAGE_SHIFT

#: Bytes mapped by one entry of a page upper directory.
PUD_SIZE = 1 << 30

#: Valid alignments of pfn and dax devices: page, huge page and gigantic page (nd_pfn_supported_alignments,
#: drivers/nvdimm/pfn_devs.c; dax_align_valid, drivers/dax/bus.c; Linux 6.1).
ALIGNMENTS = (PAGE_SIZE, PMD_SIZE, PUD_SIZE)

#: sizeof(struct page) in all supported kernels.
STRUCT_PAGE_SIZE = 64

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
PIB = 1 << 50


#: The largest unsigned integers of 32 and 64 bits; `&` with one wraps a result around as the kernel's arithmetic does.
U32_MASK = (1 << 32) - 1
U64_MASK = (1 << 64) - 1

#: The largest signed integer of 64 bits, such as an offset in a file (loff_t) or a time in nanoseconds (ktime_t).
S64_MAX = (1 << 63) - 1


@attrs.frozen(weakref_slot=False)
class Range:
    """Physical addresses from `start` to `end`, both inclusive, like the kernel's struct range."""

    start: int
    end: int

    @classmethod
    def sized(cls, start: int, size: int) -> Range:
        """The `size` bytes from `start` on."""
        return cls(start, start + size - 1)

    @property
    def size(self) -> int:
        return self.end - self.start + 1

    @property
    def first_pfn(self) -> int:
        return self.start >> PAGE_SHIFT

    @property
    def end_pfn(self) -> int:
        """The pfn after the last one."""
        return (self.end + 1) >> PAGE_SHIFT

    def __contains__(self, address: int) -> bool:
        return self.start <= address <= self.end

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x}"


def align_down(value: int, alignment: int) -> int:
    """The multiple of `alignment` at or below `value`."""
    return value - value % alignment


def align_up(value: int, alignment: int) -> int:
    """The multiple of `alignment` at or above `value`."""
    return value + -value % alignment


def div_round_up(value: int, divisor: int) -> int:
    """How many times `divisor` is needed to hold `value`."""
    return -(-value // divisor)


def as_signed(value: int, bits: int = 64) -> int:
    """`value` as a signed integer of so many bits, wrapped around where it does not fit."""
    sign = 1 << (bits - 1)
    return (value + sign) % (2 * sign) - sign


def pages(size: int) -> int:
    """Number of whole pages in `size` bytes (the kernel's PHYS_PFN)."""
    return size >> PAGE_SHIFT


#: Bytes and names of the units, the largest first.
SIZE_UNITS = tuple((1 << 10 * power, f"{letter}iB") for power, letter in reversed(list(enumerate("KMGTPE", 1))))


def exact_size(size: int) -> str:
    """The exact size, in the largest unit that it is a multiple of: `2040 KiB`."""
    for unit, name in SIZE_UNITS:
        if size and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"
