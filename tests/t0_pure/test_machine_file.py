"""Machine files: their keys, their defaults, and the error for each mistake."""

from __future__ import annotations

import enum
import io
from contextlib import redirect_stderr, redirect_stdout
from typing import get_args, get_origin

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.cli.main import main
from nvdimmfs.machine_file.defaults import abridged, completed
from nvdimmfs.machine_file.files import MachineFileError, load_machine, machines, parse_machine
from nvdimmfs.machine_file.interleave import interleave_set
from nvdimmfs.machine_file.model import (
    CLASSES,
    DimmDescription,
    MachineDescription,
    MappingDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.reader import key_of, read_machine
from nvdimmfs.machine_file.schema import documentation
from nvdimmfs.machine_file.values import number_kind, parse_size, show_size
from nvdimmfs.machine_file.writer import machine_text
from nvdimmfs.testing.strategies import machines as generated_machines

MIB = 1 << 20
GIB = 1 << 30

TWO_DIMMS = """
[[bus]]

[[bus.dimm]]
name = "A"
size = "1G"
label = { initialised = "1.1" }

[[bus.dimm]]
name = "B"
size = "1G"
label = { initialised = "1.1" }
"""

UUID = "01234567-89ab-cdef-0123-456789abcdef"


def machine(text):
    return parse_machine(text, "test.toml")


# Keys of a file


def test_a_machine_with_one_dimm_is_short():
    text = '[[bus]]\n[[bus.dimm]]\nsize = "16G"\n[[bus.range]]\ndimms = ["0x1"]\n'
    (bus,) = machine(text).buses
    assert bus.parent == "devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00"
    assert bus.dimms == (DimmDescription(name="0x1", handle=1, size=16 * GIB, serial=0x56341200, dsm_mask=0x70),)
    assert bus.ranges == (
        RangeDescription(
            start=6 * GIB,
            size=16 * GIB,
            range_index=1,
            numa_node=0,
            target_node=0,
            mappings=(MappingDescription("0x1", dpa=0, size=16 * GIB, position=0, region_offset=0),),
        ),
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("512M", 512 * MIB),
        ("512m", 512 * MIB),
        ("0x1000", 4096),
        ("0X1fK", 31 << 10),
        ("1E", 1 << 60),
    ],
)
def test_sizes_are_numbers_with_a_suffix(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "12Q", "-1", "1.5G", "010", "1 G", "1GiB", "0x", "٣", "1\n", "9" * 5000])
def test_other_texts_are_no_sizes(text):
    assert parse_size(text) is None


@given(st.integers(1, (1 << 64) - 1))
def test_a_size_that_is_shown_reads_as_itself(size):
    assert parse_size(show_size(size).strip('"')) == size


def test_sizes_are_shown_with_the_largest_suffix_that_divides_them():
    assert [show_size(size) for size in (520, 4096, 254 * MIB, 3 << 50, 1 << 63)] == [
        "520",
        '"4K"',
        '"254M"',
        '"3P"',
        '"8E"',
    ]


def test_a_range_takes_what_is_left_of_its_dimms():
    (bus,) = machine(
        TWO_DIMMS + '[[bus.range]]\nsize = "256M"\ndimms = ["A"]\n[[bus.range]]\ndimms = ["A", "B"]\n'
    ).buses
    first, second = bus.ranges
    assert [(mapping.dpa, mapping.size) for mapping in first.mappings] == [(0, 256 * MIB)]
    assert [(mapping.dpa, mapping.size) for mapping in second.mappings] == [(256 * MIB, 768 * MIB), (0, 768 * MIB)]
    assert (second.size, second.range_index) == (1536 * MIB, 2)


def test_a_range_follows_ram_legacy_ranges_and_other_ranges():
    text = (
        'ram = "3G"\nmemmap = "512M!8G"\n' + TWO_DIMMS + '[[bus.range]]\ndimms = ["A"]\n[[bus.range]]\ndimms = ["B"]\n'
    )
    starts = [range_.start for range_ in machine(text).buses[0].ranges]
    assert starts == [9 * GIB, 10 * GIB]


def test_positions_are_those_of_the_region_offsets():
    text = (
        TWO_DIMMS
        + '[[bus.range]]\ndimms = [{ dimm = "A", region_offset = 0x200 }, { dimm = "B", region_offset = 0x100 }]'
    )
    (range_,) = machine(text).buses[0].ranges
    assert [mapping.position for mapping in range_.mappings] == [1, 0]


def test_region_offsets_follow_from_the_order_in_lines_of_4_kib():
    (range_,) = machine(TWO_DIMMS + '[[bus.range]]\ndimms = ["B", "A"]').buses[0].ranges
    assert [(mapping.dimm, mapping.position, mapping.region_offset) for mapping in range_.mappings] == [
        ("B", 0, 0),
        ("A", 1, 4096),
    ]


def test_handles_count_on_from_the_one_before():
    text = "[[bus]]\n[[bus.dimm]]\n[[bus.dimm]]\nhandle = 0x101\n[[bus.dimm]]\n"
    (bus,) = machine(text).buses
    assert [(dimm.handle, dimm.name) for dimm in bus.dimms] == [(1, "0x1"), (0x101, "0x101"), (0x102, "0x102")]
    assert len({dimm.serial for dimm in bus.dimms}) == 3


def test_a_dimm_without_a_size_ends_with_its_last_range():
    (bus,) = machine(
        '[[bus]]\n[[bus.dimm]]\n[[bus.range]]\nsize = "64M"\ndimms = [{ dimm = "0x1", dpa = "16M" }]'
    ).buses
    assert bus.dimms[0].size == 80 * MIB


def test_namespaces_line_up_from_the_start_of_their_range():
    text = (
        TWO_DIMMS
        + '[[bus.range]]\ndimms = ["A"]\n'
        + "".join(
            f'[[bus.range.namespace]]\nuuid = "{number:08}-0000-0000-0000-000000000000"\nsize = "64M"\n'
            for number in range(2)
        )
    )
    (range_,) = machine(text).buses[0].ranges
    assert [namespace.start - range_.start for namespace in range_.namespaces] == [0, 64 * MIB]


def test_a_dimm_that_is_not_armed_makes_its_range_read_only():
    text = TWO_DIMMS.replace('name = "B"', 'name = "B"\nflags = ["not_armed"]')
    (bus,) = machine(text + '[[bus.range]]\ndimms = ["A"]\n[[bus.range]]\ndimms = ["B"]').buses
    assert [bus.is_read_only(range_) for range_ in bus.ranges] == [False, True]


def test_label_areas_begin_with_text_or_bytes_or_a_file(tmp_path):
    (tmp_path / "labels.bin").write_bytes(b"from a file")
    file = tmp_path / "machine.toml"
    file.write_text(
        '[[bus]]\n[[bus.dimm]]\nlabel = { text = "label0" }\n[[bus.dimm]]\nlabel = { hex = "4e 41" }\n'
        '[[bus.dimm]]\nlabel = { file = "labels.bin" }\n[[bus.dimm]]\nlabel = { size = 0 }\n[[bus.dimm]]\n'
    )
    (bus,) = load_machine(file).buses
    assert [dimm.label.first_bytes() for dimm in bus.dimms] == [b"label0", b"NA", b"from a file", b"", b""]


def with_lists(value):
    """A value of a description, in which every tuple is a list."""
    if isinstance(value, tuple):
        return [with_lists(item) for item in value]
    if attrs.has(type(value)):
        return type(value)(*(with_lists(getattr(value, field.name)) for field in attrs.fields(type(value))))
    return value


def test_lists_in_a_description_are_taken_as_tuples():
    nodes = "distances = [[10, 20], [20, 10]]\n[[ram_range]]\nsize = '2G'\n[[ram_range]]\nsize = '2G'\nnuma_node = 1\n"
    machine = parse_machine(nodes + TWO_DIMMS, "two nodes")
    listed = with_lists(machine)
    assert (listed, hash(listed)) == (machine, hash(machine))


def test_a_machine_is_named_after_its_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('memmap = "512M!4G"')
    assert load_machine(file).name == load_machine(str(file)).name == "mine"


# The command line


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["machine", *arguments])
    return status, out.getvalue(), err.getvalue()


def test_check_is_silent_about_what_is_right():
    assert run("check", "qemu-nfit", "e820") == (0, "", "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '[[personality]]\nnamespace = "namespace9.0"\nkind = "pfn"\nuuid = "01234567-89ab-cdef-0123-456789abcdef"',
            "cannot create a pfn on namespace9.0: ENOENT: /sys/bus/nd/devices/namespace9.0 does not exist",
        ),
        (
            '[[unreadable]]\npath = "sys/bus/nd/devices/region0/size"\nerrno = "EIO"',
            "unreadable: /sys/sys/bus/nd/devices/region0/size does not exist",
        ),
    ],
)
def test_check_boots_what_has_no_other_mistake(tmp_path, text, problem):
    file = tmp_path / "mine.toml"
    file.write_text(f'memmap = "64M!4G"\n{text}')
    assert run("check", "e820", str(file)) == (1, "", f"{file}: {problem}\n")


def test_check_tells_every_mistake_of_every_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text("ram = true\nnam = 3")
    status, out, err = run("check", str(tmp_path / "a.toml"), "e820", str(tmp_path / "b.toml"))
    assert (status, out) == (1, "")
    assert [line.split(": ")[:2] for line in err.splitlines()] == [
        [f"{tmp_path}/{name}.toml", key] for name in ("a", "b") for key in ("ram", "nam")
    ]


def test_show_of_a_broken_file_tells_its_mistakes_and_counts_them(tmp_path):
    (tmp_path / "a.toml").write_text("ram = true\nnam = 3")
    status, out, err = run("show", str(tmp_path / "a.toml"))
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == f"nvdimmfs: {tmp_path}/a.toml: 2 mistakes"


def test_list_has_a_line_for_each_machine():
    status, out, err = run("list")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == list(machines())


# Round trips


def numbers(type_, default):
    kind = number_kind(type_)
    good = st.integers(kind.minimum, kind.limit - 1)
    return good if default is attrs.NOTHING else st.just(default) | good


def values(type_, default=attrs.NOTHING):
    """Any value that a field of this type can hold and a file can express."""
    if number_kind(type_) is not None:
        return numbers(type_, default)
    if get_origin(type_) is tuple:
        return st.lists(values(get_args(type_)[0]), max_size=2).map(tuple)
    if attrs.has(type_):
        return anything(type_)
    if issubclass(type_, enum.Enum):
        return st.sampled_from(type_)
    return {str: st.text(max_size=5), bool: st.booleans()}[type_]


def anything(class_):
    return st.builds(class_, **{field.name: values(field.type, field.default) for field in attrs.fields(class_)})


@settings(max_examples=60)
@given(anything(MachineDescription))
def test_any_description_survives_its_text(description):
    assert read_machine(machine_text(description, ["a remark\nof two lines"])) == description


@settings(max_examples=60)
@given(generated_machines(built_in=False))
def test_a_completed_machine_is_complete_and_survives_its_text(complete):
    assert completed(complete) == complete
    assert machine(machine_text(complete)) == complete
    assert machine(machine_text(abridged(complete))) == complete
    for bus in complete.buses:
        for range_ in bus.ranges:
            assert sum(mapping.size for mapping in range_.mappings) in (0, range_.size)
            assert interleave_set(bus, range_).cookie2 < 1 << 64


# Garbage

KEYS = sorted({key_of(field) for class_ in CLASSES for field in attrs.fields(class_)})
SCALARS = st.one_of(
    st.integers(-5, 1 << 65),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(["1G", "4G", "0x1", "pmem", "cmd_call", "not_armed", UUID, "namespace0.0", "1.1", "A", "\0"]),
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)

DAMAGES = st.sampled_from(["", "0", "9", '"', "-1", "= ", "[", "0x", "K", "\n"])


def inline(value):
    """A value as TOML has it within a line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value) + '"'
    return str(value) if isinstance(value, int) or "." in str(value) else "1.0"


def never_a_traceback(text):
    """Either it is a machine, or there are lines with the reasons why not."""
    try:
        description = machine(text)
    except MachineFileError as error:
        lines = error.lines
    else:
        assert machine(machine_text(description)) == description
        return
    assert lines
    assert all(line.startswith("test.toml: ") and "\n" not in line for line in lines)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(["bus", "ram", "memmap", "personality", "unreadable", "name"]), DOCUMENTS))
def test_tables_of_nonsense_never_give_a_traceback(document):
    never_a_traceback("\n".join(f"{key} = {inline(value)}" for key, value in document.items()))


@settings(max_examples=100)
@given(
    st.sampled_from(["nfit_test", "qemu-nfit", "e820"]),
    st.lists(st.tuples(st.integers(0, 7000), st.integers(0, 12), DAMAGES), max_size=3),
)
def test_damaged_files_never_give_a_traceback(name, damages):
    text = machines()[name].read_text()
    for place, length, new in damages:
        place %= len(text)
        text = text[:place] + new + text[place + length :]
    never_a_traceback(text)


@settings(max_examples=50)
@given(st.text())
def test_texts_of_nonsense_never_give_a_traceback(text):
    never_a_traceback(text)


@pytest.mark.parametrize(
    "text", ["ram = " + "9" * 5000, "bus = " + "[" * 5000, f'ram = "{"9" * 5000}E"', "ram = 1_0", "ram = inf"]
)
def test_extremes_never_give_a_traceback(text):
    never_a_traceback(text)


@pytest.mark.parametrize("class_", CLASSES, ids=lambda class_: class_.__name__)
def test_every_field_is_documented(class_):
    assert set(documentation(class_)) == {field.name for field in attrs.fields(class_)}
