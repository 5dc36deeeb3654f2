"""The firmware's memory map (e820), and how memmap= changes it (arch/x86/kernel/e820.c, Linux 6.1).

`E820Table.apply` acts like the kernel, which includes ignoring text that it cannot parse.  The command line first calls
`nvdimmfs.mm.memmap_option.check_memmap`, which refuses options that the kernel would not honour in full.
"""

from __future__ import annotations

import enum
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator

import attrs

from nvdimmfs.units import U32_MASK, U64_MASK

#: Capacity of the kernel's table: 128 entries of the boot protocol, and 3 for each of 1024 nodes (asm/e820/types.h).
E820_MAX_ENTRIES = 128 + 3 * 1024


class KernelPanic(ValueError):  # noqa: N818  # it is an event of the emulated kernel, not an error of this program
    """The kernel would panic; str() is the kernel's message."""


class E820Type(enum.IntEnum):
    """Types of memory (asm/e820/types.h); memmap= can introduce any other number."""

    NOTHING = 0
    RAM = 1
    RESERVED = 2
    ACPI = 3
    NVS = 4
    UNUSABLE = 5
    PMEM = 7
    PRAM = 12
    RESERVED_KERN = 128
    SOFT_RESERVED = 0xEFFFFFFF


#: How many texts of memmap= to keep the result of: a process builds one machine.
_TEXTS = 4

#: Types whose ranges are not merged even when they are adjacent.
NEVER_MERGED = frozenset({E820Type.PRAM, E820Type.SOFT_RESERVED})

#: The separators between size and start, and the type of memory that each assigns to the range.
SEPARATORS = {"@": E820Type.RAM, "#": E820Type.ACPI, "$": E820Type.RESERVED, "!": E820Type.PRAM}

#: Powers of 1024 that may follow a number, in either case (memparse in lib/cmdline.c).
SUFFIXES = {letter: 10 * (power + 1) for power, letter in enumerate("KMGTPE")}


@attrs.frozen
class E820Entry:
    """`size` bytes from address `start` on have memory type `type`."""

    start: int
    size: int
    type: int

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.start + self.size


@attrs.define
class E820Table:
    """The kernel's table.  Until it is sanitised, entries may be in any order and overlap."""

    entries: list[E820Entry] = attrs.field(factory=list)
    limit: int = E820_MAX_ENTRIES

    def add(self, start: int, size: int, kind: int) -> None:
        """Append a range; ignored when the table is full (e820__range_add)."""
        if len(self.entries) < self.limit:
            self.entries.append(E820Entry(start, size, kind))

    def convert(self, start: int, size: int, old: int, new: int) -> None:
        """Change memory of type `old` within a range to type `new` (e820__range_update)."""
        self._replace(start, size, lambda kind: kind == old, new)

    def remove(self, start: int, size: int, kind: int | None = None) -> None:
        """Remove all memory within a range, or only that of one type (e820__range_remove)."""
        self._replace(start, size, lambda found: kind is None or kind == found, E820Type.NOTHING)

    def apply(self, memmap: str) -> None:
        """Apply one memmap= option like the kernel: entry by entry, silently skipping text that it cannot parse.

        The table is then sanitised, if any entry began with a number or was `exactmap`.
        KernelPanic when sanitising fails.
        """
        entries = [entry for entry in parse_entries(memmap) if entry.understood]
        for entry in entries:
            entry.apply(self)
        if entries and not self.sanitise():
            raise KernelPanic("Invalid user supplied memory map")

    def sanitise(self) -> bool:
        """Sort the table and resolve overlaps (e820__update_table); False if the table is refused and left unchanged.

        Where ranges overlap, the highest type number wins.  Adjacent ranges of one type are merged, except types in
        `NEVER_MERGED`, which are even split wherever another range begins or ends within them.
        A table of fewer than two entries is refused, as is one with a range that wraps around.
        """
        if len(self.entries) < 2 or any(entry.end > U64_MASK for entry in self.entries):
            return False
        merged: list[E820Entry] = []
        for piece in _pieces(self.entries):
            last = merged[-1] if merged else None
            if last and last.end == piece.start and last.type == piece.type and piece.type not in NEVER_MERGED:
                merged[-1] = attrs.evolve(last, size=last.size + piece.size)
            else:
                merged.append(piece)
        self.entries = merged[: self.limit]
        return True

    def total(self, kind: int) -> int:
        """Bytes of memory of one type, in a sanitised table."""
        return sum(entry.size for entry in self.entries if entry.type == kind)

    def _replace(self, start: int, size: int, chosen: Callable[[int], bool], new: int) -> None:
        """Set the type `new` on memory within a range whose type is chosen; NOTHING removes that memory."""
        end = min(start + size, U64_MASK)
        entries: list[E820Entry] = []
        for entry in self.entries:
            low, high = max(start, entry.start), min(end, entry.end)
            if low >= high or not chosen(entry.type):
                entries.append(entry)
                continue
            parts = ((entry.start, low, entry.type), (low, high, new), (high, entry.end, entry.type))
            entries += [E820Entry(a, b - a, kind) for a, b, kind in parts if a < b and kind != E820Type.NOTHING]
            if new == E820Type.NOTHING and (low, high) == (entry.start, entry.end):
                entries.append(E820Entry(0, 0, E820Type.NOTHING))  # the kernel zeroes the entry and keeps its slot
        self.entries = entries[: self.limit]


@attrs.frozen
class MemmapEntry:
    """One entry of memmap=, parsed as far as the kernel parses it (parse_memmap_one).

    Attributes:
        text: the entry as written.
        operator: `exactmap`; one of `SEPARATORS`; `%`; or "" for a size alone, which limits RAM like mem=.
        size, start: bytes; 0 when missing.
        old, new: the types that `%` converts from and to; 0 stands for any type and for none.
        rest: text after the parsed part.
    """

    text: str
    operator: str
    size: int = 0
    start: int = 0
    old: int = 0
    new: int = 0
    rest: str = ""

    @property
    def understood(self) -> bool:
        """Whether the kernel accepts the entry as a change of the map: it began with a number, or was `exactmap`."""
        return bool(self.operator) or self.rest != self.text

    @property
    def kind(self) -> int:
        """The type of memory that the entry assigns to its range; NOTHING when it assigns none."""
        return SEPARATORS.get(self.operator, self.new)

    def apply(self, table: E820Table) -> None:
        """Change the table like the kernel."""
        if self.operator == "exactmap":
            table.entries = []
        elif self.operator in SEPARATORS:
            table.add(self.start, self.size, self.kind)  # the kernel ignores `rest`
        elif self.operator == "%":
            self._convert(table)
        else:
            table.remove(self.size, U64_MASK - self.size, E820Type.RAM)

    def _convert(self, table: E820Table) -> None:
        if self.rest:
            return
        if self.old and self.new:
            table.convert(self.start, self.size, self.old, self.new)
        elif self.new:
            table.add(self.start, self.size, self.new)
        else:
            table.remove(self.start, self.size, self.old or None)


@functools.lru_cache(maxsize=_TEXTS)
def parse_entries(memmap: str) -> tuple[MemmapEntry, ...]:
    """Parse all entries of memmap=.  The check of the text, its effect and the defaults of a machine need them."""
    return tuple(map(parse_entry, memmap.split(",")))


def parse_entry(text: str) -> MemmapEntry:
    """Parse one entry: the text between two commas."""
    if text.startswith("exactmap"):
        return MemmapEntry(text, "exactmap", rest=text.removeprefix("exactmap"))
    size, rest = memparse(text)
    if rest == text:
        return MemmapEntry(text, "", rest=rest)
    operator = rest[:1]
    if operator not in SEPARATORS and operator != "%":
        return MemmapEntry(text, "", size, rest=rest)
    start, rest = memparse(rest[1:])
    old = new = 0
    if operator == "%" and rest.startswith("-"):
        old, rest = scan_number(rest[1:])
    if operator == "%" and rest.startswith("+"):
        new, rest = scan_number(rest[1:])
    return MemmapEntry(text, operator, size, start, old & U32_MASK, new & U32_MASK, rest)


def memparse(text: str) -> tuple[int, str]:
    """Parse a number with an optional K, M, G, T, P or E; return it and the rest of the text (memparse, lib/cmdline.c).

    The number wraps at 64 bits.  A missing number counts as 0, and a suffix is consumed even then.
    """
    value, rest = scan_size(text)
    return value & U64_MASK, rest


def scan_size(text: str) -> tuple[int, str]:
    """Like `memparse`, but without the limit of 64 bits."""
    value, rest = scan_number(text)
    shift = SUFFIXES.get(rest[:1].upper(), 0)
    return (value << shift, rest[1:]) if shift else (value, rest)


def scan_number(text: str) -> tuple[int, str]:
    """Parse a number, hexadecimal after 0x, octal after 0, else decimal; return it and the rest (simple_strtoull)."""
    base, digits = 10, text
    if text[:1] == "0":
        base = 8
        if text[1:2] in ("x", "X") and _digit(text[2:3]) < 16:
            base, digits = 16, text[2:]
    count = 0
    while _digit(digits[count : count + 1]) < base:
        count += 1
    return int(digits[:count], base) if count else 0, digits[count:]


def _digit(character: str) -> int:
    """The value of a hexadecimal digit; 16 for anything else."""
    index = "0123456789abcdef".find(character.lower()) if character else -1
    return index if index >= 0 else 16


def _pieces(entries: list[E820Entry]) -> Iterator[E820Entry]:
    """Yield the type of memory between each two adjacent boundaries, in address order, without gaps in the map."""
    changes: dict[int, Counter[int]] = {}
    for entry in entries:
        if entry.size:
            changes.setdefault(entry.start, Counter())[entry.type] += 1
            changes.setdefault(entry.end, Counter())[entry.type] -= 1
    covering: Counter[int] = Counter()
    boundaries = sorted(changes)
    for start, end in itertools.pairwise(boundaries):
        covering.update(changes[start])
        kind = max((kind for kind, count in covering.items() if count > 0), default=0)
        if kind != E820Type.NOTHING:
            yield E820Entry(start, end - start, kind)
