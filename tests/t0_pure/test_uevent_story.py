"""Stories of uevents: their text, and the merging of several takes."""

import attrs
import pytest
from uevent_story import Event, Step, Story, dumps, loads, merge

DISK = Event("add", "/devices/x/block/pmem0", "block", ("MAJOR=259", "MINOR=0", "DEVNAME=pmem0", "DISKSEQ=3"))
BDI = Event("add", "/devices/virtual/bdi/259:0", "bdi")
SEED = Event("add", "/devices/x/pfn0.1", "nd", ("MODALIAS=nd:t4",))
BOUND = Event("bind", "/devices/x/pfn0.1", "nd")


def telling(*events, answer=6):
    steps = (Step(("write", "bus/nd/drivers/nd_pmem/bind", "pfn0.0"), answer, events), Step(("load", "nd_e820"), 0))
    return Story({"memmap": "512M!4G"}, "6.1", "a bind", steps)


def test_the_text_of_a_story_is_the_story():
    story = merge([telling(SEED, BDI), telling(BDI, SEED), telling(BDI, SEED)])
    assert not story.steps[0].ordered
    assert loads(dumps(story)) == story


def test_another_format_is_refused():
    with pytest.raises(ValueError, match="format 1 were expected"):
        loads('{"recording": 1}\n')


def test_numbers_that_the_host_assigns_are_not_compared():
    other = Event("add", DISK.devpath, "block", ("MAJOR=7", "MINOR=31", "DEVNAME=pmem0", "DISKSEQ=44"))
    assert DISK.portable == other.portable != SEED.portable
    assert BDI.portable == attrs.evolve(BDI, devpath="/devices/virtual/bdi/7:31").portable
    assert merge([telling(DISK, BDI), telling(other, BDI), telling(DISK, BDI)]).steps[0].ordered


def test_the_usual_names_win():
    late = attrs.evolve(SEED, devpath="/devices/x/pfn0.0")
    story = merge([telling(late), telling(SEED), telling(SEED), telling(SEED)])
    assert story == telling(SEED)


def test_one_devices_own_events_never_change_places():
    with pytest.raises(ValueError, match="only 2 of 3 takes are alike"):
        merge([telling(SEED, BOUND), telling(BOUND, SEED), telling(SEED, BOUND)])


def test_answers_must_agree():
    with pytest.raises(ValueError, match="only 2 of 3 takes are alike"):
        merge([telling(SEED), telling(SEED, answer="EBUSY"), telling(SEED)])
