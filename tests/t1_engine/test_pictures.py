"""Pictures of machines: `nvdimmfs machine show --svg` and `nvdimmfs show --svg`.

Each picture is parsed: no text may meet another or leave the picture, however hostile the names are.
"""

import itertools
import json
import re
from xml.etree import ElementTree

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poke import Hands

from nvdimmfs.cli.drawing import described, mounted
from nvdimmfs.cli.drawing.bars import Bar, Segment
from nvdimmfs.cli.drawing.lettering import Styles, fitted, width_of, wrapped
from nvdimmfs.cli.drawing.machine_text import machine_text
from nvdimmfs.cli.drawing.model import RAM, Bus, Entry, EntryKind, MachineDrawing, Module, Way, pieces_of, with_ram
from nvdimmfs.cli.drawing.palette import DARK_PAPER, DIMMS, PAPER, PARTS
from nvdimmfs.cli.drawing.palette import RAM as RAM_COLOUR
from nvdimmfs.cli.drawing.scale import height_of, stacked
from nvdimmfs.cli.drawing.svg import WIDTH, draw_svg
from nvdimmfs.cli.drawing.text import draw_plain
from nvdimmfs.cli.main import main
from nvdimmfs.core.clock import ClockMode
from nvdimmfs.machine.layout import layout_json
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine, machines
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.units import GIB, KIB, MIB, PIB

SVG = "{http://www.w3.org/2000/svg}"
STYLES = {style.value.name: style for style in Styles}

#: What a picture of a machine that comes with nvdimmfs may be high: a page, or a screen.
PAGE_HEIGHT = 700

NAMES = sorted(machines())

#: Text that would be markup, would end an attribute, is no XML at all, or turns the text after it around.
HOSTILE = '</text><script>alert("1")</script>&amp;\x00\x1b[31m\u202e\ud800\ufffe😀漢字é\u0301' + "w" * 80


def drawing_of_mounted(machine, title="machine"):
    return mounted.drawing_of(json.loads(layout_json(machine.memory, machine.nd_bus)), title)


def many_namespaces(directory, count):
    """A machine file: a set of two DIMMs with namespaces, each second of which is a btt, pfn or dax device."""
    dimm = '[[bus.dimm]]\nsize = "128G"\nlabel = { initialised = "1.2", size = "1M" }\n'
    lines = ["[[bus]]\n", dimm, dimm, '[[bus.range]]\ndimms = ["0x1", "0x2"]\n']
    for number in range(count):
        uuid = f"01234567-89ab-cdef-0123-{number:012x}"
        lines.append(f'[[bus.range.namespace]]\nuuid = "{uuid}"\nsize = "512M"\n')
    for number in range(0, count, 2):
        uuid, kind = f"11234567-89ab-cdef-0123-{number:012x}", ("pfn", "btt", "dax")[number // 2 % 3]
        lines.append(f'[[personality]]\nnamespace = "namespace0.{number}"\nkind = "{kind}"\nuuid = "{uuid}"\n')
    file = directory / f"{count}-namespaces.toml"
    file.write_text("".join(lines))
    return load_machine(file)


def personalities():
    hands = Hands.on("512M!4G,2050M!8G,4T!1T", ram=16 * GIB)
    hands.bring_up(0, "pfn", mode="pmem")
    hands.bring_up(1, "dax", mode="pmem", align=GIB)
    hands.bring_up(2, "btt", sector_size=512)
    return drawing_of_mounted(hands.machine)


def soft_reserved():
    return drawing_of_mounted(Machine.legacy("1G%5G-1+0xefffffff", 6 * GIB))


# What a picture must be


def box_of(element):
    """The largest rectangle that a text can cover: left, top, right, bottom."""
    style = STYLES[element.get("class")]
    x, y, size = float(element.get("x")), float(element.get("y")), style.value.size
    width = width_of(element.text or "", style)
    left = x - width if element.get("text-anchor") == "end" else x
    return left, y - 0.76 * size, left + width, y + 0.2 * size


def meet(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def checked(picture):
    """The parsed picture: everything is inside, and no text meets another."""
    root = ElementTree.fromstring(picture)
    height = float(root.get("height"))
    assert root.get("viewBox") == f"0 0 {WIDTH} {height:g}"
    boxes = [(element.text, box_of(element)) for element in root.iter(f"{SVG}text")]
    for text, (left, top, right, bottom) in boxes:
        assert left >= 0, text
        assert right <= WIDTH, text
        assert top >= 0, text
        assert bottom <= height, text
    by_top = sorted(boxes, key=lambda entry: entry[1][1])
    for index, (text, box) in enumerate(by_top):
        for other, other_box in itertools.takewhile(lambda entry: entry[1][1] < box[3], by_top[index + 1 :]):  # noqa: B023
            assert not meet(box, other_box), (text, other)
    for element in root.iter(f"{SVG}rect"):
        x, y, width, tall = (float(element.get(name)) for name in ("x", "y", "width", "height"))
        assert min(x, y, width, tall) >= 0
        assert x + width <= WIDTH + 0.1
        assert y + tall <= height + 0.1
    return root


def words(root):
    return [element.text for element in root.iter(f"{SVG}text")]


@pytest.fixture(params=NAMES)
def machine(request):
    return load_machine(request.param)


def test_the_picture_of_each_machine_fits_a_page_and_names_every_device(machine):
    root = checked(draw_svg(described.drawing_of(machine)))
    assert float(root.get("height")) <= PAGE_HEIGHT
    dimms = sum(len(bus.dimms) for bus in machine.buses)
    regions = sum(len(bus.ranges) for bus in machine.buses)
    assert {f"nmem{number}" for number in range(dimms)} <= set(words(root))
    assert {f"region{number}" for number in range(regions)} <= set(words(root))
    for bus in machine.buses:
        for range_ in bus.ranges:
            assert {f"{range_.start:#x}", f"{range_.end - 1:#x}"} <= set(words(root))


def test_the_picture_of_each_mounted_machine_fits_a_page_and_names_its_namespaces(machine):
    running = Machine.described(machine)
    drawing = drawing_of_mounted(running)
    root = checked(draw_svg(drawing))
    assert float(root.get("height")) <= PAGE_HEIGHT
    namespaces = {name for name in running.nd_bus.members if name.startswith("namespace")}
    assert {bar.title.partition(" ")[0] for bar in drawing.bars} & namespaces <= set(words(root))


def test_both_drawings_of_a_machine_have_the_same_ranges(machine):
    """The machine file's, and that of the machine which booted from it."""
    in_file, running = described.drawing_of(machine), drawing_of_mounted(Machine.described(machine))
    facts = [
        [(entry.name, entry.start, entry.size, entry.kind, entry.bus, entry.ways) for entry in drawing.entries]
        for drawing in (in_file, running)
    ]
    assert facts[0] == facts[1]
    assert [(bus.name, bus.provider) for bus in in_file.buses] == [(bus.name, bus.provider) for bus in running.buses]
    sizes = [
        [(module.name, module.size, module.pieces) for module in drawing.modules] for drawing in (in_file, running)
    ]
    assert sizes[0] == sizes[1]


def test_a_clock_that_is_not_the_hosts_is_drawn():
    drawing = described.drawing_of(MachineDescription(name="stepping", clock=ClockMode.STEPS))
    assert "clock steps" in machine_text(drawing).splitlines()
    assert "clock steps" in words(checked(draw_svg(drawing)))


def test_ranges_of_memmap_are_numbered_before_those_of_the_firmware(tmp_path):
    file = tmp_path / "both.toml"
    file.write_text(
        'ram = "8G"\nmemmap = "512M!4G"\n[[bus]]\n[[bus.dimm]]\nsize = "1G"\n[[bus.range]]\ndimms = ["0x1"]\n'
    )
    machine = load_machine(file)
    in_file, running = described.drawing_of(machine), drawing_of_mounted(Machine.described(machine))
    assert [(entry.name, entry.start) for entry in in_file.entries] == [
        (entry.name, entry.start) for entry in running.entries
    ]
    assert [bus.name for bus in in_file.buses] == [bus.name for bus in running.buses] == ["ndbus0", "ndbus1"]
    assert "  region1  " in machine_text(in_file)


@pytest.mark.parametrize("count", [1, 5, 12, 60])
def test_many_namespaces_are_counted_when_there_is_no_room_for_them(tmp_path, count):
    machine = many_namespaces(tmp_path, count)
    for drawing in (described.drawing_of(machine), drawing_of_mounted(Machine.described(machine))):
        root = checked(draw_svg(drawing))
        assert float(root.get("height")) <= PAGE_HEIGHT
        more = [int(text.split()[0]) for text in words(root) if "more namespaces" in text]
        named = [text for text in words(root) if re.fullmatch(r"namespace0\.[0-9]+|01234567-[0-9a-f-]+", text or "")]
        assert len(named) + sum(more) == count


def test_personalities_name_their_parts_and_where_the_memmap_is():
    root = checked(draw_svg(personalities()))
    for wanted in ("memmap 8 MiB", "info block 8 KiB", "memmap 32 MiB", "end truncation 2 MiB", "1006 GiB gap"):
        assert wanted in words(root)
    assert any("no memory behind it" in text for text in words(root))
    tooltips = [element.text for element in root.iter(f"{SVG}title")]
    assert "memmap: 8 MiB at 0x100200000" in tooltips


def test_struct_pages_in_ram_are_said_of_the_ram():
    hands = Hands.on("512M!4G")
    hands.bring_up(0, "pfn", mode="ram")
    root = checked(draw_svg(drawing_of_mounted(hands.machine)))
    assert any(text.startswith("8 MiB hold struct pages") for text in words(root))


def test_soft_reserved_memory_is_drawn_with_its_dax_devices():
    drawing = soft_reserved()
    root = checked(draw_svg(drawing))
    assert {"hmem.0", "dax0.0", "3-4 GiB"} <= set(words(root))
    assert "hmem.0" in draw_plain(drawing)


def test_a_set_of_thirty_two_dimms():
    names = [f"nmem{number}" for number in range(32)]
    region = Entry(
        "region0", 4 * GIB, 32 * MIB, EntryKind.PERSISTENT, "ndbus0", tuple(Way(name, 0, MIB) for name in names)
    )
    dimms = [Module(name, "", "ndbus0", 128 * GIB, pieces_of(name, 128 * GIB, [region]), 128 * KIB) for name in names]
    drawing = MachineDrawing("wide", "", (Bus("ndbus0", "ACPI.NFIT"),), tuple(dimms), (region,))
    root = checked(draw_svg(drawing))
    assert set(names) <= set(words(root))
    assert "32 ways: nmem0-31" in words(root)


# Names


def test_hostile_names_are_text_and_nothing_else():
    region = Entry(
        "region0",
        0,
        GIB,
        EntryKind.PERSISTENT,
        HOSTILE,
        (Way(HOSTILE, 0, GIB),),
        (HOSTILE,),
        (Bar(HOSTILE, (HOSTILE,), 0, GIB, (Segment(HOSTILE, HOSTILE, 0, GIB),)),),
    )
    dimm = Module(HOSTILE, HOSTILE, HOSTILE, GIB, pieces_of(HOSTILE, GIB, [region]), KIB, HOSTILE, 0.5, (HOSTILE,))
    drawing = MachineDrawing(HOSTILE, HOSTILE, (Bus(HOSTILE, HOSTILE),), (dimm,), (region,))
    picture = draw_svg(drawing)
    root = checked(picture)
    assert not list(root.iter(f"{SVG}script"))
    assert all(letter.isprintable() or letter in "\n " for letter in picture)


def test_a_machine_file_with_hostile_names(tmp_path, capsys):
    name = json.dumps("</text><a href='x'>&" + "😀" * 20, ensure_ascii=False)
    file = tmp_path / "hostile.toml"
    file.write_text(
        f'description = {name}\n[[bus]]\n[[bus.dimm]]\nname = {name}\nsize = "1G"\nlabel = {{ initialised = "1.1" }}\n'
        f'[[bus.range]]\ndimms = [{name}]\n[[bus.range.namespace]]\nsize = "64M"\nalt_name = "<&>ééé"\n'
        'uuid = "01234567-89ab-cdef-0123-456789abcdef"\n'
    )
    assert main(["machine", "show", str(file), "--svg"]) == 0
    checked(capsys.readouterr().out)
    assert main(["machine", "show", str(file)]) == 0
    assert "<&>ééé" in capsys.readouterr().out


# Accessibility


def test_a_picture_needs_nothing_from_elsewhere_and_follows_light_and_dark(machine):
    picture = draw_svg(described.drawing_of(machine))
    assert "prefers-color-scheme: dark" in picture
    assert re.findall(r"https?://[^\"<]*", picture) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"@import|@font-face|url\(|<script|<image|href|foreignObject|\son\w+=", picture)


def test_a_picture_says_in_words_what_it_shows(machine):
    root = ElementTree.fromstring(draw_svg(described.drawing_of(machine)))
    assert root.get("role") == "img"
    ids = {element.get("id"): element for element in root if element.get("id")}
    assert set(root.get("aria-labelledby").split()) == set(ids)
    assert ids["picture-title"].text == f"Memory of {machine.name}"
    for bus in machine.buses:
        for range_ in bus.ranges:
            assert f"{range_.start:#x}-{range_.end - 1:#x}" in ids["picture-description"].text


def test_a_picture_is_the_same_each_time(machine):
    assert draw_svg(described.drawing_of(machine)) == draw_svg(described.drawing_of(machine))


def luminance(colour):
    """Relative luminance (WCAG 2.2)."""
    parts = (int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_have_contrast_on_light_and_on_dark():
    for colour in (*DIMMS, RAM_COLOUR):
        assert contrast(colour, "#ffffff") >= 4.5
    for colour in {*DIMMS, RAM_COLOUR, *PARTS.values()}:
        assert contrast(colour, PAPER) >= 3, colour
        assert contrast(colour, DARK_PAPER) >= 3, colour


# The command line


def test_machine_show_writes_a_picture_into_a_file_or_on_standard_output(tmp_path, capsys):
    file = tmp_path / "picture.svg"
    assert main(["machine", "show", "nfit_test", "--svg", str(file)]) == 0
    assert capsys.readouterr().out == ""
    for arguments in (["--svg"], ["--svg", "-"]):
        assert main(["machine", "show", "nfit_test", *arguments]) == 0
        assert capsys.readouterr().out == file.read_text()


def test_machine_show_gives_one_answer(capsys):
    assert main(["machine", "show", "nfit_test", "--svg", "--json"]) == 2
    assert "cannot be combined" in capsys.readouterr().err


# Lengths


def test_a_range_of_a_page_and_one_of_a_petabyte_stand_side_by_side():
    assert 10 < height_of(4 * KIB) < height_of(GIB) < height_of(PIB) < 10 * height_of(4 * KIB)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.floats(1, 100), st.floats(-50, 1000)), min_size=1, max_size=20))
def test_stacked_boxes_never_overlap_and_keep_their_order(boxes):
    heights, wanted = [height for height, _ in boxes], sorted(centre for _, centre in boxes)
    places = stacked(heights, wanted, 10, 600, 4)
    assert places[0] >= 10 - 1e-6
    for (place, height), following in zip(zip(places, heights, strict=True), places[1:], strict=False):
        assert following >= place + height + 4 - 1e-6
    if sum(heights) + 4 * (len(heights) - 1) <= 590:
        assert places[-1] + heights[-1] <= 600 + 1e-6


@given(st.text(max_size=60), st.sampled_from(Styles), st.integers(30, 400))
def test_fitted_text_fits(text, style, room):
    assert width_of(fitted(text, style, room), style) <= room
    assert all(width_of(line, style) <= room for line in wrapped(text.split(), style, room, most=2))
    assert len(wrapped(text.split(), style, room, most=2)) <= 2


@st.composite
def drawings(draw):
    """Machines such as no platform would build."""
    dimms = [f"nmem{number}" for number in range(draw(st.integers(0, 9)))]
    position = draw(st.sampled_from([4 * GIB, 1 << 51]))
    entries = []
    for number in range(draw(st.integers(1, 7))):
        position += draw(st.sampled_from([0, 4 * KIB, GIB, 1 << 45]))
        size = draw(st.integers(1, 1 << 40)) * 4 * KIB
        names = draw(st.lists(st.sampled_from(dimms), unique=True)) if dimms else []
        ways = tuple(Way(name, draw(st.integers(0, 1 << 30)), max(1, size // len(names))) for name in names)
        notes = tuple(
            draw(st.lists(st.sampled_from(["read-only", "pmem", "namespace0.0: pfn, memmap in ram"]), max_size=9))
        )
        bars = draw(st.lists(some_bars(position, size), max_size=5))
        absent = draw(st.sampled_from([0, 0, size // 2, size]))
        from_ram = not ways and draw(st.booleans())
        kind = EntryKind.PERSISTENT
        entries.append(
            Entry(f"region{number}", position, size, kind, "ndbus0", ways, notes, tuple(bars), absent, from_ram)
        )
        position += size
    mapped = with_ram([(4096, 2 * GIB)], entries)
    modules = [Module(name, "alias", "ndbus0", 1 << 42, pieces_of(name, 1 << 42, mapped), 128 * KIB) for name in dimms]
    ram = Module(RAM, "", "", 4 * GIB, pieces_of(RAM, 4 * GIB, mapped))
    return MachineDrawing("machine", "", (Bus("ndbus0", "ACPI.NFIT"),), (ram, *modules), mapped)


@st.composite
def some_bars(draw, start, size):
    kinds = draw(st.lists(st.sampled_from(["info", "memmap", "data", "new"]), min_size=1, max_size=9))
    segments = tuple(Segment(kind, "alignment padding", start, max(1, size // len(kinds))) for kind in kinds)
    notes = tuple(draw(st.lists(st.sampled_from(["mode pmem", "struct pages: 16384 MiB in pmem"]), max_size=5)))
    return Bar("namespace10.12 in region0", notes, start, size, segments, draw(st.booleans()))


@settings(max_examples=60)
@given(drawings())
def test_texts_never_meet_whatever_is_drawn(drawing):
    checked(draw_svg(drawing))
    assert machine_text(drawing)
    assert draw_plain(drawing)


def test_a_machine_without_persistent_memory():
    drawing = described.drawing_of(attrs.evolve(MachineDescription(), name="plain"))
    checked(draw_svg(drawing))
    assert [entry.name for entry in drawing.entries] == [RAM, RAM]
