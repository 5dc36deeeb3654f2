"""The memory map of a plain PC, and the resources that Linux creates from it at boot.

The map is that of a small q35 machine: RAM up to 2 GiB, a hole for devices below 4 GiB, the rest of the RAM from
4 GiB upward.  A machine with several nodes has a list of RAM.  memmap= turns parts of it into persistent memory; it
can also name addresses without any memory.

`Ram` is either the bytes of RAM, which are then placed as above, or where it is, in address order.
"""

from __future__ import annotations

import contextlib
import functools

from nvdimmfs.errors import KernelError
from nvdimmfs.mm.e820 import E820Entry, E820Table, E820Type
from nvdimmfs.mm.intervals import IntervalSet
from nvdimmfs.mm.nodes import FIRST_NODE, RamSpan, place_ram
from nvdimmfs.mm.resource import Intersection, Resource, ResourceDescriptor, ResourceFlag, iomem_root
from nvdimmfs.units import GIB, KIB, MIB, PAGE_SIZE, Range, align_up

#: Default RAM of a machine.
DEFAULT_RAM = 4 * GIB

#: The least RAM that the map below and a kernel fit in.
MINIMUM_RAM = 128 * MIB

#: Physical addresses have 52 bits at most (x86-64 with five levels of page tables).
PHYSICAL_BITS = 52

#: RAM is placed below the first of these addresses; the part that does not fit there starts at the second.
LOW_RAM_LIMIT = 2 * GIB
HIGH_RAM_START = 4 * GIB

#: The most RAM: it then ends at the last physical address.
MAXIMUM_RAM = (1 << PHYSICAL_BITS) - HIGH_RAM_START + LOW_RAM_LIMIT

#: How many memory maps to keep: defaults, checks and the boot of a machine ask for the same one.
_MAPS = 4

_ACPI_TABLES_SIZE = 136 * KIB

#: Where RAM can be, as (first, end) addresses; between them is the hole for devices.
USABLE_BY_RAM = ((0, LOW_RAM_LIMIT), (HIGH_RAM_START, 1 << PHYSICAL_BITS))

Ram = int | tuple[RamSpan, ...]

#: The end of the RAM below the extended BIOS data area.
_LOWEST_RAM_END = 0x9FC00

_RESERVED_BY_FIRMWARE = (
    (_LOWEST_RAM_END, 0xA0000),  # extended BIOS data area
    (0xF0000, 0x100000),  # BIOS
    (0xB0000000, 0xC0000000),  # PCI configuration space
    (0xFED1C000, 0xFED20000),  # chipset registers
    (0xFFFC0000, 0x100000000),  # flash
)

_ROMS = (
    ("Video ROM", 0xC0000, 0xC9BFF),
    ("System ROM", 0xF0000, 0xFFFFF),
)

_DEVICES = (
    ("PCI Bus 0000:00", 0xA0000, 0xBFFFF),
    ("PCI Bus 0000:00", 0x80000000, 0xAFFFFFFF),
    ("PCI Bus 0000:00", 0xC0000000, 0xFEBFFFFF),
    ("0000:00:01.0", 0xFD000000, 0xFDFFFFFF),  # the frame buffer
    ("IOAPIC 0", 0xFEC00000, 0xFEC003FF),
    ("HPET 0", 0xFED00000, 0xFED003FF),
    ("Local APIC", 0xFEE00000, 0xFEE00FFF),
)

#: Addresses of an x86-64 kernel that is not relocated; sizes are those of Debian's 6.1.
_KERNEL_IMAGE = (
    ("Kernel code", 0x1000000, 0x1E01D31),
    ("Kernel rodata", 0x2000000, 0x28EAFFF),
    ("Kernel data", 0x2A00000, 0x2C4897F),
    ("Kernel bss", 0x3310000, 0x43FFFFF),
)

_NAMES: dict[int, str] = {
    E820Type.RAM: "System RAM",
    E820Type.RESERVED_KERN: "System RAM",
    E820Type.ACPI: "ACPI Tables",
    E820Type.NVS: "ACPI Non-volatile Storage",
    E820Type.UNUSABLE: "Unusable memory",
    E820Type.PRAM: "Persistent Memory (legacy)",
    E820Type.PMEM: "Persistent Memory",
    E820Type.RESERVED: "Reserved",
    E820Type.SOFT_RESERVED: "Soft Reserved",
}

_DESCRIPTORS: dict[int, ResourceDescriptor] = {
    E820Type.ACPI: ResourceDescriptor.ACPI_TABLES,
    E820Type.NVS: ResourceDescriptor.ACPI_NV_STORAGE,
    E820Type.PMEM: ResourceDescriptor.PERSISTENT_MEMORY,
    E820Type.PRAM: ResourceDescriptor.PERSISTENT_MEMORY_LEGACY,
    E820Type.RESERVED: ResourceDescriptor.RESERVED,
    E820Type.SOFT_RESERVED: ResourceDescriptor.SOFT_RESERVED,
}

#: Types that a driver may claim: their resources are not busy and are inserted after the busy ones.
_LEFT_TO_DRIVERS = frozenset({E820Type.RESERVED, E820Type.SOFT_RESERVED, E820Type.PRAM, E820Type.PMEM})


def boot_table(memmap: str, ram: Ram = DEFAULT_RAM) -> E820Table:
    """Return the sanitised table of a machine with that RAM, booted with memmap=`memmap`.

    KernelPanic where the kernel panics; ValueError for less than `MINIMUM_RAM` at address 0.
    """
    return E820Table(list(_boot_entries(memmap, ram)))


@functools.lru_cache(maxsize=_MAPS)
def _boot_entries(memmap: str, ram: Ram) -> tuple[E820Entry, ...]:
    table = user_table(memmap, ram)
    # The kernel never uses the first page, and no memory between 640 KiB and 1 MiB as RAM (trim_bios_range).
    table.convert(0, PAGE_SIZE, E820Type.RAM, E820Type.RESERVED)
    table.remove(0xA0000, 0x60000, E820Type.RAM)
    table.sanitise()
    return tuple(table.entries)


def user_table(memmap: str, ram: Ram = DEFAULT_RAM) -> E820Table:
    """Return that table before the kernel removes parts of the first MiB from it.  KernelPanic, ValueError."""
    if ram_at_zero(ram) < MINIMUM_RAM:
        raise ValueError(f"{ram_at_zero(ram)} bytes of RAM at address 0 are less than {MINIMUM_RAM // MIB} MiB")
    return E820Table(list(_user_entries(memmap, ram)))


@functools.lru_cache(maxsize=_MAPS)
def _user_entries(memmap: str, ram: Ram) -> tuple[E820Entry, ...]:
    table = _firmware_table(ram)
    table.sanitise()
    table.apply(memmap)
    return tuple(table.entries)


def build_iomem(memmap: str, ram: Ram = DEFAULT_RAM) -> Resource:
    """Return the resource tree of that machine before any driver is loaded.  KernelPanic, ValueError."""
    return _built_iomem(memmap, ram).copy()


@functools.lru_cache(maxsize=16)
def _built_iomem(memmap: str, ram: Ram) -> Resource:
    """The tree, which must not be changed: a test suite boots few machines many times."""
    return iomem_of(boot_table(memmap, ram))


def iomem_of(table: E820Table) -> Resource:
    """Build the kernel's resource tree from a sanitised table (e820__reserve_resources and ..._late)."""
    root = iomem_root((1 << PHYSICAL_BITS) - 1)
    for name, start, end in _ROMS:
        _try_insert(root, Resource(name, start, end, ResourceFlag.MEM | ResourceFlag.BUSY))
    resources = [_resource(entry) for entry in table.entries]
    for resource in resources:
        if resource.busy:
            _try_insert(root, resource)
    for name, start, end in _KERNEL_IMAGE:
        _insert_within_ram(root, Resource(name, start, end, ResourceFlag.SYSTEM_RAM | ResourceFlag.BUSY))
    for name, start, end in _DEVICES:
        _try_insert(root, Resource(name, start, end, _device_flags(name)))
    for resource in resources:
        if not resource.busy:
            _insert_expanded(root, resource)
    for entry in table.entries:
        if entry.type == E820Type.RAM:
            _pad_ram(root, entry.end)
    return root


@functools.lru_cache(maxsize=_MAPS)
def installed_memory(ram: Ram) -> tuple[RamSpan, ...]:
    """Return where the memory of a machine is, in address order: `ram` itself, or where that many bytes are placed."""
    if not isinstance(ram, int):
        return ram
    return tuple(place_ram(ram, 0, FIRST_NODE, USABLE_BY_RAM, IntervalSet()))


def ram_at_zero(ram: Ram) -> int:
    """Return the bytes of RAM from address 0 on, where a PC boots."""
    spans = installed_memory(ram)
    return spans[0].end if spans and not spans[0].start else 0


def without_memory(memmap: str, ram: Ram) -> list[Range]:
    """Return the ranges of persistent memory of memmap= that lie, at least in part, where no memory is installed."""
    entries = [entry for entry in user_table(memmap, ram).entries if entry.type == E820Type.PRAM]
    memory = IntervalSet((span.start, span.end) for span in installed_memory(ram))
    return [
        Range(entry.start, entry.end - 1)
        for entry in entries
        if list(memory.within(entry.start, entry.end)) != [(entry.start, entry.end)]
    ]


def memory_reaching(address: int) -> int:
    """Return how many bytes of memory must be installed to reach an address at or above 4 GiB."""
    return LOW_RAM_LIMIT + address + 1 - HIGH_RAM_START


def _firmware_table(ram: Ram) -> E820Table:
    """The map that the firmware hands over; its tables are at the end of the RAM below 4 GiB."""
    table = E820Table()
    first, *others = installed_memory(ram)
    table.add(0, _LOWEST_RAM_END, E820Type.RAM)
    table.add(MIB, first.end - MIB, E820Type.RAM)
    for span in others:
        table.add(span.start, span.size, E820Type.RAM)
    last_low = max((span for span in (first, *others) if span.start < LOW_RAM_LIMIT), key=lambda span: span.end)
    tables = max(last_low.start, last_low.end - _ACPI_TABLES_SIZE)
    for start, end in ((tables, last_low.end), *_RESERVED_BY_FIRMWARE):
        table.add(start, end - start, E820Type.RESERVED)
    return table


def _device_flags(name: str) -> ResourceFlag:
    """Windows and BARs of PCI can be claimed by drivers; all others are busy."""
    return ResourceFlag.MEM if name.startswith(("PCI Bus", "0000:")) else ResourceFlag.MEM | ResourceFlag.BUSY


def _resource(entry: E820Entry) -> Resource:
    flags = ResourceFlag.SYSTEM_RAM if _NAMES.get(entry.type) == "System RAM" else ResourceFlag.MEM
    if entry.start < MIB or entry.type not in _LEFT_TO_DRIVERS:
        flags |= ResourceFlag.BUSY
    name = _NAMES.get(entry.type, "Unknown E820 type")
    desc = _DESCRIPTORS.get(entry.type, ResourceDescriptor.NONE)
    return Resource(name, entry.start, entry.end - 1, flags, desc)


def _try_insert(root: Resource, resource: Resource) -> None:
    """Insert a resource if it fits; like the kernel, skip it if it does not."""
    with contextlib.suppress(KernelError):
        root.insert(resource)


def _insert_within_ram(root: Resource, resource: Resource) -> None:
    """Insert a part of the kernel's image if its address is RAM (a real kernel is loaded elsewhere if it is not)."""
    if root.intersects(resource.start, resource.size) is Intersection.INTERSECTS:
        _try_insert(root, resource)


def _insert_expanded(root: Resource, resource: Resource) -> None:
    """Insert a resource, expanded to contain all resources it overlaps in part (insert_resource_expand_to_fit)."""
    if resource.end > root.end:
        return
    while True:
        try:
            root.insert(resource)
        except KernelError:
            partial = [child for child in root.children if child.start <= resource.end and child.end >= resource.start]
            resource.start = min(resource.start, partial[0].start)
            resource.end = max(resource.end, partial[-1].end)
        else:
            return


def _pad_ram(root: Resource, start: int) -> None:
    """Reserve the address space after RAM up to the estimated size of the last module ("RAM buffer")."""
    end = align_up(start, _ram_alignment(start))
    for child in list(root.children):
        if child.end < start or child.start >= end:
            continue
        if child.start > start:
            _try_insert(root, Resource("RAM buffer", start, child.start - 1, ResourceFlag.MEM | ResourceFlag.BUSY))
        start = child.end + 1
    if start < end:
        _try_insert(root, Resource("RAM buffer", start, end - 1, ResourceFlag.MEM | ResourceFlag.BUSY))


def _ram_alignment(address: int) -> int:
    if address < MIB:
        return 64 * KIB
    return MIB if address < 16 * MIB else 64 * MIB
