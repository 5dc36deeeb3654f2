"""ioctls as a real Linux 6.1 answered them, asked of the engine."""

from pathlib import Path

import pytest
from ioctl_stories import differences

STORIES = sorted((Path(__file__).parent.parent / "recordings" / "ioctl").glob("*.jsonl"))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.stem)
def test_every_ioctl_is_answered_as_recorded(story):
    assert not [*differences(story)][:5]


def test_there_are_stories():
    assert STORIES
