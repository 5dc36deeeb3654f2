"""The engine emits the uevents that a real Linux 6.1, or 6.12, emitted for the same writes to sysfs."""

from pathlib import Path

import attrs
import pytest
from machines import boot
from uevent_story import Event, load

from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.lab.trees import InProcess

RECORDINGS = Path(__file__).parent.parent / "recordings"
STORIES = sorted(RECORDINGS.rglob("*.uevents"))
MODULES = "kernel/debug/nvdimmfs/modules"


class Listener:
    def __init__(self):
        self.events = []

    def uevent(self, event):
        self.events.append(Event.of(event.properties))

    def take(self):
        taken, self.events = self.events, []
        return taken


@attrs.define
class Ended:
    """A kernel that ends some races otherwise than usual, by their numbers."""

    races: dict
    count: int = 0

    def decide(self, race, usual):
        outcome = self.races.get(str(self.count))
        self.count += 1
        return usual if outcome is None else type(usual)(outcome)


def do(sysfs, done):
    """A step's answer."""
    try:
        match done:
            case ["write", path, text]:
                return sysfs.write(path, text.encode("latin-1"))
            case [verb, module]:
                sysfs.write(MODULES, f"{verb} {module}\n".encode())
                return 0
    except KernelError as refusal:
        return refusal.code


@pytest.mark.parametrize("path", STORIES, ids=lambda path: str(path.relative_to(RECORDINGS).with_suffix("")))
def test_every_event_is_told_as_the_kernel_told_it(path):
    story = load(path)
    machine = boot(story.machine)
    machine.system.referee = Ended(story.races)
    sysfs = InProcess(machine)
    listener = Listener()
    machine.system.listen(listener)
    for number, step in enumerate(story.steps, 1):
        answer = do(sysfs, step.done)
        machine.system.clock.advance(SECOND)
        emitted, recorded = (step.comparable(events) for events in (listener.take(), step.events))
        assert answer == step.answer, f"step {number}: {step.done}"
        assert [*map(str, emitted)] == [*map(str, recorded)], f"step {number}: {step.done}"
    assert any(step.events for step in story.steps)
