"""Replays in which races end as they did in a guest.

A guest ends some races otherwise than the emulated machine does (`kernels.races`), and then answers differ for good.
So a replay that meets a difference is repeated with another outcome of one of the last races before it.  The outcome
with which the most answers agree is taken to be that of the guest, and the search goes on at the next difference.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

import attrs

from nvdimmfs.kernels.races import OutcomeT, Race, Referee
from nvdimmfs.lab.recording import Header, Recording, Step
from nvdimmfs.lab.replay import Report, first_difference, replay
from nvdimmfs.lab.trees import InProcess

#: Makes a machine that has just booted, whose races a referee decides.
Emulated: TypeAlias = Callable[[Referee], AbstractContextManager[InProcess]]

#: How many races before a difference are suspected to be its cause.
_SUSPECTS = 12


@attrs.define
class _Numbered:
    """Decides races by their numbers: how many were run before since the boot.

    Attributes:
        verdicts: the outcomes that are not the usual ones, by number.
        questions: the questions of the races that were run.
        outcomes: their outcomes.
    """

    verdicts: Mapping[int, enum.Enum]
    questions: list[str] = attrs.field(factory=list)
    outcomes: list[enum.Enum] = attrs.field(factory=list)

    def decide(self, race: Race[OutcomeT], usual: OutcomeT) -> OutcomeT:
        verdict = self.verdicts.get(len(self.outcomes))
        outcome = verdict if isinstance(verdict, type(usual)) else usual
        self.questions.append(race.question)
        self.outcomes.append(outcome)
        return outcome

    def others(self) -> Iterator[tuple[int, enum.Enum]]:
        """The other outcomes of each race that has no verdict yet, the last race first."""
        for number, taken in reversed([*enumerate(self.outcomes)]):
            if number not in self.verdicts:
                yield from ((number, other) for other in type(taken) if other is not taken)


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
    """

    referee: _Numbered
    reached: int


def matched(steps: Sequence[Step], settle: float, emulated: Emulated) -> Matched:
    """Replay a story with the outcomes of races with which the most answers agree.

    Args:
        steps: the story.
        settle: seconds that the guest was left alone after each write.
        emulated: makes a machine for each replay.
    """
    story = Recording(Header({}, "", settle=settle), tuple(steps))
    attempt = _attempted(story, emulated, {})
    while attempt.reached <= len(steps) and (better := _better(story, emulated, attempt)):
        attempt = better
    verdicts = attempt.referee.verdicts
    with emulated(_Numbered(verdicts)) as tree:
        report = replay(story, tree)
    return Matched(report, tuple(attempt.referee.questions[number] for number in sorted(verdicts)))


def _better(story: Recording, emulated: Emulated, attempt: _Attempt) -> _Attempt | None:
    """The attempt that gets farthest, with another outcome of one of the last races; None if none gets farther."""
    best = attempt
    for number, outcome in itertools.islice(attempt.referee.others(), _SUSPECTS):
        other = _attempted(story, emulated, {**attempt.referee.verdicts, number: outcome})
        if other.reached > best.reached:
            best = other
    return None if best is attempt else best


def _attempted(story: Recording, emulated: Emulated, verdicts: Mapping[int, enum.Enum]) -> _Attempt:
    referee = _Numbered(verdicts)
    with emulated(referee) as tree:
        found = first_difference(story, tree)
    return _Attempt(referee, found.number if found else len(story.steps) + 1)
