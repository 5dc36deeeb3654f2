"""Replays in which races end as they did in a guest.

A guest ends some races otherwise than the emulated machine does (`kernels.races`), and then answers differ for good.
So a replay that meets a difference is repeated with another outcome of one of the last races before it.  The outcome
with which the most answers agree is taken to be that of the guest, and the search goes on at the next difference.
Where no single race helps, several of one step are tried together: the bind of a region with many namespaces runs many.

Disks that are found at a time get device numbers in any order, and later disks get those that are free then.  So from a
number that differs until the machine boots again, none is compared.
"""

from __future__ import annotations

import enum
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

import attrs

from nvdimmfs.kernels.races import FOUND_NUMBERS, OutcomeT, Race, Referee
from nvdimmfs.lab.asking import SETTLE, Answer, Call, Row
from nvdimmfs.lab.comparing import BACKING_DEVICE, Comparison, compared
from nvdimmfs.lab.reboots import REBOOT
from nvdimmfs.lab.recording import Header, Recording, Step
from nvdimmfs.lab.replay import Report, replay
from nvdimmfs.lab.trees import InProcess

#: Makes a machine that has just booted, whose races a referee decides.
Emulated: TypeAlias = Callable[[Referee], AbstractContextManager[InProcess]]

#: How many races before a difference are suspected to be its cause.
_SUSPECTS = 24

#: How many races of one step are suspected together, and how many combinations of so many races are tried.
_MOST_TOGETHER = 3
_MOST_COMBINATIONS = 300

#: Questions that change nothing but the time, unless they read the file that asks a DIMM for its state, which the
#: kernel of the test platform keeps for later writes (security_show, drivers/nvdimm/dimm_devs.c).
_READING = frozenset({"dump", "ls", "read", "readlink", "stat"})
_ASKING_FILE = "security"

#: Where a race is run: the number of the step, 0 for the boot before the first, and how many it ran before.
_Place: TypeAlias = tuple[int, int]


@attrs.define
class _StepReferee:
    """Decides races by the places where they are run, so that no other outcome changes which later race is meant.

    Attributes:
        verdicts: the outcomes that are not the usual ones, by place.
        questions: the questions of the races that were run.
        outcomes: their outcomes, in order.
        step: the number of the step that is taken now.
    """

    verdicts: Mapping[_Place, enum.Enum]
    questions: dict[_Place, str] = attrs.field(factory=dict)
    outcomes: dict[_Place, enum.Enum] = attrs.field(factory=dict)
    step: int = 0
    _runs: Counter[int] = attrs.field(factory=Counter)

    def decide(self, race: Race[OutcomeT], usual: OutcomeT) -> OutcomeT:
        place = self.step, self._runs[self.step]
        self._runs[self.step] += 1
        verdict = self.verdicts.get(place)
        outcome = verdict if isinstance(verdict, type(usual)) else usual
        self.questions[place] = race.question
        self.outcomes[place] = outcome
        return outcome

    def others(self) -> Iterator[tuple[_Place, enum.Enum]]:
        """The other outcomes of each race that has no verdict yet, the last race first."""
        for place, taken in reversed(self.outcomes.items()):
            if place not in self.verdicts:
                yield from ((place, other) for other in type(taken) if other is not taken)

    def with_verdict(self, place: _Place, outcome: enum.Enum) -> dict[_Place, enum.Enum]:
        """The verdicts with one more, without those of later races of its step, which may be others then."""
        kept = {other: verdict for other, verdict in self.verdicts.items() if other[0] != place[0] or other < place}
        return {**kept, place: outcome}


@attrs.frozen
class _SteppedTree:
    """A machine whose referee knows which step is taken."""

    tree: InProcess
    referee: _StepReferee

    def ask(self, calls: Iterable[Call], settle: float = SETTLE) -> Iterator[Answer]:
        for number, call in enumerate(calls, 1):
            self.referee.step = number
            yield from self.tree.ask([call], settle)


@attrs.frozen
class Matched:
    """A replay in which races ended as in the guest.

    Attributes:
        report: how it went.
        races: the questions of the races that ended otherwise than usual, in order.
    """

    report: Report
    races: tuple[str, ...]


@attrs.frozen
class _Attempt:
    """A replay up to its first difference.

    Attributes:
        referee: who decided its races.
        reached: the number of the step that differs; one more than there are steps if none does.
        differences: the answers of that step that differ, such as rows of a dump.
        durations: the nanoseconds of each step that was taken, of the machine's clock.
    """

    referee: _StepReferee
    reached: int
    differences: Sequence[Comparison]
    durations: Sequence[int]

    @property
    def progress(self) -> tuple[int, int]:
        """How far it gets: to a later step, or to the same one with fewer answers that differ."""
        return self.reached, -len(self.differences)

    @property
    def is_of_numbers(self) -> bool:
        """Whether the first answer that differs is a device number."""
        first = self.differences[0] if self.differences else None
        return first is not None and _has_number(first.expected) and _has_number(first.here)


def matched(steps: Sequence[Step], settle: float, emulated: Emulated) -> Matched:
    """Replay a story with the outcomes of races with which the most answers agree.

    Args:
        steps: the story.
        settle: seconds that the guest was left alone after each write.
        emulated: makes a machine for each replay.
    """
    story = Recording(Header({}, "", settle=settle), tuple(steps))
    attempt = _attempted(story, emulated, {})
    races: list[str] = []
    while attempt.reached <= len(steps):
        if attempt.is_of_numbers:
            races.append(FOUND_NUMBERS.question)
            story = _without_numbers(story, attempt.reached)
            attempt = _attempted(story, emulated, attempt.referee.verdicts)
        elif better := _better(story, emulated, attempt):
            attempt = better
        else:
            break
    verdicts = attempt.referee.verdicts
    referee = _StepReferee(verdicts)
    with emulated(referee) as tree:
        report = replay(story, _SteppedTree(tree, referee))
    races += (attempt.referee.questions[place] for place in sorted(verdicts))
    return Matched(report, tuple(races))


def _without_numbers(story: Recording, first: int) -> Recording:
    """The story without device numbers from one step on until the machine boots again."""
    steps = [*story.steps]
    for place, step in enumerate(steps[first - 1 :], first - 1):
        if step.call["op"] == REBOOT:
            break
        if "rows" in step.answer:
            steps[place] = attrs.evolve(step, answer={"rows": [*map(_without_number, step.answer["rows"])]})
    return attrs.evolve(story, steps=tuple(steps))


def _without_number(row: Row) -> Row:
    return {**row, "unstable": True} if _has_number(row) else row


def _has_number(answer: Answer | Row | None) -> bool:
    """Whether an answer is the link of a disk to its backing device, which has the disk's device number."""
    return answer is not None and BACKING_DEVICE.search(answer.get("link", "")) is not None


def _better(story: Recording, emulated: Emulated, attempt: _Attempt) -> _Attempt | None:
    """The attempt that gets farthest, with another outcome of one of the last races; None if none gets farther.

    If no single race helps, several of one step do, such as those of a region with many namespaces.
    """
    changed = [
        (place, _attempted(story, emulated, attempt.referee.with_verdict(place, outcome), attempt, place))
        for place, outcome in itertools.islice(attempt.referee.others(), _SUSPECTS)
    ]
    for _ in range(_MOST_TOGETHER):
        best = max((each for _, each in changed), key=lambda each: each.progress, default=attempt)
        if best.progress > attempt.progress:
            return best
        changed = [*itertools.islice(_with_one_more(story, emulated, changed), _MOST_COMBINATIONS)]
    return None


def _with_one_more(
    story: Recording, emulated: Emulated, changed: Sequence[tuple[_Place, _Attempt]]
) -> Iterator[tuple[_Place, _Attempt]]:
    """The attempts with another outcome of one more race, which is run later in the same step.

    Args:
        story: the story.
        emulated: makes a machine.
        changed: attempts, each with the place of the last race whose outcome was changed.
    """
    for last, attempt in changed:
        referee = attempt.referee
        for place, outcome in referee.others():
            if place > last and place[0] == last[0]:
                yield place, _attempted(story, emulated, referee.with_verdict(place, outcome), attempt, place)


def _attempted(
    story: Recording,
    emulated: Emulated,
    verdicts: Mapping[_Place, enum.Enum],
    last: _Attempt | None = None,
    changed: _Place = (0, 0),
) -> _Attempt:
    """Replay up to the first difference.

    Args:
        story: the story.
        emulated: makes a machine.
        verdicts: the outcomes of races by place.
        last: an attempt in which all races before one ended in the same way; None if there is none.
        changed: the place of that race.  What was only read before it is not read again.
    """
    referee = _StepReferee(verdicts)
    known, _ = changed
    durations: list[int] = []
    with emulated(referee) as tree:
        for number, step in enumerate(story.steps, 1):
            referee.step = number
            if last and number < known and _only_reads(step):
                tree.system.clock.advance(last.durations[number - 1])
                durations.append(last.durations[number - 1])
                continue
            start = tree.system.clock.now
            (answer,) = tree.ask([step.call], story.header.settle)
            durations.append(tree.system.clock.now - start)
            if differing := [each for each in compared(step, answer) if not each.agrees]:
                return _Attempt(referee, number, differing, durations)
    return _Attempt(referee, len(story.steps) + 1, (), durations)


def _only_reads(step: Step) -> bool:
    """Whether a step changes nothing but the time."""
    if step.call["op"] not in _READING:
        return False
    paths = [step.call["path"], *(row["path"] for row in step.answer.get("rows", []))]
    return all(path.rpartition("/")[2] != _ASKING_FILE for path in paths)
