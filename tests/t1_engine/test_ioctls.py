"""ioctls as a real kernel answered them, 6.1 or 6.12, asked of the engine."""

from pathlib import Path

import pytest
from ioctl_stories import differences

RECORDINGS = Path(__file__).parent.parent / "recordings"
STORIES = sorted(RECORDINGS.glob("ioctl/*.jsonl")) + sorted(RECORDINGS.glob("linux-*/ioctl/*.jsonl"))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: str(story.relative_to(RECORDINGS).with_suffix("")))
def test_every_ioctl_is_answered_as_recorded(story):
    assert not [*differences(story)][:5]


def test_there_are_stories():
    assert STORIES
