"""Recordings that run programs: how they are kept, and which answers count as the same."""

import json

import attrs
import pytest

from nvdimmfs.lab.comparing import compared
from nvdimmfs.lab.recording import Header, Recording, Step
from nvdimmfs.lab.recording_text import dumps, loads
from nvdimmfs.lab.replay import replay

CALL = {"op": "run", "argv": ["ndctl", "list", "-R"]}
HEADER = Header({"machine": "qemu-nfit"}, "6.1", programs={"ndctl": "76.1"}, without="qemu-nfit-labelled")
DRAWN = "c0ffee00-aaaa-bbbb-cccc-000000000000"
DRAWN_TOO = "d00d0000-1234-bbbb-cccc-000000000000"
CHOSEN = "00000001-aaaa-bbbb-cccc-000000000000"


@attrs.frozen
class Printing:
    """A tree on which every program prints the same."""

    status: int
    output: str

    def ask(self, calls, settle):
        return ({"rc": self.status, "stdout": self.output, "stderr": "words that are not compared"} for _ in calls)


def recorded(status, output):
    return Recording(HEADER, (Step(CALL, {"rc": status, "stdout": output, "stderr": "recorded words"}),))


def agree(kernel, here):
    return not replay(recorded(*kernel), Printing(*here)).differences


def test_a_program_survives_the_text():
    story = recorded(237, '[{"dev":"region0"}]\n')
    assert loads(dumps(story)) == story


@pytest.mark.parametrize(
    "answer", [{"errno": "EFAULT"}, {"result": 0}, {"result": -5}, {"result": 0, "hex": "ab" * 70}], ids=str
)
@pytest.mark.parametrize("how", [{}, {"open": "r"}, {"value": 1 << 63}, {"open": "rw", "value": 0}], ids=str)
@pytest.mark.parametrize("unstable", [False, True])
def test_an_ioctl_survives_the_text(how, answer, unstable):
    call = {"op": "ioctl", "dev": "nmem0", "request": 0xC0004E04, "hex": "00" * 12, **how}
    story = Recording(HEADER, (Step(call, answer, unstable),))
    assert loads(dumps(story)) == story


def test_the_number_of_a_disk_is_not_compared():
    call = {"op": "ioctl", "dev": "pmem0", "request": 0x80081280, "hex": "00" * 8}
    step = Step(call, {"result": 0, "hex": "0900000000000000"})
    assert all(both.agrees for both in compared(step, {"result": 0, "hex": "0700000000000000"}))
    assert not all(both.agrees for both in compared(step, {"errno": "EFAULT"}))


@pytest.mark.parametrize(
    ("kernel", "here"),
    [
        ("", ""),
        ("plain words\n", "plain words\n"),
        (json.dumps({"uuid": DRAWN}), json.dumps({"uuid": DRAWN_TOO})),
        (json.dumps([{"uuid": DRAWN}, {"uuid": CHOSEN}]), json.dumps([{"uuid": DRAWN_TOO}, {"uuid": CHOSEN}])),
    ],
)
def test_output_is_the_same_whatever_its_random_uuids(kernel, here):
    assert agree((0, kernel), (0, here))


@pytest.mark.parametrize(
    ("kernel", "here"),
    [
        ((0, "x"), (1, "x")),
        ((0, ""), (0, "x")),
        ((0, '[{"a":1}]'), (0, '[{"a":1},{"a":1}]')),
        ((0, '[{"a":1},{"a":4}]'), (0, '[{"a":4},{"a":1}]')),
        ((0, json.dumps({"uuid": CHOSEN})), (0, json.dumps({"uuid": DRAWN}))),
    ],
)
def test_other_output_is_a_difference(kernel, here):
    assert not agree(kernel, here)


def test_a_story_without_its_programs_is_told_on_another_machine():
    write = Step({"op": "read", "path": "x"}, {"data": "y"})
    story = Recording(HEADER, (*recorded(0, "").steps, write)).without_programs()
    assert story.steps == (write,)
    assert story.header.machine == {"machine": "qemu-nfit-labelled"}


def test_a_story_about_programs_makes_no_sense_without_them():
    with pytest.raises(ValueError, match="a story about programs"):
        Recording(Header({}, "6.1", programs={"ndctl": "76.1"}), ()).without_programs()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"recording": 1}',
        '{"recording": 1, "machine": {"memmap": ""}, "kernel": "6.1", "skips": 3}\n["dump", "x", {"skip": 0}]',
        '{"recording": 1, "machine": {"memmap": ""}, "kernel": "6.1"}\n[]',
        '{"recording": 1, "machine": {"memmap": ""}, "kernel": "6.1"}\n["ls", "x", {"+": []}]',
        '{"recording": 1, "machine": {"memmap": ""}, "kernel": "6.1"}\n["pread", "pmem0", 0, 1, "00*99999999999999"]',
        '{"recording": 1, "machine": {"memmap": ""}, "kernel": "6.1"}\n' + "[" * 100_000,
        '{"recording": 1, "machine": {"memmap": ""}, "kernel": "6.1"}\n["raed", "x"]',
        '{"recording": 1, "machine": {"memmap": ""}, "kernel": "6.1"}\n["write", "x", "\\u20ac", 1]',
        '{"recording": 1, "machine": {"memmap": ""}, "kernel": "6.1"}\n["sleep", -1]',
        '{"recording": 1, "machine": {"memmap": ""}, "kernel": "6.1"}\n["pwrite", "pmem0", 0, "zz", 1]',
    ],
    ids=range(13),
)
def test_a_text_that_is_no_recording_is_refused_with_the_line(text):
    with pytest.raises(ValueError, match=r"^line \d is not one of a recording"):
        loads(text)


def test_the_address_of_a_buffer_is_not_compared():
    """The test platform has a region in a buffer of the kernel, which is elsewhere after each boot."""
    call = {"op": "read", "path": "bus/nd/devices/region3/resource"}

    def differences(kernel):
        step = Step(call, {"data": kernel})
        return [both for both in compared(step, {"data": "0x142000000\n"}) if not both.agrees]

    assert not differences("0xff8e32b4ce916000\n")
    assert differences("0x180000000\n")


@pytest.mark.parametrize(("counts", "is_compared"), [("ffffffff01000000", False), ("ffffffff02000000", True)])
def test_bytes_of_struct_pages_are_not_compared(counts, is_compared):
    """A pfn device in mode ram has bytes on its disk that were the memmap of an earlier one in mode pmem."""
    page = bytes.fromhex("002000c0ffff2700b0fc7151dab134ff") + bytes(32) + bytes.fromhex(counts) + bytes(8)
    step = Step({"op": "pread", "dev": "pmem0", "offset": 0, "length": 513}, {"hex": (page * 9)[:513].hex()})
    assert len([*compared(step, {"hex": "00" * 513})]) == is_compared


def test_a_row_with_the_address_of_a_buffer_is_not_compared():
    row = {"path": "region3/resource", "mode": "-r--------", "size": 4096}
    step = Step({"op": "dump", "path": "region3"}, {"rows": [{**row, "data": "0xff8e32b4ce916000\n"}]})
    assert not list(compared(step, {"rows": [{**row, "data": "0x142000000\n"}]}))
