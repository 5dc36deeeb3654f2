"""Take random steps on machines of all platforms, in process.

No exception but `KernelError`, and tree and engine agree (`books.py`).  Failures are shrunk.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Sequence

import _paths  # noqa: F401  # before the modules that it makes importable
import attrs
import books
import random_machines
from choosing import Chooser
from engine_steps import Step, TakeDown
from ioctl_stories import Keys
from torturing import Trial, run, shrink

from nvdimmfs.errors import KernelError
from nvdimmfs.machine.machine import Machine
from nvdimmfs.mm.memory import Memory

#: Steps on one machine, and steps between two comparisons of tree and engine.
STORY = 300
BETWEEN_CHECKS = 20


@attrs.define
class Story:
    """A machine that takes steps.

    Attributes:
        machine: the machine.
        announced: what uevents announced.
        ram_free: bytes of RAM that were free after the boot.
        ram_present: pages of RAM that were online then.
    """

    machine: Machine
    announced: books.Announced
    ram_free: int
    ram_present: int

    @classmethod
    def begin(cls, text: str) -> Story:
        machine = random_machines.boot(text)
        machine.system.keyring = keys = Keys()
        for name in ("first", "second"):
            keys.make(name, 32)
        return cls(machine, books.Announced(machine), machine.memory.ram_free, _present(machine.memory))

    def take(self, step: Step) -> str:
        """Take a step; an empty text, or what is wrong with it."""
        try:
            step.take(self.machine)
        except (KernelError, OSError):  # a refusal, or a medium of the host that fails
            return ""
        except Exception as bug:
            where = traceback.extract_tb(bug.__traceback__)[-1]
            return f"{type(bug).__name__} in {where.name}: {bug}"
        return self._ram_missing() if isinstance(step, TakeDown) else ""

    def _ram_missing(self) -> str:
        """After everything was taken down, at least as much RAM is free as after the boot.

        Unless RAM went offline or was added, which needs struct pages, or pages failed or were taken off.
        """
        memory = self.machine.memory
        missing = self.ram_free - memory.ram_free
        if (
            missing <= 0
            or _present(memory) != self.ram_present
            or memory.hot_memmaps
            or memory.bad_pages.pfns.count
            or memory._taken_off.count
        ):
            return ""
        return f"{missing} bytes of RAM are missing"

    def check(self) -> str:
        """Compare tree and engine; an empty text, or the first thing that is wrong."""
        return next(books.problems(self.machine), "") or next(self.announced.differences(), "")


def _present(memory: Memory) -> int:
    return sum(zone.present for zones in memory.zones.values() for zone in zones[:-1])


def body(trial: Trial) -> None:
    while trial.goes_on():
        trial.count("machines")
        tell_story(trial, random_machines.random_machine(trial.random))


def tell_story(trial: Trial, text: str) -> None:
    """Take steps on one machine until something is wrong or the story is long enough."""
    story, steps = Story.begin(text), []
    chooser = Chooser(trial.random, story.machine, media_fail=True)
    try:
        for number in range(1, STORY + 1):
            steps.append(TakeDown() if number == STORY else chooser.next())
            trial.count("steps")
            wrong = story.take(steps[-1])
            if not wrong and (number % BETWEEN_CHECKS == 0 or number == STORY):
                wrong = story.check()
                trial.count("checks")
            if wrong:
                report(trial, text, steps, wrong)
                return
    finally:
        story.machine.close()


def report(trial: Trial, text: str, steps: list[Step], wrong: str) -> None:
    """Shrink the story and print it."""
    kind = _kind(wrong)
    shortest = shrink(steps, lambda shorter: any(_kind(found) == kind for found in outcome(text, shorter)))
    trial.failed(f"{wrong}\n    on the machine {text!r}", shortest)


def outcome(text: str, steps: Sequence[Step]) -> list[str]:
    """What goes wrong in a story that is told again."""
    story = Story.begin(text)
    try:
        return [wrong for wrong in (*map(story.take, steps), story.check()) if wrong]
    finally:
        story.machine.close()


def _kind(wrong: str) -> str:
    """A problem without the numbers in it."""
    return re.sub(r"0x[0-9a-f]+|\d+", "N", wrong)


if __name__ == "__main__":
    logging.getLogger("nvdimmfs").setLevel(logging.ERROR)  # a walk into odd corners is expected to log warnings
    sys.exit(run(__doc__, body))
