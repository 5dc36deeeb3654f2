"""What a drawing shows, in words: for readers who do not see it, and as captions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from nvdimmfs.cli.drawing.model import RAM, Entry, EntryKind, MachineDrawing, Piece
from nvdimmfs.cli.sizes import short_size
from nvdimmfs.units import exact_size

#: Devices of a PC have addresses below this one.
_DEVICES_END = 1 << 32

_NUMBERED = re.compile(r"([a-z]+)([0-9]+)")


def summary(drawing: MachineDrawing) -> str:
    """A sentence for each range."""
    return " ".join(_sentences(drawing))


def interleaving(entry: Entry) -> str:
    """What a range is made of: `4 ways: nmem0-3`, `nmem4`; empty where that is not known, and for what is RAM."""
    names = [way.module for way in entry.ways if way.module != RAM]
    ways = f"{len(names)} ways: " if len(names) > 1 else ""
    return f"{ways}{', '.join(_runs(names))}"


def gap_words(entry: Entry, gap: int) -> tuple[str, str]:
    """Of the addresses between a range and the one before it: the size, and what they are for."""
    below_4_gib = entry.start - gap < _DEVICES_END <= entry.start
    return short_size(gap), "for devices" if below_4_gib else "gap"


def span(piece: Piece) -> str:
    """From where to where on its module, in the largest unit that both are multiples of: `16-32 MiB`, `0-126 GiB`."""
    unit = (piece.start | piece.end) & -(piece.start | piece.end)
    size, name = exact_size(unit).split(" ")
    unit //= int(size)
    return f"{piece.start // unit}-{piece.end // unit} {name}"


def _sentences(drawing: MachineDrawing) -> Iterator[str]:
    dimms = [module for module in drawing.modules if module.name != RAM]
    yield f"{len(dimms)} DIMM{'' if len(dimms) == 1 else 's'}."
    for entry in drawing.entries:
        what = "System RAM" if entry.kind is EntryKind.RAM else entry.name
        facts = ", ".join(fact for fact in (interleaving(entry), *entry.notes) if fact)
        namespaces = len([bar for bar in entry.bars if not bar.detail and not bar.is_free])
        count = f"; {namespaces} namespace{'' if namespaces == 1 else 's'}" if namespaces else ""
        yield (
            f"{what}: {short_size(entry.size)} at {entry.start:#x}-{entry.end - 1:#x}"
            f"{f' ({facts})' if facts else ''}{count}."
        )


def _runs(names: Sequence[str]) -> Iterator[str]:
    """Names that count on, as one: nmem0, nmem1, nmem2 as nmem0-2."""
    keyed = [(name, _NUMBERED.fullmatch(name)) for name in names]
    groups = itertools.groupby(
        enumerate(keyed), key=lambda item: (item[1][1][1], int(item[1][1][2]) - item[0]) if item[1][1] else item[0]
    )
    for _, group in groups:
        members = [name for _, (name, _) in group]
        if len(members) < 3:
            yield from members
        else:
            last = _NUMBERED.fullmatch(members[-1])
            yield f"{members[0]}-{last[2] if last else ''}"
