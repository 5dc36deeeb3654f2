"""What a real kernel answered, 6.1 or a newer one, asked of the engine without a mount."""

from pathlib import Path

import pytest
from machines import FOLDERS

from nvdimmfs.lab.changes import SUFFIX, load, load_header
from nvdimmfs.lab.emulated import emulated
from nvdimmfs.lab.replay import Report, replay
from nvdimmfs.lab.stories import machine_of

RECORDINGS = Path(__file__).parent.parent / "recordings"


def makes_sense(story: Path) -> bool:
    """Whether a story can be replayed where no program can be run."""
    header = load_header(story)
    return bool(header.without) or not header.programs


STORIES = sorted(filter(makes_sense, [*RECORDINGS.rglob("*.recording"), *RECORDINGS.rglob(f"*{SUFFIX}")]))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: str(story.relative_to(RECORDINGS).with_suffix("")))
def test_every_answer_is_the_recorded_one(story: Path, tmp_path: Path) -> None:
    before = load_header(story).after
    if before:
        replay_story(story.with_stem(before), media=tmp_path)
    report = replay_story(story, media=tmp_path if before else None)
    assert not report.differences, "\n".join(str(difference) for difference in report.differences[:5])
    assert report.total > 0


def replay_story(story: Path, media: Path | None) -> Report:
    """Boot the story's machine, replay the story, and shut the machine down."""
    recording = load(story).without_programs()
    with emulated(machine_of(recording.header.machine, FOLDERS), media) as tree:
        return replay(recording, tree)
