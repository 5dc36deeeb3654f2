"""The firmware's memory map and what memmap= makes of it (arch/x86/kernel/e820.c, Linux 6.1).

`E820Table.apply` does what the kernel does, which includes ignoring what it cannot read.  A command line asks
`nvdimmfs.mm.memmap_option.check_memmap` first, which refuses what the kernel would not honour.
"""

from __future__ import annotations

import enum
import itertools
from collections import Counter
from collections.abc import Callable, Iterator

import attrs

from nvdimmfs.units import U32_MASK, U64_MASK

#: Entries that the kernel's table holds: 128 of the boot protocol and 3 for each of 1024 nodes (asm/e820/types.h).
E820_MAX_ENTRIES = 128 + 3 * 1024


class KernelPanic(ValueError):  # noqa: N818  # it is what the kernel does, not an error of this program
    """The kernel would stop here; str() is what it would say."""


class E820Type(enum.IntEnum):
    """Kinds of memory (asm/e820/types.h); memmap= can bring in any other number as well."""

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


#: Kinds whose ranges stay apart even when one touches the next.
NEVER_MERGED = frozenset({E820Type.PRAM, E820Type.SOFT_RESERVED})

#: What stands between size and start, and the kind of memory that it makes of the range.
SEPARATORS = {"@": E820Type.RAM, "#": E820Type.ACPI, "$": E820Type.RESERVED, "!": E820Type.PRAM}

#: Powers of 1024 that may follow a number, in either case (memparse in lib/cmdline.c).
SUFFIXES = {letter: 10 * (power + 1) for power, letter in enumerate("KMGTPE")}


@attrs.frozen
class E820Entry:
    """`size` bytes from `start` on are memory of kind `type`."""

    start: int
    size: int
    type: int

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.start + self.size


@attrs.define
class E820Table:
    """The kernel's table: in any order and overlapping until it is sanitised."""

    entries: list[E820Entry] = attrs.field(factory=list)
    limit: int = E820_MAX_ENTRIES

    def add(self, start: int, size: int, kind: int) -> None:
        """Append a range; a full table ignores it (e820__range_add)."""
        if len(self.entries) < self.limit:
            self.entries.append(E820Entry(start, size, kind))

    def convert(self, start: int, size: int, old: int, new: int) -> None:
        """Turn what a range holds of kind `old` into `new` (e820__range_update)."""
        self._replace(start, size, lambda kind: kind == old, new)

    def remove(self, start: int, size: int, kind: int | None = None) -> None:
        """Forget what a range holds, or what it holds of one kind (e820__range_remove)."""
        self._replace(start, size, lambda found: kind is None or kind == found, E820Type.NOTHING)

    def apply(self, memmap: str) -> None:
        """Take one memmap= option as the kernel does: entry by entry, in silence about what it cannot read.

        The table is then sanitised, if any entry began with a number or was `exactmap`.
        KernelPanic when the sanitising fails.
        """
        entries = [entry for entry in map(parse_entry, memmap.split(",")) if entry.understood]
        for entry in entries:
            entry.apply(self)
        if entries and not self.sanitise():
            raise KernelPanic("Invalid user supplied memory map")

    def sanitise(self) -> bool:
        """Sort the table and resolve overlaps (e820__update_table); False when it refuses and changes nothing.

        Where ranges overlap the highest type number wins.  Neighbours of one kind merge, but those of
        `NEVER_MERGED` do not: they even split wherever another range begins or ends within them.
        A table of fewer than two entries is refused, and one with a range that wraps around.
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
        """Bytes of one kind, in a sanitised table."""
        return sum(entry.size for entry in self.entries if entry.type == kind)

    def _replace(self, start: int, size: int, chosen: Callable[[int], bool], new: int) -> None:
        """Give the kind `new` to what lies within a range and is of a chosen kind; NOTHING takes it out."""
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
                entries.append(E820Entry(0, 0, E820Type.NOTHING))  # it still counts as an entry
        self.entries = entries[: self.limit]


@attrs.frozen
class MemmapEntry:
    """One entry of memmap=, read as far as the kernel reads it (parse_memmap_one).

    Attributes:
        text: the entry as written.
        operator: `exactmap`; one of `SEPARATORS`; `%`; or "" for a size alone, which limits RAM as mem= does.
        size, start: bytes; 0 when missing.
        old, new: the kinds that `%` converts between; 0 for any and for none.
        rest: what the kernel did not expect.
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
        """Whether it counts as the user's word on the memory map: it began with a number, or was `exactmap`."""
        return bool(self.operator) or self.rest != self.text

    @property
    def kind(self) -> int:
        """The kind of memory that it makes of its range; NOTHING when it makes none."""
        return SEPARATORS.get(self.operator, self.new)

    def apply(self, table: E820Table) -> None:
        """Change the table as the kernel does."""
        if self.operator == "exactmap":
            table.entries = []
        elif self.operator in SEPARATORS:
            table.add(self.start, self.size, self.kind)  # whatever follows it
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


def parse_entry(text: str) -> MemmapEntry:
    """Read one entry: the text between two commas."""
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
    """A number with an optional K, M, G, T, P or E, and what follows it (memparse, lib/cmdline.c).

    The number is 64 bits wide and wraps.  Where there is none it is 0, and a suffix is taken even so.
    """
    value, rest = scan_size(text)
    return value & U64_MASK, rest


def scan_size(text: str) -> tuple[int, str]:
    """As `memparse`, without a limit to the number."""
    value, rest = scan_number(text)
    shift = SUFFIXES.get(rest[:1].upper(), 0)
    return (value << shift, rest[1:]) if shift else (value, rest)


def scan_number(text: str) -> tuple[int, str]:
    """A number, hexadecimal after 0x, octal after 0, else decimal, and what follows it (simple_strtoull)."""
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
    """What the table says between each two neighbouring boundaries, in address order, gaps left out."""
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
