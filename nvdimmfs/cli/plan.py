"""`nvdimmfs plan`: compute what the struct pages of persistent memory cost, in RAM or in the memory itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import attrs

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.sizes import parse_size, rough_size
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.pfn import PfnMode
from nvdimmfs.mm.pc_memory_map import MAXIMUM_RAM, PHYSICAL_BITS
from nvdimmfs.mm.pfn_layout import PfnLayout, lay_out
from nvdimmfs.units import (
    ALIGNMENTS,
    PAGES_PER_SECTION,
    STRUCT_PAGE_SIZE,
    Range,
    align_down,
    align_up,
    exact_size,
    pages,
)

#: Capacities from one whose struct pages fit into the RAM of a typical host to one whose struct pages do not.
DEFAULT_SIZES = ("128G", "512G", "1T", "6T", "64T", "1P")
DEFAULT_START = "4G"
DEFAULT_ALIGN = "2M"
DEFAULT_RAM = "4G"

_HEADER = ("capacity", "memmap", "RAM left", "for data", "RAM left", "for data")
_DOES_NOT_FIT = "no room"


_END = f"physical addresses end at {rough_size(1 << PHYSICAL_BITS)}"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--size",
        metavar="SIZE",
        action="append",
        help=f"capacity of the persistent memory; may be repeated (default: {' '.join(DEFAULT_SIZES)})",
    )
    parser.add_argument(
        "--start",
        metavar="ADDRESS",
        default=DEFAULT_START,
        help="its first address (default: %(default)s)",
    )
    parser.add_argument(
        "--align",
        metavar="SIZE",
        default=DEFAULT_ALIGN,
        help="the align attribute: 4K, 2M or 1G (default: %(default)s)",
    )
    parser.add_argument(
        "--ram", metavar="SIZE", default=DEFAULT_RAM, help="the size of System RAM (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON array, in bytes, instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    start = parse_size(arguments.start, "--start")
    align = parse_size(arguments.align, "--align")
    if align not in ALIGNMENTS:
        raise CommandError(f"--align {arguments.align}: must be 4K, 2M or 1G", MISUSED)
    if start >= 1 << PHYSICAL_BITS:
        raise CommandError(f"--start {arguments.start}: {_END}", MISUSED)
    ram = parse_size(arguments.ram, "--ram")
    if ram > MAXIMUM_RAM:
        raise CommandError(f"--ram {arguments.ram}: too large; the maximum is {exact_size(MAXIMUM_RAM)}", MISUSED)
    plans = [_plan(text, start, align, ram) for text in arguments.size or DEFAULT_SIZES]
    if arguments.json:
        print(json.dumps([attrs.asdict(plan) for plan in plans], indent=2))
    else:
        print(_table(plans, ram, arguments.align, arguments.start))
    return 0


@attrs.frozen
class Cost:
    """The cost of one mode.

    Attributes:
        memmap_ram: bytes of struct pages in RAM.
        memmap_pmem: bytes set aside for struct pages in the persistent memory, alignment included.
        data: bytes that remain for data.
        ram_left: bytes of RAM that remain; None when the struct pages do not fit.
    """

    memmap_ram: int
    memmap_pmem: int
    data: int
    ram_left: int | None


@attrs.frozen
class Plan:
    """One capacity in both modes; `memmap` is 64 bytes for each of its pages."""

    size: int
    memmap: int
    mode_ram: Cost
    mode_pmem: Cost


def _plan(text: str, start: int, align: int, ram: int) -> Plan:
    size = parse_size(text, "--size")
    if start + size > 1 << PHYSICAL_BITS:
        raise CommandError(f"--size {text}: {_END}", MISUSED)
    try:
        layouts = [lay_out(start, size, align, mode) for mode in (PfnMode.RAM, PfnMode.PMEM)]
    except KernelError as error:
        raise CommandError(f"--size {text}: the kernel would refuse to bind it: {error}") from None
    return Plan(size, pages(size) * STRUCT_PAGE_SIZE, *(cost_of(layout, ram) for layout in layouts))


def cost_of(layout: PfnLayout, ram: int) -> Cost:
    """The cost of a layout on a machine with `ram` bytes of RAM, which also hold the RAM's own struct pages."""
    what = layout.range
    memmap = pages(what.size) * STRUCT_PAGE_SIZE
    in_ram = memmap if layout.mode is PfnMode.RAM else _pages_of_partial_sections(what) * STRUCT_PAGE_SIZE
    own = pages(ram) * STRUCT_PAGE_SIZE
    left = ram - own - in_ram
    return Cost(in_ram, layout.memmap_size, layout.data_size, left if left >= 0 else None)


def _pages_of_partial_sections(what: Range) -> int:
    """Pages whose struct pages are in RAM even in mode pmem: those in sections that the range covers in part."""
    whole = align_down(what.end_pfn, PAGES_PER_SECTION) - align_up(what.first_pfn, PAGES_PER_SECTION)
    return pages(what.size) - max(0, whole)


def _table(plans: Sequence[Plan], ram: int, align: str, start: str) -> str:
    rows = [_HEADER, *(_row(plan) for plan in plans)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    first = sum(widths[:2]) + 2
    second, third = sum(widths[2:4]) + 2, sum(widths[4:]) + 2
    groups = f"{'':{first}}  {' mode ram ':-^{second}}  {' mode pmem ':-^{third}}"
    return "\n".join(
        (
            f"Struct pages of persistent memory from {start} on, align {align}, beside {rough_size(ram)} of RAM:",
            "",
            groups,
            *lines,
        )
    )


def _row(plan: Plan) -> tuple[str, ...]:
    return (
        rough_size(plan.size),
        rough_size(plan.memmap),
        *(cell for cost in (plan.mode_ram, plan.mode_pmem) for cell in _cells(cost)),
    )


def _cells(cost: Cost) -> tuple[str, str]:
    """The cells of RAM and data, which are empty when the struct pages do not fit."""
    if cost.ram_left is None:
        return _DOES_NOT_FIT, "-"
    return rough_size(cost.ram_left), rough_size(cost.data)
