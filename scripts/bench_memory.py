"""`scripts/bench memory`: the page engine, without a mount, with 1 GiB, 1 TiB and 1 PiB side by side."""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import tracemalloc
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from scripts.measuring import stopwatch
from scripts.own_python import use_own_python

if TYPE_CHECKING:
    from nvdimmfs.mm.memory import Memory

ROUNDS = 5

SIZES = {"1 GiB": 1 << 30, "1 TiB": 1 << 40, "1 PiB": 1 << 50}
TRANSLATIONS = 1_000_000
STEPS = ("bind", "one million translations", "unbind")
ND = "sys/bus/nd"
PFN = "sys/devices/platform/e820_pmem/ndbus0/region0/pfn0.0"


class Step(NamedTuple):
    """What a step took: seconds (the median of the rounds), and bytes of memory at its peak (of another round)."""

    seconds: float
    peak: int


def measure_memory(*, as_json: bool) -> int:
    """A pfn device in mode pmem is bound, translated, unbound."""
    use_own_python()
    measured = {name: measure_size(size) for name, size in SIZES.items()}
    if as_json:
        rows = {name: {step: value._asdict() for step, value in row.items()} for name, row in measured.items()}
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'a pfn device in mode pmem':<26}" + "".join(f"{name:>22}" for name in SIZES))
    for step in STEPS:
        cells = (f"{row[step].seconds * 1000:8.2f} ms {row[step].peak / 1024:5.0f} KiB" for row in measured.values())
        print(f"{step:<26}" + "".join(f"{cell:>22}" for cell in cells))
    print(f"Time: the median of {ROUNDS} rounds.  Memory: the most that was allocated at once.")
    return 0


def measure_size(size: int) -> dict[str, Step]:
    """All steps with one size."""
    rounds = [run_steps(size, stopwatch) for _ in range(ROUNDS)]
    peaks = run_steps(size, memory_meter)
    return {step: Step(statistics.median(each[step] for each in rounds), int(peaks[step])) for step in STEPS}


def run_steps(size: int, meter: Callable[[Callable[[], object]], float]) -> dict[str, float]:
    """The result of `meter` for each step, on a machine of its own."""
    from nvdimmfs.machine.machine import Machine

    # RAM for the struct pages of a petabyte, as the boot maps all of the range.
    with contextlib.closing(Machine.legacy(f"{size}!64T", 32 << 40)) as machine:

        def write(path: str, text: str) -> None:
            machine.tree.root.find(path).store(text.encode())

        driver = f"{ND}/drivers/nd_pmem"
        write(f"{driver}/unbind", "namespace0.0")
        write(f"{PFN}/mode", "pmem\n")
        write(f"{PFN}/uuid", "01234567-89ab-cdef-0123-456789abcdef")
        write(f"{PFN}/namespace", "namespace0.0")
        calls = (
            lambda: write(f"{driver}/bind", "pfn0.0"),
            lambda: translate(machine.memory, size, TRANSLATIONS),
            lambda: write(f"{driver}/unbind", "pfn0.0"),
        )
        return dict(zip(STEPS, map(meter, calls), strict=True))


def translate(memory: Memory, size: int, count: int) -> None:
    """So many pages of a range of `size` bytes, evenly spread.

    Of each: page frame, struct page, address, and where in the memory the struct page is.
    """
    (pagemap,) = memory.pagemaps
    assert pagemap.range.size == size
    first, end = pagemap.pfn_first(), pagemap.range.end_pfn
    done = 0
    while done < count:
        for segment in memory.pages.segments(first, end):
            step = max(1, len(segment.pfns) // (count - done))
            columns = (segment.pfns, segment.pages, segment.addresses, segment.struct_pages)
            rows = itertools.islice(zip(*(column[::step] for column in columns), strict=True), count - done)
            done += sum(1 for _ in rows)


def memory_meter(call: Callable[[], object]) -> float:
    """The bytes that were allocated at once, at most, beyond what was there before."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
