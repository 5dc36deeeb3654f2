"""Which colour each module, piece and range of a picture has: the same in every column."""

from __future__ import annotations

from nvdimmfs.cli.drawing.model import RAM, Entry, EntryKind, MachineDrawing, Piece
from nvdimmfs.cli.drawing.palette import RAM as RAM_COLOUR
from nvdimmfs.cli.drawing.palette import dimm_colour


class Colours:
    """The colours of one picture.  A DIMM has one; so has each range that memmap= marks."""

    def __init__(self, drawing: MachineDrawing) -> None:
        dimms = [module.name for module in drawing.modules if module.name != RAM]
        marked = [entry.name for entry in drawing.entries if entry.from_ram and entry.kind is not EntryKind.RAM]
        self._numbers = {name: number for number, name in enumerate([*dimms, *marked])}

    def of_piece(self, module: str, piece: Piece) -> str:
        """Of a piece of a module; empty where it is in no range."""
        if not piece.entry:
            return ""
        return self._of(piece.entry if module == RAM else module)

    def of_ways(self, entry: Entry) -> list[str]:
        """Of the ways of a range, in interleave order; none where no module is known."""
        return [self._of(entry.name if way.module == RAM else way.module) for way in entry.ways]

    def _of(self, name: str) -> str:
        return RAM_COLOUR if name == RAM else dimm_colour(self._numbers[name])
