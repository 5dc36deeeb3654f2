"""What a drawing of a machine shows, whichever renderer draws it.

Memory modules (the RAM, the DIMMs) are cut into pieces; the physical address map has entries; each entry is made of
pieces of modules, its ways.  A persistent entry is a region, and its bars are its namespaces and its free space.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Iterator, Sequence

import attrs

from nvdimmfs.cli.drawing.bars import Bar
from nvdimmfs.cli.sizes import short_size
from nvdimmfs.units import MIB, align_down, align_up

#: The module that System RAM, and what memmap= marks in it, is made of.
RAM = "RAM"

#: Holes in System RAM below this size, such as those of the first megabyte, are not drawn.
SMALLEST_HOLE = MIB


class EntryKind(enum.StrEnum):
    """What an entry of the address map is."""

    RAM = "ram"
    PERSISTENT = "persistent"
    SOFT_RESERVED = "soft reserved"


@attrs.frozen
class Way:
    """The part of a module that an entry is made of: `size` bytes from address `start` of the module on."""

    module: str
    start: int
    size: int


@attrs.frozen
class Piece:
    """`size` bytes of a module from its address `start` on.

    Attributes:
        entry: the name of the entry that they are part of; empty where they are in none.
    """

    start: int
    size: int
    entry: str = ""

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.start + self.size


@attrs.frozen
class Module:
    """The RAM, or a DIMM.

    Attributes:
        name: as the kernel calls it: nmem0.
        alias: its name in the machine file, if it has one.
        bus: the bus that it is on: ndbus0; empty for RAM.
        size: bytes.
        pieces: in address order; they fill it.
        label_size: bytes of the label area; 0 without one.
        labels: what is in it, in a few words.
        labels_used: the share of its slots that hold labels.
        notes: further facts, a few words each.
    """

    name: str
    alias: str
    bus: str
    size: int
    pieces: tuple[Piece, ...]
    label_size: int = 0
    labels: str = ""
    labels_used: float = 0.0
    notes: tuple[str, ...] = ()


@attrs.frozen
class Entry:
    """A range of physical addresses.

    Attributes:
        name: as the kernel calls it: region0.
        start, size: bytes.
        kind: what it is.
        bus: the bus that it is on; empty for RAM.
        ways: what it is made of, in interleave order; none where no table names the module.
        notes: further facts, a few words each.
        bars: namespaces and free space.
        without_memory: bytes at which there is no memory.
        from_ram: it would be System RAM, had memmap= not marked it.
    """

    name: str
    start: int
    size: int
    kind: EntryKind
    bus: str = ""
    ways: tuple[Way, ...] = ()
    notes: tuple[str, ...] = ()
    bars: tuple[Bar, ...] = ()
    without_memory: int = 0
    from_ram: bool = False

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.start + self.size


@attrs.frozen
class Bus:
    """An nvdimm bus: its name, its provider, further facts in a few words each."""

    name: str
    provider: str
    notes: tuple[str, ...] = ()


@attrs.frozen
class MachineDrawing:
    """A machine.

    Attributes:
        title: its name.
        description: what it is, in a sentence.
        buses: in the order of their numbers.
        modules: the RAM, then the DIMMs in the order of their numbers.
        entries: the address map, in address order.
        label_areas: the DIMMs' label areas, where their contents are known.
        notes: further facts, a few words each.
    """

    title: str
    description: str
    buses: tuple[Bus, ...]
    modules: tuple[Module, ...]
    entries: tuple[Entry, ...]
    label_areas: tuple[Bar, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def bars(self) -> list[Bar]:
        """Every bar: region by region, then the label areas."""
        return [*itertools.chain.from_iterable(entry.bars for entry in self.entries), *self.label_areas]

    def module(self, name: str) -> Module:
        """The module of a name; StopIteration."""
        return next(module for module in self.modules if module.name == name)


def marked_entry(
    name: str, start: int, size: int, bus: str, notes: tuple[str, ...], without_memory: int, bars: tuple[Bar, ...] = ()
) -> Entry:
    """A range of persistent memory that memmap= marks; a note gives the part of it that has no memory."""
    if without_memory:
        absent = "no memory" if without_memory == size else f"{short_size(without_memory)} without memory"
        notes = (*notes, f"{absent} behind it")
    return Entry(name, start, size, EntryKind.PERSISTENT, bus, (), notes, bars, without_memory, from_ram=True)


def pieces_of(module: str, size: int, entries: Iterable[Entry]) -> tuple[Piece, ...]:
    """The pieces of a module that has `size` bytes, with what is in no entry between them."""
    used = sorted((way.start, way.size, entry.name) for entry in entries for way in entry.ways if way.module == module)
    pieces: list[Piece] = []
    position = 0
    for start, length, name in used:
        if position < start:
            pieces.append(Piece(position, start - position))
        first = max(start, position)  # a platform may map bytes of a DIMM twice
        if first < start + length:
            pieces.append(Piece(first, start + length - first, name))
            position = start + length
    if position < size:
        pieces.append(Piece(position, size - position))
    return tuple(pieces)


def with_ram(ram: Iterable[tuple[int, int]], others: Sequence[Entry]) -> tuple[Entry, ...]:
    """The address map: RAM at (first, end) addresses, without its smallest holes, and the other entries.

    RAM, and what memmap= has marked in it, are made of the module `RAM`.
    """
    found = _without_small_holes(ram, others)
    entries = [Entry(RAM, start, end - start, EntryKind.RAM, from_ram=True) for start, end in found]
    mapped: list[Entry] = []
    offset = 0
    for entry in sorted([*entries, *others], key=lambda entry: (entry.start, entry.name)):
        backed = entry.size - entry.without_memory
        if not entry.from_ram or not backed:
            mapped.append(entry)
            continue
        mapped.append(attrs.evolve(entry, ways=(Way(RAM, offset, backed),)))
        offset += backed
    return tuple(mapped)


def gaps_between(entries: Sequence[Entry]) -> Iterator[tuple[Entry, int]]:
    """Each entry with the bytes between it and the one before it; 0 where they touch."""
    position = 0
    for entry in entries:
        yield entry, max(0, entry.start - position)
        position = max(position, entry.end)


def _without_small_holes(ram: Iterable[tuple[int, int]], others: Sequence[Entry]) -> list[tuple[int, int]]:
    """RAM widened to whole MiB, as far as nothing else lies there, and joined where it touches."""
    joined: list[tuple[int, int]] = []
    for start, end in ram:
        first, last = align_down(start, SMALLEST_HOLE), align_up(end, SMALLEST_HOLE)
        first = max([first, *(entry.end for entry in others if first < entry.end <= start)])
        last = min([last, *(entry.start for entry in others if end <= entry.start < last)])
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined
