"""What the stress programs share: seeds, time, progress, figures, and shrinking of failures.

    def body(trial: Trial) -> None:
        while trial.goes_on():
            step(trial.random)
            trial.count("steps")

    if __name__ == "__main__":
        sys.exit(run("What it checks.", body))

A program accepts --seed, --minutes or --hours, and --limit; one that names its `kinds` accepts --kind and --each, too.
It prints its seed, progress on a terminal and one line of figures at the end, and exits with status 1 if `Trial.failed`
was called or the body raised an exception.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import attrs

__all__ = ["Trial", "resident_kib", "run", "shrink"]

StepT = TypeVar("StepT")

#: Seconds between two lines of progress.
_PROGRESS = 1.0

#: Failures after which a program ends early: the next ones are mostly the same.
_ENOUGH_FAILURES = 5


@attrs.define(eq=False)
class Trial:
    """One run of a stress program.

    Attributes:
        name: of the program.
        seed: a run with the same seed and limit takes the same steps.
        seconds: how long it goes on.
        limit: how many turns `goes_on` allows; 0 for no limit.
        kinds: what the program repeats or feeds, as chosen with --kind; empty for a program without kinds.
        each: how many of each kind are enough; 0 for no such limit.
        random: the only source of random numbers of the program.
        figures: printed at the end, in this order.
        failures: how often `failed` was called.
    """

    name: str
    seed: int
    seconds: float
    limit: int
    random: random.Random
    kinds: tuple[str, ...] = ()
    each: int = 0
    figures: Counter[str] = attrs.field(factory=Counter)
    failures: int = 0
    _started: float = attrs.field(factory=time.monotonic)
    _shown: float = 0.0
    _turns: int = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def goes_on(self) -> bool:
        """Whether to take another turn: there is time left, the limit is not reached, and not much has failed."""
        self._show_progress()
        if self.failures >= _ENOUGH_FAILURES or (self.limit and self._turns >= self.limit):
            return False
        self._turns += 1
        return self.elapsed < self.seconds

    def lacking(self) -> list[str]:
        """The kinds of which there are not enough yet; each is counted as a figure of its name."""
        return [kind for kind in self.kinds if not self.each or self.figures[kind] < self.each]

    def count(self, figure: str, number: int = 1) -> None:
        """Add to a figure."""
        self.figures[figure] += number

    def highest(self, figure: str, value: int) -> None:
        """Keep the largest value of a figure."""
        self.figures[figure] = max(self.figures[figure], value)

    def failed(self, reason: str, steps: Sequence[object] = ()) -> None:
        """Report a failure with the steps that lead to it, already shrunk."""
        self.failures += 1
        lines = [f"{self.name}: FAILED with seed {self.seed}: {reason}", *(f"    {step}" for step in steps)]
        print("\n".join(lines), file=sys.stderr, flush=True)

    def summary(self) -> str:
        """The line of figures."""
        figures = ", ".join(f"{name} {value:,}" for name, value in self.figures.items())
        return f"{self.name}: seed {self.seed}, {self.elapsed:.0f} s: {figures}; failures {self.failures}"

    def _show_progress(self) -> None:
        if sys.stderr.isatty() and self.elapsed - self._shown > _PROGRESS:
            self._shown = self.elapsed
            print(f"\r{self.summary()}\033[K", end="", file=sys.stderr, flush=True)


def run(description: str, body: Callable[[Trial], None], kinds: Sequence[str] = ()) -> int:
    """Run a stress program with the command line of the process, and return its exit status.

    Args:
        description: what it checks.
        body: the program.
        kinds: the names of what it repeats or feeds, among which --kind chooses.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, help="take the steps of an earlier run (default: a random seed)")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to go on (default: 1)")
    parser.add_argument("--hours", type=float, help="the same in hours")
    parser.add_argument("--limit", type=int, default=0, help="turns after which to end (default: no limit)")
    if kinds:
        parser.add_argument("--kind", action="append", choices=kinds, help="one of the kinds (default: all of them)")
        parser.add_argument("--each", type=int, default=0, help="end when there were so many of each kind")
    options = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    seconds = options.minutes * 60 if options.hours is None else options.hours * 3600
    # Which random numbers it draws matters, not whether they can be guessed.
    trial = Trial(Path(sys.argv[0]).stem, seed, seconds, options.limit, random.Random(seed))
    if kinds:
        trial.kinds, trial.each = tuple(options.kind or kinds), options.each
    print(f"{trial.name}: seed {seed}", file=sys.stderr, flush=True)
    try:
        body(trial)
    except KeyboardInterrupt:
        print(f"{trial.name}: ended early", file=sys.stderr)
    except Exception:
        traceback.print_exc()
        trial.failed("the program itself ended with an exception")
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(trial.summary(), flush=True)
    return int(trial.failures > 0)


def shrink(steps: Sequence[StepT], fails: Callable[[Sequence[StepT]], bool], seconds: float = 60.0) -> list[StepT]:
    """The shortest list of steps found that still fails (delta debugging: drop ever smaller pieces).

    Args:
        steps: a list that fails.
        fails: tries a list from a fresh start, and returns whether it fails in the same way.
        seconds: the time after which the shortest list so far is returned.
    """
    end = time.monotonic() + seconds
    kept, piece = list(steps), max(1, len(steps) // 2)
    while kept and time.monotonic() < end:
        before, start = len(kept), 0
        while start < len(kept) and time.monotonic() < end:
            shorter = kept[:start] + kept[start + piece :]
            if fails(shorter):
                kept = shorter
            else:
                start += piece
        if piece == 1 and len(kept) == before:
            break
        piece = max(1, min(piece // 2, len(kept)))
    return kept


def resident_kib(pid: int | str = "self") -> int:
    """Private memory of a process in KiB: what it alone keeps in RAM (/proc/PID/smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_", "Swap:")))
