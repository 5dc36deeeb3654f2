"""Find answers of an emulated machine that differ from those of a kernel, and the shortest stories that show them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs

from nvdimmfs.lab.asking import Answer, Call
from nvdimmfs.lab.comparing import Comparison, compared
from nvdimmfs.lab.ddmin import shortest
from nvdimmfs.lab.guest import TIMEOUT, GuestPlan
from nvdimmfs.lab.recording import Header, Recording, Step
from nvdimmfs.lab.replay import Report, replay
from nvdimmfs.lab.snapshots import resumed
from nvdimmfs.lab.trees import InProcess
from nvdimmfs.lab.walk import Walk
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.model import MachineDescription

#: Another speed of the guest's processor (`qemu.execution_options`), at which races may end differently.
_OTHER_SPEED = 0

#: The mode of the clock of the emulated machine.
_CLOCK = "steps"


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
class Walked:
    """The result of a walk.

    Attributes:
        seed: its seed.
        compared: how many answers were compared.
        found: what differs; None if nothing does.
        ended: how many questions remained when a race ended differently at another speed.
    """

    seed: int
    compared: int
    found: Found | None
    ended: int = 0


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
        """Make a walk, and shorten it if answers differ."""
        calls = self._chosen(seed)
        steps = self._stable(calls)
        report = self._replayed(steps)
        ended = len(calls) - len(steps)
        if not report.differences:
            return Walked(seed, report.total, None, ended)
        first = report.differences[0]
        return Walked(seed, report.total, self._shortened(steps[: first.number], first.comparison), ended)

    def _shortened(self, steps: Sequence[Step], comparison: Comparison) -> Found:
        """The shortest story that ends in a question whose answer differs."""
        *before, last = _calls(steps)
        tried = 0

        def fails(some: Sequence[Call]) -> bool:
            nonlocal tried
            tried += 1
            return self._difference_at_end(self._asked([*some, last])) is not None

        calls = [*shortest([call for call in before if call["op"] == "write"], fails, self.attempts), last]
        asked = self._asked(calls)
        found = self._difference_at_end(asked)
        if found is None:  # the writes alone do not suffice
            return Found(tuple(steps), comparison, tried)
        return Found(tuple(asked), found, tried)

    def _difference_at_end(self, steps: Sequence[Step]) -> Comparison | None:
        """The first answer to the last question that is another one on the emulated machine."""
        differences = self._replayed(steps).differences
        return next((each.comparison for each in differences if each.number == len(steps)), None)

    def _replayed(self, steps: Sequence[Step]) -> Report:
        """How the answers of the emulated machine agree with those of the guest."""
        with self._emulated() as tree:
            return replay(Recording(Header({}, "", settle=self.settle), tuple(steps)), tree)

    def _stable(self, calls: Sequence[Call]) -> list[Step]:
        """The questions with the kernel's answers, up to the first one that is different at another speed."""
        steps = self._asked(calls)
        others = self._answers(calls, _OTHER_SPEED)
        pairs = zip(steps, others, strict=True)
        return [step for step, _ in itertools.takewhile(lambda pair: _agree(*pair), pairs)]

    def _asked(self, calls: Sequence[Call]) -> list[Step]:
        return [Step(call, answer) for call, answer in zip(calls, self._answers(calls, self.plan.speed), strict=True)]

    def _answers(self, calls: Sequence[Call], speed: int) -> list[Answer]:
        with resumed(attrs.evolve(self.plan, speed=speed), self.timeout) as guest:
            return list(guest.ask(calls, self.settle))

    def _chosen(self, seed: int) -> list[Call]:
        with self._emulated() as tree:
            walk = Walk(tree, seed)
            walk.go(self.moves)
        return [call for move in walk.moves for call in move]

    @contextmanager
    def _emulated(self) -> Iterator[InProcess]:
        machine = Machine.described(self.machine, clock=_CLOCK)
        try:
            yield InProcess.of(machine.system)
        finally:
            machine.close()


def _calls(steps: Sequence[Step]) -> list[Call]:
    return [step.call for step in steps]


def _agree(step: Step, other: Answer) -> bool:
    return all(comparison.agrees for comparison in compared(step, other))
