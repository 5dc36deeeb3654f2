"""The ACPI tables of machines: those of QEMU's firmware are the same to the byte, and all are parsed back."""

import re
from pathlib import Path

import mounting
import pytest
import sandboxes
from hypothesis import given
from hypothesis import strategies as st
from machines import described

from nvdimmfs.formats import acpi
from nvdimmfs.formats.hmat import ValueType, hmat, localities
from nvdimmfs.machine_file.files import load_machine, machines, parse_machine
from nvdimmfs.machine_file.words import RangeKind
from nvdimmfs.platforms.acpi_tables import tables_of

RECORDINGS = Path(__file__).parent.parent / "recordings"

#: The window for memory that QEMU's machines can plug in, which the emulated machine does not have.
HOT_PLUGGABLE = 2


def recorded(name):
    """The tables of a guest, by name."""
    lines = (RECORDINGS / "acpi" / f"{name}.tables").read_text().splitlines()
    return {table: bytes.fromhex(data) for table, data in map(str.split, lines)}


@pytest.mark.parametrize("name", ["qemu-nfit", "qemu-nodes", "qemu-speeds"])
def test_the_nfit_and_the_slit_are_those_of_the_firmware_to_the_byte(name):
    ours, theirs = tables_of(described(name)), recorded(name)
    assert ours["NFIT"].hex() == theirs["NFIT"].hex()
    assert ours.get("SLIT") == theirs.get("SLIT")
    assert ours.get("HMAT") == theirs.get("HMAT")


@pytest.mark.parametrize("name", ["qemu-nfit", "qemu-nodes", "qemu-speeds"])
def test_the_srat_has_what_the_firmwares_has_but_the_window_for_more(name):
    ours, theirs = (list(acpi.srat_entries(each["SRAT"])) for each in (tables_of(described(name)), recorded(name)))
    kept = [
        each
        for each in theirs
        if isinstance(each, acpi.ProcessorAffinity) or (each.length and not each.flags & HOT_PLUGGABLE)
    ]
    assert ours == kept


@pytest.mark.parametrize("name", [name for name in machines() if "NFIT" in tables_of(load_machine(name))])
def test_an_nfit_describes_all_ranges_and_dimms(name):
    machine = load_machine(name)
    (bus,) = machine.buses
    entries = list(acpi.nfit_entries(tables_of(machine)["NFIT"]))
    ranges = {each.index: each for each in entries if isinstance(each, acpi.SystemPhysicalRange)}
    assert {(each.start, each.length, each.kind.name) for each in ranges.values()} == {
        (range_.start, range_.size, range_.kind.name) for range_ in bus.ranges
    }
    devices = [each for each in entries if isinstance(each, acpi.MemoryDevice)]
    by_handle = {dimm.handle: dimm for dimm in bus.dimms}
    found = {(by_handle[each.handle].name, each.dpa, each.length) for each in devices if each.range_index}
    assert found == {(each.dimm, each.dpa, each.size) for range_ in bus.ranges for each in range_.mappings}
    assert {each.handle for each in devices} == set(by_handle)
    regions = {each.index: each for each in entries if isinstance(each, acpi.ControlRegion)}
    for device in devices:
        dimm = by_handle[device.handle]
        assert regions[device.control_region_index].serial == dimm.serial.to_bytes(4, "big")


EVERYTHING = """
distances = [[10, 30], [30, 10]]
[[bus]]
persistence_domain = "cpu_cache"
[[bus.dimm]]
size = "4G"
flush_hints = 3
manufacturing_location = 2
manufacturing_date = 0x2115
flags = ["not_armed", "smart_notify"]
[[bus.dimm]]
size = "4G"
control_region = true
[[bus.dimm]]
size = "1G"
control_region = false
flags = ["map_fail"]
[[bus.range]]
size = "4G"
dimms = ["0x1", "0x2"]
numa_node = 1
target_node = 1
[[bus.range]]
size = "1G"
dimms = [{ dimm = "0x2", dpa = "3G" }]
[[bus.range]]
kind = "persistent-cd"
size = "16M"
target_node = -1
numa_node = -1
"""


def test_every_key_that_a_table_has_is_in_it():
    tables = tables_of(parse_machine(EVERYTHING, "everything.toml"))
    entries = list(acpi.nfit_entries(tables["NFIT"]))
    first, second, cd = (each for each in entries if isinstance(each, acpi.SystemPhysicalRange))
    assert (first.proximity_domain, first.flags, second.proximity_domain) == (1, 3, 0)
    assert (cd.flags, cd.kind.name, cd.index) == (1, RangeKind.PERSISTENT_CD.name, 0)
    states = {each.handle: each.state for each in entries if isinstance(each, acpi.MemoryDevice)}
    assert states == {1: 0x28, 2: 0, 3: 0x40}
    (hints,) = (each for each in entries if isinstance(each, acpi.FlushHints))
    assert (hints.handle, len(hints.addresses), len(set(hints.addresses))) == (1, 3, 3)
    lines = {each.index: each.offsets for each in entries if isinstance(each, acpi.Interleave)}
    sets = [
        each.interleave_index for each in entries if isinstance(each, acpi.MemoryDevice) and each.interleave_ways > 1
    ]
    assert [lines[index] for index in sets] == [(0,), (1,)]
    assert acpi.PlatformCapabilities(1, 3) in entries
    identity = next(each for each in entries if isinstance(each, acpi.ControlRegion))
    assert (identity.valid_fields, identity.manufacturing_location, identity.manufacturing_date) == (1, 2, b"\x21\x15")
    assert acpi.slit_distances(tables["SLIT"]) == ((10, 30), (30, 10))


def test_a_legacy_machine_has_no_tables_unless_it_has_several_nodes():
    assert tables_of(load_machine("e820")) == {}
    text = "memmap = '512M!4G'\n[[ram_range]]\nsize = '4G'\n[[ram_range]]\nsize = '1G'\nnuma_node = 1\n"
    assert list(tables_of(parse_machine(text, "a.toml"))) == ["SRAT"]


def test_several_tables_of_a_kind_are_numbered():
    text = "".join(f"[[bus]]\nparent = 'devices/ACPI0012:0{n}'\n[[bus.range]]\nsize = '1G'\n" for n in (0, 1))
    assert list(tables_of(parse_machine(text, "a.toml"))) == ["NFIT1", "NFIT2", "SRAT"]


@pytest.mark.parametrize("cut", [0, 20, 36, 39, 43, 90])
def test_an_incomplete_table_is_refused_and_not_read_in_part(cut):
    whole = tables_of(load_machine("qemu-nfit"))["NFIT"]
    with pytest.raises(acpi.AcpiTableError):
        list(acpi.nfit_entries(whole[:cut]))


def test_a_table_with_a_wrong_byte_is_refused():
    data = bytearray(tables_of(load_machine("qemu-nfit"))["NFIT"])
    data[60] ^= 1
    with pytest.raises(acpi.AcpiTableError, match="checksum"):
        acpi.body_of("NFIT", bytes(data))
    with pytest.raises(acpi.AcpiTableError, match="signature"):
        acpi.body_of("SRAT", bytes(data))


@sandboxes.needs("iasl")
def test_the_acpi_compiler_reads_the_tables_without_complaint(tmp_path):
    for name, data in tables_of(parse_machine(EVERYTHING, "everything.toml")).items():
        (tmp_path / f"{name}.aml").write_bytes(data)
        done = mounting.command("iasl", "-d", f"{name}.aml", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        text = (tmp_path / f"{name}.dsl").read_text()
        assert not re.search(r"\b(error|invalid)\b|[*]{4}", done.stderr + text, re.IGNORECASE), text


SPEEDS = st.dictionaries(
    st.sampled_from([kind for kind in ValueType if kind.directions == (kind,)]), st.integers(0, 65534)
)


@given(st.dictionaries(st.integers(0, 9), SPEEDS, max_size=4))
def test_an_hmat_is_parsed_back(targets):
    known = {target: {kind: value for kind, value in values.items() if value} for target, values in targets.items()}
    found = {each.target: dict(each.values) for each in localities(hmat(0, targets))}
    assert found == {target: values for target, values in known.items() if values}


@pytest.mark.parametrize("cut", [0, 20, 39, 45, 170, 260])
def test_an_incomplete_hmat_is_refused(cut):
    whole = recorded("qemu-speeds")["HMAT"]
    with pytest.raises(acpi.AcpiTableError):
        localities(whole[:cut])


def test_structures_that_lie_about_their_size_are_refused():
    whole = recorded("qemu-speeds")["HMAT"]
    body = acpi.body_of("HMAT", whole)
    for at, value in ((8, 7), (8, 255), (8 + 3 * 40 + 12, 99)):
        changed = bytearray(body)
        changed[at] = value
        with pytest.raises(acpi.AcpiTableError):
            localities(acpi.table("HMAT", bytes(changed), 2))
