"""Figures beside other figures, measured in turns, and the table that they make, with the machine they come from."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from scripts.measuring import rate

#: Rounds in which each call has its turn.
ROUNDS = 7


class Goal(NamedTuple):
    """What is to be reached: by the ratio, where something was measured beside it, else by the figure."""

    limit: float
    is_most: bool

    def __str__(self) -> str:
        return f"at {'most' if self.is_most else 'least'} {_short(self.limit)}"

    def is_reached(self, value: float) -> bool:
        return value <= self.limit if self.is_most else value >= self.limit


def at_least(limit: float) -> Goal:
    return Goal(limit, is_most=False)


def at_most(limit: float) -> Goal:
    return Goal(limit, is_most=True)


class Row(NamedTuple):
    """One line of a table.

    Attributes:
        what: what was measured.
        unit: of both figures, such as "/s".
        figure: what nvdimmfs reached; None where it could not be measured.
        beside: what something else reached in the same rounds; None for nothing.
        ratio: of both, as the median of the rounds; None to divide one by the other.
        goal: what is to be reached; None where no limit was set.
        note: what else was measured, on what, or why not.
    """

    what: str
    unit: str
    figure: float | None
    beside: float | None = None
    ratio: float | None = None
    goal: Goal | None = None
    note: str = ""

    @property
    def times(self) -> float | None:
        """The figure as a multiple of the one beside it."""
        if self.ratio is not None:
            return self.ratio
        return self.figure / self.beside if self.figure is not None and self.beside else None

    @property
    def is_reached(self) -> bool | None:
        """Whether the goal is reached; None where there is no goal, or no figure."""
        value = self.figure if self.beside is None else self.times
        return None if self.goal is None or value is None else self.goal.is_reached(value)


def beside(what: str, unit: str, pairs: Sequence[Sequence[float]], goal: Goal | None, note: str) -> Row:
    """The row of figures that were measured in turns: each pair is a round, ours first."""
    ours, theirs = (statistics.median(figures) for figures in zip(*pairs, strict=True))
    ratio = statistics.median(mine / other for mine, other in pairs)
    return Row(what, unit, ours, theirs, ratio, goal, note)


class Turns:
    """The rates of calls, which had their turns in the same rounds.

    Args:
        calls: the calls.
        seconds: for how long each is made, in all rounds together.
    """

    def __init__(self, calls: Sequence[Callable[[], object]], seconds: float) -> None:
        self._rounds = [[rate(call, seconds / ROUNDS) for call in calls] for _ in range(ROUNDS)]

    def rate(self, call: int) -> float:
        """Calls a second: the median of the rounds."""
        return statistics.median(each[call] for each in self._rounds)

    def ratio(self, call: int, other: int) -> float:
        """The rate of a call as a multiple of another one's: the median of the rounds."""
        return statistics.median(each[call] / each[other] for each in self._rounds)


def in_turns(what: str, call: Callable[[], object], other: Callable[[], object] | None, seconds: float) -> Row:
    """Measure how often a second something can be called, beside something else."""
    if other is None:
        return Row(what, "/s", Turns([call], seconds).rate(0))
    turns = Turns([call, other], seconds)
    return Row(what, "/s", turns.rate(0), turns.rate(1), turns.ratio(0, 1))


def print_rows(rows: Sequence[Row], *, as_json: bool) -> None:
    """Print a table as Markdown, with the machine it was measured on, or one JSON object."""
    if as_json:
        measured = [{**row._asdict(), "goal": row.goal and str(row.goal), "reached": row.is_reached} for row in rows]
        print(json.dumps({"machine": machine(), "rows": measured}, indent=2))
        return
    cells = [("", "nvdimmfs", "beside it", "ratio", "goal", "", ""), *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    lines.insert(1, " | ".join("-" * max(width, 3) for width in widths))
    print("\n".join(f"| {line} |" for line in lines))
    print(f"\n{machine()}.")


def machine() -> str:
    """The machine that this runs on, and how busy it is."""
    processors = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in processors.splitlines() if "model name" in line), "")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{len(os.sched_getaffinity(0))} processors{f' ({model})' if model else ''}, {memory:.0f} GiB,"
        f" Linux {platform.release().partition('-')[0]}, Python {platform.python_version()},"
        f" pyfuse3 {metadata.version('pyfuse3')}, load {load:.1f}; medians of {ROUNDS} rounds"
    )


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {None: "", True: "reached", False: "missed"}[row.is_reached]
    figures = tuple("-" if value is None else f"{_short(value)} {row.unit}" for value in (row.figure, row.beside))
    times = "-" if row.times is None else format(row.times, ".2f")
    return (row.what, *figures, times, "" if row.goal is None else str(row.goal), verdict, row.note)


def _short(value: float) -> str:
    """Three digits of a value, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
