"""Recordings that the lab makes, and how far replays agree with them."""

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nvdimmfs.lab.agreement import Replayed, as_json, as_junit, by_kind, by_subject, summary
from nvdimmfs.lab.comparing import Comparison
from nvdimmfs.lab.record import recorded_steps
from nvdimmfs.lab.recording import Header, Recording, Step
from nvdimmfs.lab.recording_text import dumps, loads
from nvdimmfs.lab.replay import Difference, Report
from nvdimmfs.lab.stories import folders_of, machine_of
from nvdimmfs.units import GIB

READ = {"op": "read", "path": "bus/nd/devices/region0/size"}
DUMP = {"op": "dump", "path": "a"}


def row(path, data):
    return {"path": path, "mode": "-r--r--r--", "size": 4096, "data": data}


def test_the_same_answers_of_each_run_are_stable():
    answer = {"data": "1\n"}
    assert recorded_steps([READ], [[answer], [answer]]) == (Step(READ, answer),)


def test_another_answer_of_another_run_is_unstable():
    (step,) = recorded_steps([READ], [[{"data": "1\n"}], [{"data": "1\n"}], [{"errno": "EBUSY"}]])
    assert step == Step(READ, {"data": "1\n"}, unstable=True)


def test_a_random_uuid_is_not_unstable():
    uuid = "c0ffee00-aaaa-bbbb-cccc-00000000000{}\n"
    (step,) = recorded_steps([READ], [[{"data": uuid.format(0)}], [{"data": uuid.format(1)}]])
    assert not step.unstable


def test_rows_of_a_dump_are_unstable_one_by_one():
    first = {"rows": [{"path": "a", "mode": "drwxr-xr-x"}, row("a/b", "1"), row("a/c", "1"), row("a/d", "1")]}
    second = {"rows": [{"path": "a", "mode": "drwxr-xr-x"}, row("a/b", "1"), row("a/c", "2"), row("a/e", "1")]}
    steps = recorded_steps([DUMP], [[first], [second]])
    marks = {each["path"]: each.get("unstable", False) for each in steps[0].answer["rows"]}
    assert marks == {"a": False, "a/b": False, "a/c": True, "a/d": True, "a/e": True}
    story = Recording(Header({"machine": "e820"}, "6.1"), steps)
    assert loads(dumps(story)) == story


def test_a_dump_that_fails_in_one_run_is_unstable():
    (step,) = recorded_steps([DUMP], [[{"rows": [row("a", "1")]}], [{"errno": "ENOENT"}]])
    assert step.unstable


def test_addresses_of_modules_are_left_out():
    question = {"op": "read", "path": "../proc/modules"}
    (step,) = recorded_steps([question], [[{"data": "nfit 73728 0 - Live 0xffffffffc043a000 (OE)\n"}]])
    assert step.answer == {"data": "nfit 73728 0 - Live 0x0000000000000000 (OE)\n"}


def test_only_memory_is_kept_of_iomem():
    text = "00000000-00000fff : Reserved\n100000000-1ffffffff : System RAM\n"
    (step,) = recorded_steps([{"op": "read", "path": "../proc/iomem"}], [[{"data": text}]])
    assert step.answer == {"data": "100000000-1ffffffff : System RAM\n"}


def test_uevents_are_kept_without_what_chance_gives():
    """Those of one call in any order, without device numbers, and without what guests alone have."""
    question = {"op": "uevents"}
    disk = ["add", "/devices/a/block/pmem0", "block", "MAJOR=259", "MINOR={}", "DEVNAME=pmem0", "DISKSEQ={}"]
    info = ["add", "/devices/virtual/bdi/259:{}", "bdi"]

    def numbered(number, *events):
        return {"events": [[word.format(number) for word in event] for event in events]}

    def stable(first, second):
        (step,) = recorded_steps([question], [[first], [second]])
        story = Recording(Header({"machine": "e820"}, "6.1"), (step,))
        assert loads(dumps(story)) == story
        return not step.unstable

    assert stable(numbered(0, info, disk), numbered(1, disk, info))
    assert stable(numbered(0, disk), numbered(0, disk, ["add", "/module/ext4", "module"]))
    assert not stable(numbered(0, info, disk), numbered(0, disk))
    assert not stable(numbered(0, disk), numbered(0, ["remove", *disk[1:]]))


def replayed():
    right = Comparison("read x/size", "size", {"data": "1"}, {"data": "1"})
    wrong = Comparison("write x/size '\\x1b'", "size", {"errno": "EBUSY"}, {"wrote": 1})
    gone = Comparison("dump x/mode", "mode", {"path": "x/mode", "mode": "-r--r--r--", "data": "ram"}, None)
    every = [right, right, wrong, gone]
    asked = Counter((each.kind, each.subject) for each in every)
    report = Report(asked, tuple(Difference(number, each) for number, each in enumerate(every, 1) if not each.agrees))
    return [Replayed("one", report), Replayed("two", None, "a story about programs")]


def test_agreement_is_counted_by_kind_and_by_attribute():
    assert by_kind(replayed()) == {"dump": (0, 1), "read": (2, 2), "write refused": (0, 1)}
    assert by_subject(replayed()) == {"mode": (0, 1), "size": (2, 3)}


def test_a_summary_names_what_differs():
    assert list(summary(replayed())) == [
        "kind dump: 0/1 agree",
        "kind write refused: 0/1 agree",
        "attribute mode: 0/1 agree",
        "attribute size: 2/3 agree",
        "one: 2/4 agree",
        "two: not replayed: a story about programs",
        "all: 2/4 agree",
    ]


def test_json_has_each_difference():
    first, second = as_json(replayed())["recordings"]
    assert (first["same"], first["total"], len(first["differences"])) == (2, 4, 2)
    assert first["differences"][1] | {"expected": None} == {
        "step": 4,
        "question": "dump x/mode",
        "expected": None,
        "here": None,
    }
    assert second == {"recording": "two", "reason": "a story about programs"}


def test_junit_has_a_case_for_each_recording():
    suite = ElementTree.fromstring(as_junit(replayed()))
    one, two = suite
    assert suite.get("tests") == "2"
    assert one.find("failure").get("message") == "2/4 agree"
    assert "step 3: write" in one.find("failure").text
    assert "\x1b" not in one.find("failure").text
    assert two.find("skipped").get("message") == "a story about programs"


@pytest.mark.parametrize(
    ("machine", "ram", "ranges"),
    [
        ({"memmap": "512M!4G", "memory": "8G"}, 8 * GIB, []),
        ({"machine": "qemu-nfit"}, 4 * GIB, [4, 2]),
        ({"machine": "qemu-nfit", "regions": "reversed"}, 4 * GIB, [2, 4]),
        ({"machine": "qemu-nodes"}, 4 * GIB, [2]),
    ],
)
def test_the_machine_of_a_header(machine, ram, ranges):
    recording = Path(__file__).parent.parent / "recordings/nfit/nodes.recording"
    found = machine_of(machine, folders_of(recording))
    assert found.ram == ram
    assert [range_.range_index for range_ in found.ranges] == ranges


def test_the_machine_of_changes_is_beside_their_recording():
    recordings = Path(__file__).parent.parent / "recordings"
    folders = folders_of(recordings / "linux-6.12/nfit/nodes.changes")
    assert machine_of({"machine": "qemu-nodes"}, folders).ram == 4 * GIB
