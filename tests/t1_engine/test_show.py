"""`nvdimmfs show`: the same layout as text, in colour, for programs, and as a picture."""

import errno
import json
import os
import pty
import re
import select
import subprocess

import mounting
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poke import DEBUG, Hands
from watchdog import WATCHDOG

from nvdimmfs.cli.drawing.bars import label_area_bar
from nvdimmfs.cli.drawing.mounted import drawing_of
from nvdimmfs.cli.drawing.scale import shares
from nvdimmfs.cli.drawing.text import draw_plain
from nvdimmfs.cli.main import main
from nvdimmfs.cli.show import LAYOUT
from nvdimmfs.formats.label import IndexBlock
from nvdimmfs.machine.layout import label_parts_of
from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.nd.label import LabelStorage, init_label_area
from nvdimmfs.units import GIB, KIB, MIB

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def hands():
    hands = Hands.on("512M!4G,256M!6G")
    hands.bring_up(0, "pfn", mode="pmem")
    hands.bring_up(1, "btt", sector_size=4096)
    return hands


def pretend_mount(hands, directory):
    """A folder that looks like a mounted machine to who reads the layout."""
    file = directory / LAYOUT
    file.parent.mkdir(parents=True)
    file.write_text(hands.debug("layout"))
    return str(directory)


def bars_of(layout):
    return drawing_of(layout, "machine").bars


def plain(layout, width=80):
    return draw_plain(drawing_of(layout, "machine"), width)


# Text


def test_two_namespaces_as_text(hands, tmp_path, capsys):
    assert main(["show", pretend_mount(hands, tmp_path)]) == 0
    assert capsys.readouterr().out == (
        "physical addresses\n"
        "  0x0-0x7fffffff              2 GiB  RAM\n"
        "                              2 GiB  for devices\n"
        "  0x100000000-0x11fffffff   512 MiB  region0\n"
        "  0x120000000-0x17fffffff  1536 MiB  RAM\n"
        "  0x180000000-0x18fffffff   256 MiB  region1\n"
        "\n"
        "namespace0.0 in region0: 512 MiB\n"
        "  pfn0.0 bound to nd_pmem; dev/pmem0; mode pmem; align 2 MiB;\n"
        "  struct pages: 8 MiB in pmem\n"
        "0x100000000                                                          0x11fffffff\n"
        "|i.M===========================================================================|\n"
        "   i   0x100000000  +0x0          8 KiB  info block\n"
        "   .   0x100002000  +0x2000    2040 KiB  alignment padding\n"
        "   M   0x100200000  +0x200000     8 MiB  memmap\n"
        "   =   0x100a00000  +0xa00000   502 MiB  data\n"
        "\n"
        "namespace1.0 in region1: 256 MiB\n"
        "  btt1.0 bound to nd_pmem; dev/pmem1s; sectors of 4096 bytes; no struct pages\n"
        "0x180000000                                                          0x18fffffff\n"
        "|xi=========================================================================mli|\n"
        "   x   0x180000000  +0x0             4 KiB  unused\n"
        "   i   0x180001000  +0x1000          4 KiB  info block\n"
        "   =   0x180002000  +0x2000     261860 KiB  data, about 256 MiB\n"
        "   m   0x18ffbb000  +0xffbb000     256 KiB  map\n"
        "   l   0x18fffb000  +0xfffb000      16 KiB  log\n"
        "   i   0x18ffff000  +0xffff000       4 KiB  info block copy\n"
    )


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal(width):
    hands = Hands.on("512M!4G,2050M!8G,4T!1T")
    hands.bring_up(0, "pfn", mode="ram")
    hands.bring_up(1, "dax", mode="pmem", align=GIB)
    hands.bring_up(2, "btt", sector_size=512)
    lines = plain(hands.layout(), width).splitlines()
    assert all(len(line) == width for line in lines if line.startswith("|"))
    assert all(len(line) <= max(width, 80) for line in lines)


def test_arenas_that_are_alike_are_drawn_once():
    hands = Hands.on("4T!1T")
    hands.bring_up(0, "btt", sector_size=512)
    whole, first, last = bars_of(hands.layout())
    assert [segment.name for segment in whole.segments] == ["unused", "arenas 0 to 6", "arena 7"]
    assert (first.title, last.title, first.detail, last.detail) == ("arenas 0 to 6", "arena 7", True, True)
    assert [segment.kind for segment in first.segments] == ["info", "data", "map", "log", "info_copy"]
    for bar in (whole, first, last):
        assert sum(segment.size for segment in bar.segments) == bar.size


def test_unused_parts_are_drawn_too():
    hands = Hands.on("512M!4G,3M!6G,256M!7G")
    hands.write("bus/nd/drivers/nd_region/unbind", "region2")
    used, idle, free = bars_of(hands.layout())
    assert [bar.segments[0].name for bar in (used, idle, free)] == ["data", "not in use", "no namespace"]
    assert idle.notes == ("bound to no driver",)
    assert free.title == "region2"


def test_system_ram_is_called_so():
    """Whole memory blocks are, and have struct pages in RAM, whichever driver has the namespace."""
    hands = Hands.on("512M!4G")
    hands.write(f"{DEBUG}/modules", "load kmem\n")
    hands.bring_up(0, "dax", mode="pmem")
    hands.write("bus/dax/drivers/device_dax/unbind", "dax0.0")
    before = bars_of(hands.layout())[0]
    hands.write("bus/dax/drivers/kmem/new_id", "dax0.0")
    hands.write("devices/system/memory/memory33/state", "online")
    taken = bars_of(hands.layout())[0]
    assert [segment.name for segment in taken.segments] == [
        "info block",
        "alignment padding",
        "data",
        "System RAM (kmem)",
    ]
    assert (taken.segments[-1].start, taken.segments[-1].size) == (0x108000000, 3 * 128 * MIB)
    assert (before.notes[-1], taken.notes[-1]) == ("no struct pages", "struct pages: 6 MiB in ram")
    hands.write("bus/dax/drivers/kmem/unbind", "dax0.0")
    hands.write("bus/nd/drivers/dax_pmem/unbind", "dax0.0")
    left = bars_of(hands.layout())[0]
    assert left.notes == ("bound to no driver", "struct pages: 6 MiB in ram")
    assert [segment.name for segment in left.segments] == ["not in use", "System RAM (kmem)"]


def test_a_machine_without_persistent_memory(tmp_path, capsys):
    assert main(["show", pretend_mount(Hands.on(""), tmp_path)]) == 0
    assert capsys.readouterr().out == "no persistent memory\n"


def label_area(*slots):
    """A DIMM's entry in the layout, with labels in some slots."""
    media = MemoryMedia(128 * KIB)
    init_label_area(media, 256)
    layout = LabelStorage(media).layout
    free = (1 << layout.nslot) - 1 & ~sum(1 << slot for slot in slots)
    index = IndexBlock.new(layout, which=0, seq=3, nslot=layout.nslot, free=free)
    media.write(0, index.to_bytes(layout.index_size))
    described = [
        {"kind": part.kind.value, "start": part.start, "size": part.size, "arena": None, "slots": part.slots}
        for part in label_parts_of(LabelStorage(media))
    ]
    return {"name": "nmem0", "version": "1.2", "size": 128 * KIB, "available_slots": 500, "parts": described}


def test_label_areas_have_their_slots_in_runs():
    bar = label_area_bar(label_area(0, 1, 2, 5))
    assert [(segment.name, segment.size) for segment in bar.segments] == [
        ("index block", 256),
        ("index block", 256),
        ("3 labels", 768),
        ("2 free slots", 512),
        ("1 label", 256),
        ("504 free slots", 504 * 256),
    ]
    assert bar.notes == ("labels 1.2", "room for 500 more")


def test_a_label_area_in_tatters_is_shown_without_the_order_of_its_slots():
    bar = label_area_bar(label_area(*range(0, 510, 2)))
    assert [segment.name for segment in bar.segments] == ["index block", "index block", "510 slots, some free"]


@settings(max_examples=200)
@given(st.lists(st.integers(1, 1 << 60), min_size=1, max_size=12), st.integers(80, 1000), st.integers(1, 5))
def test_shares_fill_the_width_and_nobody_gets_less_than_the_least(sizes, width, least):
    found = shares(sizes, width, least)
    assert sum(found) == width
    assert min(found) >= least
    fair = [size * width / sum(sizes) for size in sizes]
    for share, wanted in zip(found, fair, strict=True):
        assert abs(share - wanted) <= least * len(sizes) + 1


# On a terminal


def on_a_terminal(*arguments, **environment):
    """What a command writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*mounting.MACHINE, *arguments],
        stdout=theirs,
        env=mounting.environment() | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"} | environment,
    )
    os.close(theirs)
    written = b""
    while select.select([ours], [], [], WATCHDOG)[0]:
        try:
            piece = os.read(ours, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: the other end is closed
                raise
            break
        written += piece
    os.close(ours)
    assert process.wait(WATCHDOG) == 0
    return written.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colours_and_the_same_words(hands, tmp_path, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    directory = pretend_mount(hands, tmp_path)
    written = on_a_terminal("show", directory)
    assert "\x1b[30;42m" in written
    bare = re.sub(r"\x1b\[[0-9;]*m", "", written)
    expected = plain(hands.layout())
    row = re.compile(r"^ +(\S) +(0x.*)$", re.MULTILINE)
    assert row.findall(bare) == row.findall(expected)
    assert all(len(line) <= 80 for line in bare.splitlines())


@pytest.mark.parametrize(
    ("options", "environment"), [(("--no-color",), {}), ((), {"NO_COLOR": "1"}), ((), {"TERM": "dumb"})]
)
def test_colour_can_be_declined(hands, tmp_path, options, environment):
    written = on_a_terminal("show", pretend_mount(hands, tmp_path), *options, **environment)
    assert written == plain(hands.layout())


# For programs


def test_json_is_what_the_machine_says(hands, tmp_path, capsys):
    assert main(["show", pretend_mount(hands, tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == hands.layout()


# What cannot be drawn


def refusal(capsys, *arguments):
    status = main(["show", *arguments])
    done = capsys.readouterr()
    assert (done.out, done.err.count("\n")) == ("", 1)
    return status, done.err.removeprefix("nvdimmfs: ").strip()


def test_a_directory_without_a_machine_is_refused_in_one_line(tmp_path, capsys):
    directory = str(tmp_path)
    assert refusal(capsys, directory) == (1, f"{directory} is not a mount of nvdimmfs")
    assert refusal(capsys, f"{directory}/none") == (1, f"{directory}/none does not exist")
    file = tmp_path / "file"
    file.touch()
    assert refusal(capsys, str(file)) == (1, f"{file} is not a mount of nvdimmfs")


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"format": "nvdimmfs layout", "version": 2}'])
def test_another_version_is_one_line(tmp_path, capsys, text):
    file = tmp_path / LAYOUT
    file.parent.mkdir(parents=True)
    file.write_text(text)
    status, line = refusal(capsys, str(tmp_path))
    assert (status, "another version" in line) == (1, True)


def test_a_file_that_cannot_be_written_is_one_line(hands, tmp_path, capsys):
    target = tmp_path / "none" / "picture.svg"
    status, line = refusal(capsys, pretend_mount(hands, tmp_path / "machine"), "--svg", str(target))
    assert (status, line) == (1, f"{target}: No such file or directory")


def test_two_answers_at_once_are_too_many(tmp_path, capsys):
    assert refusal(capsys, str(tmp_path), "--json", "--svg", "x")[0] == 2
