"""Recordings that are kept as changes to the answers of another kernel."""

import attrs
import pytest

from nvdimmfs.lab import changes
from nvdimmfs.lab.recording import Header, Recording, Step
from nvdimmfs.lab.recording_text import dumps

WRITE = {"op": "write", "path": "bus/nd/drivers/nd_pmem/bind", "data": "namespace0.0"}
DUMP = {"op": "dump", "path": "devices/x"}
TOP = {"path": "devices/x", "mode": "drwxr-xr-x"}
OLD = {"path": "devices/x/old", "mode": "-r--r--r--", "size": 4096, "data": "1\n"}
NEW = {"path": "devices/x/new", "mode": "-r--r--r--", "size": 4096, "data": "2\n"}
KEPT = {"path": "devices/x/kept", "mode": "-r--r--r--", "size": 4096, "data": "3\n"}

BASE = Recording(
    Header({"memmap": "512M!4G", "memory": "4G"}, "6.1.0"),
    (Step(WRITE, {"wrote": 12}), Step(DUMP, {"rows": [TOP, KEPT, OLD]}), Step(WRITE, {"errno": "EBUSY"})),
)


@pytest.fixture
def folder(tmp_path):
    """A folder with one story."""
    (tmp_path / "story.recording").write_text(dumps(BASE))
    return tmp_path


def story_of(*steps):
    return Recording(changes.other_header(BASE.header, "6.12.1-amd64", "6.12"), steps)


OTHER = story_of(
    Step(WRITE, {"errno": "ENODEV"}),
    Step(DUMP, {"rows": [{**TOP, "mode": "drwx------"}, KEPT, NEW]}),
    Step(WRITE, {"errno": "EBUSY"}, unstable=True),
)


def test_changes_give_back_what_the_other_kernel_answered(folder):
    path = folder / "story.changes"
    path.write_text(changes.dumps("story", BASE, OTHER))
    assert changes.load(path) == OTHER
    assert changes.load_header(path) == OTHER.header
    assert OTHER.header.machine == {"memmap": "512M!4G", "memory": "4G", "kernel": "6.12"}


def test_only_what_differs_is_kept(folder):
    text = changes.dumps("story", BASE, OTHER)
    assert "kept" not in text
    same = story_of(*BASE.steps)
    assert len(changes.dumps("story", BASE, same).splitlines()) == 1


def test_a_story_may_end_where_a_race_went_another_way(folder):
    shorter = story_of(*OTHER.steps[:2])
    path = folder / "story.changes"
    path.write_text(changes.dumps("story", BASE, shorter))
    assert path.read_text().splitlines()[-1] == '[3,{"ends":true}]'
    assert changes.load(path) == shorter


def test_a_device_number_is_no_difference():
    recorded, asked = (
        attrs.evolve(BASE, steps=(Step(DUMP, {"rows": [{**OLD, "path": "devices/x/dev", "data": number}]}),))
        for number in ("245:0\n", "244:0\n")
    )
    assert len(changes.dumps("story", recorded, story_of(*asked.steps)).splitlines()) == 1


def test_a_recording_loads_as_it_is(folder):
    assert changes.load(folder / "story.recording") == BASE
    assert changes.load_header(folder / "story.recording") == BASE.header


def test_answers_to_other_questions_are_no_changes():
    asked = attrs.evolve(BASE.steps[0], call={**WRITE, "data": "namespace1.0"})
    with pytest.raises(ValueError, match="not the questions of story"):
        changes.dumps("story", BASE, story_of(asked, *BASE.steps[1:]))


def test_changes_to_a_step_that_is_not_there_are_refused(folder):
    path = folder / "story.changes"
    path.write_text(changes.dumps("story", BASE, OTHER) + '[9,{"unstable":true}]\n')
    with pytest.raises(ValueError, match="story has no step 9"):
        changes.load(path)


def test_another_file_is_refused(folder):
    path = folder / "story.changes"
    path.write_text('{"recording":1}\n')
    with pytest.raises(ValueError, match="changes of format 1"):
        changes.load(path)


def test_changes_may_be_in_a_folder_below_that_of_the_recording(folder):
    path = folder / "linux-6.12" / "story.changes"
    path.parent.mkdir()
    path.write_text(changes.dumps("story", BASE, OTHER))
    assert changes.load(path) == OTHER


def test_changes_without_their_recording_are_refused(tmp_path):
    path = tmp_path / "story.changes"
    path.write_text(changes.dumps("absent/story", BASE, OTHER))
    with pytest.raises(ValueError, match=r"there is no absent/story\.recording"):
        changes.load(path)
