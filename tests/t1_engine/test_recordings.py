"""What a real Linux 6.1 answered, asked of the engine without a mount."""

from pathlib import Path

import pytest
from machines import boot
from replay import InProcess, load, replay

RECORDINGS = Path(__file__).parent.parent / "recordings"
STORIES = sorted(RECORDINGS.rglob("*.recording"))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: str(story.relative_to(RECORDINGS).with_suffix("")))
def test_every_answer_is_the_recorded_one(story):
    recording = load(story)
    machine = boot(recording.header.machine)
    report = replay(recording, InProcess(machine.system.sys, machine.system.dev, machine.system.rest))
    assert not report.differences, "\n".join(str(difference) for difference in report.differences[:5])
    assert report.total > 0
