"""Find answers of an emulated machine that differ from those of a kernel, and the shortest stories that show them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress

import attrs

from nvdimmfs.kernels.races import Referee
from nvdimmfs.lab import holders, mounts, watchers
from nvdimmfs.lab.asking import Answer, Call
from nvdimmfs.lab.comparing import Comparison, compared
from nvdimmfs.lab.ddmin import shortest
from nvdimmfs.lab.emulated import emulated
from nvdimmfs.lab.errors import GuestEndedError
from nvdimmfs.lab.guest import TIMEOUT, TOGETHER, GuestPlan
from nvdimmfs.lab.reboots import REBOOT, RebootingGuest
from nvdimmfs.lab.recording import Step
from nvdimmfs.lab.replay import Difference
from nvdimmfs.lab.snapshots import resumed
from nvdimmfs.lab.trees import InProcess
from nvdimmfs.lab.verdicts import Matched, matched
from nvdimmfs.lab.walk import Walk
from nvdimmfs.machine_file.model import MachineDescription

#: Other speeds of the guest's processor (`qemu.execution_options`), at which races may end differently.
_OTHER_SPEEDS = (0, 2, 3)

#: How many questions of a walk are left out at most because the kernel panics.
_MOST_FATAL = 10

#: What changes a machine: a shorter story has fewer of these.
_CHANGING = ("write", "pwrite", "ioctl", *holders.QUESTIONS, *mounts.QUESTIONS, *watchers.QUESTIONS, REBOOT)


@attrs.frozen
class Found:
    """A walk on which answers differ.

    Attributes:
        steps: the shortest story, with the answers of the kernel.
        comparison: the first answer that differs.
        attempts: how often a shorter story was tried.
    """

    steps: tuple[Step, ...]
    comparison: Comparison
    attempts: int


@attrs.frozen
class _Telling:
    """The answers of the kernel at one speed, where one differs from that of the emulated machine.

    Attributes:
        steps: all questions with the answers.
        difference: the first that differs.
    """

    steps: tuple[Step, ...]
    difference: Difference

    @property
    def until_difference(self) -> tuple[Step, ...]:
        """The steps up to the one whose answer differs."""
        return self.steps[: self.difference.number]

    def is_confirmed_by(self, other: _Telling) -> bool:
        """Whether the kernel answers the same at another speed, up to the difference."""
        pairs = zip(self.until_difference, other.steps, strict=False)
        return all(_agree(step, other_step.answer) for step, other_step in pairs)


@attrs.frozen
class Walked:
    """The result of a walk.

    Attributes:
        seed: its seed.
        compared: how many answers were compared.
        found: what differs; None if nothing does.
        ended: how many questions were left when races had ended otherwise than here at each speed.
        fatal: questions that were left out because the kernel panics.
        races: the races that ended otherwise than usual, each by its question.
    """

    seed: int
    compared: int
    found: Found | None
    ended: int = 0
    fatal: tuple[Call, ...] = ()
    races: tuple[str, ...] = ()


@attrs.frozen
class Fuzzer:
    """Walks over a machine, and asks a guest and an emulated machine the same.

    Attributes:
        machine: the machine, with the kernel that is emulated.
        plan: the guest.
        moves: the number of moves of a walk.
        settle: seconds to leave the guest alone after each write.
        attempts: how many shorter stories to try at most.
        timeout: the seconds that the guest has for its boot, and for each request.
    """

    machine: MachineDescription
    plan: GuestPlan
    moves: int
    settle: float
    attempts: int
    timeout: float = TIMEOUT

    def walk(self, seed: int) -> Walked:
        """Make a walk, and shorten it if answers differ.

        A kernel whose answers differ whatever the outcomes of known races are is asked again at other speeds.  Where
        one agrees to the end, a race that is not known ended as it does here.  An answer that two speeds have, and all
        before it, is no race.
        """
        steps, fatal = self._survived(self._chosen(seed))
        calls = _calls(steps)
        tellings: list[_Telling] = []
        for speed in (self.plan.speed, *_OTHER_SPEEDS):
            if tellings:
                steps = self._asked(calls, speed)
            matching = self._matched(steps)
            report, races = matching.report, matching.races
            if not report.differences:
                return Walked(seed, report.total, None, len(calls) - len(steps), fatal, races)
            telling = _Telling(tuple(steps), report.differences[0])
            if any(map(telling.is_confirmed_by, tellings)):
                found = self._shortened(telling.until_difference, telling.difference.comparison)
                return Walked(seed, report.total, found, fatal=fatal, races=races)
            tellings.append(telling)
        farthest = max(tellings, key=lambda telling: telling.difference.number).until_difference[:-1]
        matching = self._matched(farthest)
        return Walked(seed, matching.report.total, None, len(calls) - len(farthest), fatal, matching.races)

    def _survived(self, calls: Sequence[Call]) -> tuple[list[Step], tuple[Call, ...]]:
        """The questions that the kernel survives, with its answers, and those that it does not."""
        survived = [*calls]
        fatal: list[Call] = []
        while len(steps := self._asked(survived, self.plan.speed)) < len(survived):
            steps = self._asked(survived, self.plan.speed, together=0)
            if len(steps) == len(survived) or len(fatal) == _MOST_FATAL:  # it survives when it sends answers at once
                break
            fatal.append(survived.pop(len(steps)))
        return steps, tuple(fatal)

    def _shortened(self, steps: Sequence[Step], comparison: Comparison) -> Found:
        """The shortest story that ends in a question whose answer differs."""
        *before, last = _calls(steps)
        tried = 0

        def fails(some: Sequence[Call]) -> bool:
            nonlocal tried
            tried += 1
            calls = [*some, last]
            return self._difference_at_end(calls, self._asked(calls, self.plan.speed)) is not None

        calls = [*shortest([call for call in before if call["op"] in _CHANGING], fails, self.attempts), last]
        asked = self._asked(calls, self.plan.speed)
        found = self._difference_at_end(calls, asked)
        if found is None:  # the writes alone do not suffice
            return Found(tuple(steps), comparison, tried)
        return Found(tuple(asked), found, tried)

    def _difference_at_end(self, calls: Sequence[Call], steps: Sequence[Step]) -> Comparison | None:
        """The first answer to the last question that is another one on the emulated machine."""
        differences = self._matched(steps).report.differences
        return next((each.comparison for each in differences if each.number == len(calls)), None)

    def _matched(self, steps: Sequence[Step]) -> Matched:
        """How the answers of the emulated machine agree with those of the guest."""
        return matched(steps, self.settle, self._emulated)

    def _asked(self, calls: Sequence[Call], speed: int, together: float = TOGETHER) -> list[Step]:
        """The questions with the answers, fewer if the kernel panics."""
        steps: list[Step] = []
        with resumed(attrs.evolve(self.plan, speed=speed), self.timeout) as guest, suppress(GuestEndedError):
            answers = RebootingGuest(guest, self.plan.hardware).ask(calls, self.settle, together)
            steps.extend(Step(call, next(answers)) for call in calls)
        return steps

    def _chosen(self, seed: int) -> list[Call]:
        with self._emulated() as tree:
            walk = Walk(tree, seed)
            walk.go(self.moves)
        return [call for move in walk.moves for call in move]

    def _emulated(self, referee: Referee | None = None) -> AbstractContextManager[InProcess]:
        return emulated(self.machine, referee=referee)


def _calls(steps: Sequence[Step]) -> list[Call]:
    return [step.call for step in steps]


def _agree(step: Step, other: Answer) -> bool:
    return all(comparison.agrees for comparison in compared(step, other))
