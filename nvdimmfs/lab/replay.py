"""Ask the questions of a recording again, and report where the answers differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import attrs

from nvdimmfs.lab.comparing import Comparison, compared
from nvdimmfs.lab.excerpts import both_answers, shortened
from nvdimmfs.lab.recording import Recording
from nvdimmfs.lab.trees import Tree


@attrs.frozen
class Difference:
    """An answer that is not the recorded one.

    Attributes:
        number: the step's place in the story, from 1.
        comparison: both answers.
    """

    number: int
    comparison: Comparison

    def __str__(self) -> str:
        kernel, here = both_answers(self.comparison.expected, self.comparison.here)
        return f"step {self.number}: {shortened(self.comparison.question)}\n    kernel {kernel}\n    here   {here}"


@attrs.frozen
class Report:
    """How a replay went; every row of a dump counts as one answer.

    Attributes:
        asked: how many answers of each kind, of each subject, were compared.
        differences: those that differ.
    """

    asked: Counter[tuple[str, str]]
    differences: tuple[Difference, ...]

    @property
    def total(self) -> int:
        return self.asked.total()

    @property
    def same(self) -> int:
        return self.total - len(self.differences)


def replay(recording: Recording, tree: Tree) -> Report:
    """Ask every question of the story in order and compare what can be compared.

    A story that waited longer than usual after its writes is replayed with as much rest.
    """
    asked: Counter[tuple[str, str]] = Counter()
    differences: list[Difference] = []
    for number, comparison in _comparisons(recording, tree):
        asked[comparison.kind, comparison.subject] += 1
        if not comparison.agrees:
            differences.append(Difference(number, comparison))
    return Report(asked, tuple(differences))


def _comparisons(recording: Recording, tree: Tree) -> Iterator[tuple[int, Comparison]]:
    answers = tree.ask((step.call for step in recording.steps), recording.header.settle)
    for number, (step, answer) in enumerate(zip(recording.steps, answers, strict=True), 1):
        for comparison in compared(step, answer):
            yield number, comparison
