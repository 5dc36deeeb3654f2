"""The machines that are shipped, the schema beside them, and what `nvdimmfs machine` shows of them."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from nvdimmfs.cli.main import main
from nvdimmfs.machine_file.files import load_machine, machines
from nvdimmfs.machine_file.interleave import interleave_set
from nvdimmfs.machine_file.schema import schema, schema_text
from nvdimmfs.machine_file.words import DimmFlag, RangeKind
from nvdimmfs.mm.pc_memory_map import installed_memory

REPOSITORY = Path(__file__).parent.parent.parent
FIXTURES = REPOSITORY / "mountpoint-fixtures"
DOCUMENTATION = REPOSITORY / "docs" / "how-to" / "machines.md"

NAMES = list(machines())
MIB = 1 << 20
GIB = 1 << 30


def test_all_that_users_ask_for_are_there():
    assert set(NAMES) >= {
        "e820",
        "nfit_test",
        "one-dimm",
        "one-petabyte",
        "qemu-nfit",
        "qemu-nfit-labelled",
        "two-socket-6way",
        "unarmed-and-map-failed",
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_machine_loads_and_says_what_it_is_good_for(name):
    machine = load_machine(name)
    assert machine.name == name
    assert machine.description


def test_the_machine_with_one_dimm_takes_ten_lines():
    assert len((FIXTURES / "one-dimm.toml").read_text().splitlines()) == 10


# What a real 6.1 kernel showed of the recorded machines


@pytest.mark.parametrize("name", ["qemu-nfit", "qemu-nfit-labelled"])
def test_the_two_dimms_of_qemu(name):
    machine = load_machine(name)
    (bus,) = machine.buses
    assert machine.ram == 4 * GIB
    assert [(dimm.handle, dimm.size, dimm.identifier) for dimm in bus.dimms] == [
        (1, 512 * MIB, "8680-56341200"),
        (2, 256 * MIB, "8680-57341200"),
    ]
    assert [(range_.start, range_.size, range_.range_index) for range_ in bus.ranges] == [
        (0x19FE00000, 254 * MIB, 4),
        (0x180000000, 510 * MIB, 2),
    ]
    assert [interleave_set(bus, range_).cookie2 for range_ in bus.ranges] == [0xBA901C0012B4DD, 0xBA90120012B4DC]
    assert bus.dimms[0].command_mask == 1 << 4 | 1 << 5 | 1 << 6 | 1 << 10


def test_the_labels_of_qemu():
    versions = [
        [dimm.label.initialised for dimm in load_machine(name).buses[0].dimms]
        for name in ("qemu-nfit", "qemu-nfit-labelled")
    ]
    assert versions == [["", ""], ["1.1", "1.1"]]


def test_the_test_platform_of_the_kernel():
    first, second = load_machine("nfit_test").buses
    cookies = [interleave_set(first, range_).cookie2 for range_ in first.ranges]
    assert cookies == [0x40E62F0CC00F58AC, 0xA76C6907811FAE57]
    assert interleave_set(second, second.ranges[0]).cookie2 == 0xE03B0A7BE006ABD6
    assert interleave_set(second, second.ranges[1]).cookie2 == 0
    assert [dimm.identifier for dimm in first.dimms] == [
        "cdab-0a-07e0-ffffffff",
        "cdab-0a-07e0-feffffff",
        "cdab-0a-07e0-fffeffff",
        "cdab-0a-07e0-fefeffff",
    ]
    assert [dimm.label.first_bytes() for dimm in first.dimms] == [b"label0", b"label1", b"label2", b"label3"]
    assert first.command_mask == 0x41E
    assert second.command_mask == 0x1E
    assert [range_.kind for range_ in second.ranges] == [RangeKind.PMEM, RangeKind.VOLATILE_CD]
    assert second.is_read_only(second.ranges[0])
    assert not second.is_read_only(second.ranges[1])


def test_interleaving_over_six_and_two_dimms_adds_up():
    (bus,) = load_machine("two-socket-6way").buses
    six, two = bus.ranges
    assert [len(range_.mappings) for range_ in bus.ranges] == [6, 2]
    assert (six.size, two.size) == (6 * 126 * GIB, 2 * 126 * GIB)
    assert two.start == six.end
    assert {bus.dimm(mapping.dimm).handle >> 12 for mapping in six.mappings} == {0}
    assert {bus.dimm(mapping.dimm).handle >> 12 for mapping in two.mappings} == {1}
    assert installed_memory(load_machine("two-socket-6way").ram)[-1].end == six.start


def test_a_petabyte():
    (range_,) = load_machine("one-petabyte").buses[0].ranges
    assert range_.size == 1 << 50


def test_unarmed_and_map_failed():
    (bus,) = load_machine("unarmed-and-map-failed").buses
    assert [bus.is_read_only(range_) for range_ in bus.ranges] == [False, True]
    failed = bus.dimm("map-failed")
    assert DimmFlag.MAP_FAIL in failed.flags
    assert not any(mapping.dimm == failed.name for range_ in bus.ranges for mapping in range_.mappings)


# The schema


def faults(value, shape, path="$"):
    """What a value has that a schema does not allow; the part of JSON Schema that ours is made of."""
    if "$ref" in shape:
        shape = schema()["definitions"][shape["$ref"].rpartition("/")[2]]
    if "anyOf" in shape and all(list(faults(value, option, path)) for option in shape["anyOf"]):
        yield f"{path}: none of the kinds that there are"
    for part in shape.get("allOf", []):
        yield from faults(value, part, path)
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    kind = kinds.get(type(value))
    if "type" in shape and kind != shape["type"] and (kind, shape["type"]) != ("integer", "number"):
        yield f"{path}: {kind} is not {shape['type']}"
        return
    if "enum" in shape and value not in shape["enum"]:
        yield f"{path}: {value} is not in the list"
    if "pattern" in shape and not re.search(shape["pattern"], value):
        yield f"{path}: {value} does not match"
    if "minimum" in shape and not shape["minimum"] <= value <= shape["maximum"]:
        yield f"{path}: {value} is out of bounds"
    if kind == "array":
        for index, item in enumerate(value):
            yield from faults(item, shape["items"], f"{path}[{index}]")
    if kind == "object" and "properties" in shape:
        yield from (f"{path}: {key} is missing" for key in shape.get("required", []) if key not in value)
        for key, item in value.items():
            if key in shape["properties"]:
                yield from faults(item, shape["properties"][key], f"{path}.{key}")
            elif not shape["additionalProperties"]:
                yield f"{path}: {key} is unknown"


def test_the_schema_beside_the_machines_is_the_one_of_the_classes():
    assert (FIXTURES / "machine.schema.json").read_text() == schema_text(), (
        "write it anew: nvdimmfs machine schema > mountpoint-fixtures/machine.schema.json"
    )


def test_the_schema_is_of_a_draft_that_editors_of_toml_know():
    assert schema()["$schema"] == "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_machine_follows_the_schema_and_names_it(name):
    text = (FIXTURES / f"{name}.toml").read_text()
    assert text.startswith("#:schema ./machine.schema.json\n")
    assert list(faults(tomllib.loads(text), schema())) == []


@pytest.mark.parametrize(
    "text",
    [
        "ram = true",
        'ram = "12Q"',
        "nam = 1",
        "bus = [3]",
        "[[bus]]\nkind = 1",
        "[[bus]]\n[[bus.range]]\nkind = 'x'",
        "[[unreadable]]",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(text):
    assert list(faults(tomllib.loads(text), schema()))


def test_defaults_that_the_schema_shows_follow_the_schema():
    for definition in schema()["definitions"].values():
        table = definition.get("anyOf", [definition])[-1]
        for name, shape in table["properties"].items():
            assert shape["description"]
            if "default" in shape:
                assert list(faults(shape["default"], shape, name)) == []


# What the command shows


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_fits_a_terminal_and_names_every_device(name, capsys):
    assert main(["machine", "show", name]) == 0
    drawing = capsys.readouterr().out
    assert all(len(line) <= 80 and line == line.rstrip() for line in drawing.splitlines())
    machine = load_machine(name)
    dimms = sum(len(bus.dimms) for bus in machine.buses)
    regions = sum(len(bus.ranges) for bus in machine.buses)
    assert {f"nmem{number}" for number in range(dimms)} <= set(re.findall(r"nmem\d+", drawing))
    assert {f"region{number}" for number in range(regions)} <= set(re.findall(r"region\d+", drawing))


def test_a_drawing_shows_which_region_has_which_part_of_a_dimm(capsys):
    main(["machine", "show", "nfit_test"])
    lines = capsys.readouterr().out.splitlines()
    assert "  nmem1    0x1                     32M  [000000000000111111111111]  128K text" in lines
    assert "  nmem2    0x100                   32M  [............111111111111]  128K text" in lines
    assert "    |  nmem0  |  nmem1  |  nmem2  |  nmem3  |" in lines
    assert "    | 16M-32M | 16M-32M | 16M-32M | 16M-32M |" in lines


def test_a_drawing_of_thirty_two_ways_breaks_into_rows(tmp_path, capsys):
    names = ", ".join(f'"{handle:#x}"' for handle in range(1, 33))
    dimms = '[[bus.dimm]]\nsize = "128T"\n' * 32
    (tmp_path / "wide.toml").write_text(f'[[bus]]\n{dimms}[[bus.range]]\nsize = "32M"\ndimms = [{names}]\n')
    assert main(["machine", "show", str(tmp_path / "wide.toml")]) == 0
    drawing = capsys.readouterr().out
    assert all(len(line) <= 80 for line in drawing.splitlines())
    assert drawing.count("nmem31 ") == 2


@pytest.mark.parametrize("name", NAMES)
def test_json_of_a_machine_has_all_of_it(name, capsys):
    assert main(["machine", "show", name, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    machine = load_machine(name)
    assert shown["ram"] == machine.ram
    assert [[dimm["handle"] for dimm in bus["dimms"]] for bus in shown["buses"]] == [
        [dimm.handle for dimm in bus.dimms] for bus in machine.buses
    ]


def test_the_list_names_machines_in_json_too(capsys):
    assert main(["machine", "list", "--json"]) == 0
    assert [machine["name"] for machine in json.loads(capsys.readouterr().out)] == NAMES


def test_schema_prints_the_schema(capsys):
    assert main(["machine", "schema"]) == 0
    assert capsys.readouterr().out == schema_text()


# The documentation


def test_the_documentation_names_every_shipped_machine():
    text = DOCUMENTATION.read_text()
    assert [name for name in NAMES if f"`{name}`" not in text] == []
