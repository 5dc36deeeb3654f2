"""`nvdimmfs record`: machine files made from trees that a real 6.1 kernel showed, and from those of the engine."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import attrs
import pytest
from engine_sysfs import EngineSysfs

from nvdimmfs.cli.main import main
from nvdimmfs.dumps.dump import dump_of_machine
from nvdimmfs.kernfs.path import resolve
from nvdimmfs.lab.recording_text import load
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.checks import problems
from nvdimmfs.machine_file.defaults import abridged
from nvdimmfs.machine_file.files import load_machine, machines, parse_machine
from nvdimmfs.machine_file.model import LabelAreaDescription, UnreadableAttribute
from nvdimmfs.machine_file.record import record_machine
from nvdimmfs.machine_file.sysfs import MountedSysfs, Sysfs
from nvdimmfs.machine_file.words import MemmapLocation, PersonalityKind
from nvdimmfs.machine_file.writer import machine_text

RECORDINGS = Path(__file__).parent.parent / "recordings"
E820 = RECORDINGS / "e820" / "tree.recording"
NFIT = RECORDINGS / "nfit" / "trees.dumps"
NFIT_TEST = RECORDINGS / "nfit_test" / "trees.dumps"

#: Steps of nfit/trees.dumps: the whole tree is in the first three, what follows replaces a part of it.
AT_REST = (0, 1, 2)
LABELLED, TWO_NAMESPACES, PFN = 3, 4, 5

NFIT_BUS = "devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00/ndbus0"


def rebuild(root, recording, steps=AT_REST):
    """Write what dumps of a recording show into a folder, and return it as a sysfs."""
    recorded = load(recording).steps
    dumps = [recorded[number] for number in steps]
    for dump in dumps:
        forget(root / dump.call["path"])
        for row in dump.answer["rows"]:
            write(root / row["path"], row)
    return MountedSysfs(root)


def forget(path):
    for folder, folders, files in os.walk(path, topdown=False):
        for name in files:
            Path(folder, name).unlink()
        for name in folders:
            inner = Path(folder, name)
            inner.unlink() if inner.is_symlink() else inner.rmdir()


def write(path, row):
    path.parent.mkdir(parents=True, exist_ok=True)
    if row["mode"].startswith("d"):
        path.mkdir(exist_ok=True)
    elif "link" in row:
        path.symlink_to(row["link"])
    elif "errno" in row:
        assert row["errno"] == "ENXIO"
        os.mknod(path, stat.S_IFSOCK | 0o600)  # open(2) of a socket fails
    else:
        path.write_bytes(row.get("data", "").encode("latin-1"))


class Refusing(Sysfs):
    """A sysfs some of whose files cannot be read."""

    def __init__(self, sysfs, refused):
        self.sysfs = sysfs
        self.refused = refused

    def names(self, folder):
        return self.sysfs.names(folder)

    def is_folder(self, path):
        return self.sysfs.is_folder(path)

    def is_link(self, path):
        return self.sysfs.is_link(path)

    def real(self, path):
        return self.sysfs.real(path)

    def read(self, path):
        number = next((number for end, number in self.refused.items() if path.endswith(end)), None)
        if number is not None:
            raise OSError(number, os.strerror(number), path)
        return self.sysfs.read(path)


def recorded_sysfs(machine):
    """What is recorded of a machine of the engine whose DIMMs cannot be asked."""
    return record_machine(EngineSysfs(machine.system.sys)).machine


def as_sysfs_shows(machine):
    """A machine without the properties that sysfs does not show."""
    buses = tuple(
        attrs.evolve(
            bus,
            dimms=tuple(shown_dimm(dimm, bus) for dimm in bus.dimms_by_handle),
            ranges=tuple(shown_range(range_, bus) for range_ in bus.ranges),
            # The recordings leave these folders out.
            firmware_activation=bus.firmware_activation.NONE,
            test_dimms=() if bus.provider == "nfit_test.1" else bus.test_dimms,
        )
        for bus in machine.buses
    )
    return attrs.evolve(machine, name="", description="", ram=0, buses=buses)


def shown_dimm(dimm, bus):
    mapped = [m.dpa + m.size for range_ in bus.ranges for m in range_.mappings if m.dimm == dimm.name]
    return attrs.evolve(
        dimm,
        size=max(mapped, default=0),
        flush_hints=min(dimm.flush_hints, 1),
        label=attrs.evolve(dimm.label, text=""),
    )


def shown_range(range_, bus):
    mappings = tuple(attrs.evolve(mapping, region_offset=0) for mapping in range_.mappings)
    start = 0 if range_.kind.is_virtual else range_.start  # which was kernel memory
    return attrs.evolve(range_, start=start, mappings=mappings, cookie=0, read_only=bus.is_read_only(range_))


@pytest.mark.parametrize(
    ("recording", "name", "steps"),
    [
        (NFIT, "qemu-nfit", AT_REST),
        (NFIT, "qemu-nfit-labelled", (*AT_REST, LABELLED)),
        (NFIT_TEST, "nfit_test", (*AT_REST, 3, 4)),
    ],
)
def test_the_recorded_machine_is_the_one_that_is_shipped(tmp_path, recording, name, steps):
    recorded = record_machine(rebuild(tmp_path, recording, steps)).machine
    assert as_sysfs_shows(recorded) == as_sysfs_shows(load_machine(name))


def test_a_legacy_machine_is_recorded_as_its_memmap(tmp_path):
    recorded = record_machine(rebuild(tmp_path, E820)).machine
    shipped = load_machine("e820")
    assert recorded == attrs.evolve(shipped, name="", description="")


@pytest.mark.parametrize("name", ["qemu-nfit", "qemu-nfit-labelled"])
def test_nothing_is_wrong_with_a_recorded_machine(tmp_path, name):
    steps = AT_REST if name == "qemu-nfit" else (*AT_REST, LABELLED)
    recording = record_machine(rebuild(tmp_path, NFIT, steps))
    assert list(problems(recording.machine)) == []
    assert recording.machine.ram == 4 << 30
    assert recording.machine.unreadable == ()


def test_a_cookie_that_default_offsets_do_not_give_is_kept(tmp_path):
    recorded = record_machine(rebuild(tmp_path, NFIT_TEST, (*AT_REST, 3, 4))).machine
    cookies = [range_.cookie for bus in recorded.buses for range_ in bus.ranges]
    assert cookies == [0x40E62F0CC00F58AC, 0xA76C6907811FAE57, 0, 0]


def test_namespaces_of_labels_are_recorded(tmp_path):
    machine = record_machine(rebuild(tmp_path, NFIT, (*AT_REST, LABELLED, TWO_NAMESPACES))).machine
    range_ = machine.buses[0].ranges[0]
    assert [(namespace.uuid, namespace.start, namespace.size) for namespace in range_.namespaces] == [
        ("00000001-aaaa-bbbb-cccc-000000000001", 0x19FE00000, 32 << 20),
        ("00000004-aaaa-bbbb-cccc-000000000004", 0x1ABE00000, 16 << 20),
    ]
    assert list(problems(machine)) == []


def test_a_bound_personality_is_recorded_with_the_name_its_namespace_will_have(tmp_path):
    machine = record_machine(rebuild(tmp_path, NFIT, (*AT_REST, LABELLED, PFN))).machine
    (personality,) = machine.personalities
    assert personality.kind is PersonalityKind.PFN
    assert personality.namespace == "namespace0.0"
    assert personality.uuid == "00000010-aaaa-bbbb-cccc-000000000010"
    assert personality.memmap is MemmapLocation.PMEM
    assert personality.align == 2 << 20


def test_unreadable_attributes_keep_their_errno(tmp_path):
    refused = {"nmem0/nfit/serial": errno.EIO, "region1/align": errno.ENODEV, "region0/badblocks": errno.ENXIO}
    machine = record_machine(Refusing(rebuild(tmp_path, NFIT), refused)).machine
    assert set(machine.unreadable) == {
        UnreadableAttribute("bus/nd/devices/nmem0/nfit/serial", "EIO"),
        UnreadableAttribute("bus/nd/devices/region1/align", "ENODEV"),
    }


def test_a_file_of_the_running_state_that_fails_is_no_property_of_the_machine(tmp_path):
    refused = {"nmem0/available_slots": errno.ENXIO, "region0/init_namespaces": errno.ENXIO}
    assert record_machine(Refusing(rebuild(tmp_path, NFIT), refused)).machine.unreadable == ()


def test_an_ordinary_user_gets_addresses_that_were_chosen(tmp_path):
    recording = record_machine(Refusing(rebuild(tmp_path, NFIT), {"/resource": errno.EACCES}))
    assert list(problems(recording.machine)) == []
    assert recording.machine.unreadable == ()
    assert any("Only root can read the start of a range" in remark for remark in recording.remarks)


def test_an_ordinary_user_gets_a_legacy_machine_with_ranges_from_4_gib_on(tmp_path):
    recording = record_machine(Refusing(rebuild(tmp_path, E820), {"/resource": errno.EACCES}))
    assert recording.machine.memmap == "512M!4G,256M!5G"


def test_sysfs_says_how_much_ram_there_is(tmp_path):
    sysfs = rebuild(tmp_path, NFIT)
    memory = tmp_path / "devices/system/memory"
    for number in range(24):
        (memory / f"memory{number}").mkdir(parents=True)
    (memory / "block_size_bytes").write_text("8000000\n")
    assert record_machine(sysfs).machine.ram == 24 * 128 << 20


def test_ram_that_would_lie_on_a_range_is_left_out_and_the_rest_is_around_it(tmp_path):
    sysfs = rebuild(tmp_path, NFIT)
    memory = tmp_path / "devices/system/memory"
    for number in range(256):
        (memory / f"memory{number}").mkdir(parents=True)
    (memory / "block_size_bytes").write_text("8000000\n")
    machine = record_machine(sysfs).machine
    assert machine.ram == (32 << 30) - sum(range_.size for range_ in machine.ranges) & -1 << 20
    assert machine.ram_ranges == ()
    assert list(problems(machine)) == []


TWO_SOCKETS = """
distances = [[10, 21, 17], [21, 10, 28], [17, 28, 10]]
[[ram_range]]
size = "8258M"
[[ram_range]]
size = "6G"
numa_node = 1
[[bus]]
[[bus.dimm]]
size = "4G"
[[bus.dimm]]
size = "4G"
[[bus.range]]
start = "10G"
dimms = ["0x1"]
[[bus.range]]
start = "24G"
numa_node = 1
target_node = 2
dimms = ["0x2"]
"""


def test_ram_of_several_nodes_is_recorded_with_its_place():
    described = parse_machine(TWO_SOCKETS, "two-sockets.toml")
    machine = Machine.described(described, clock="steps")
    recorded = recorded_sysfs(machine)
    assert recorded.ram_ranges == described.ram_ranges
    assert recorded.distances == described.distances, "the SLIT has node 2, which is not online"
    assert (recorded.ram, recorded.ranges[1].target_node) == ((14 << 30) + (66 << 20), 2)


def test_soft_reserved_memory_is_recorded_also_where_there_is_nothing_else():
    machine = Machine.legacy("1G%5G-1+0xefffffff", 8 << 30, clock="steps")
    recorded = recorded_sysfs(machine)
    assert (recorded.memmap, recorded.ram) == ("1G%5G-1+0xefffffff", 8 << 30)


def test_soft_reserved_memory_whose_place_is_not_known_is_left_out_with_a_remark():
    machine = Machine.legacy("512M!4G,1G%5G-1+0xefffffff", 8 << 30, clock="steps")
    for path, text in (("dax/drivers/device_dax/unbind", "dax0.0"), ("dax/devices/dax0.0/size", "4194304")):
        resolve(machine.system.sys, f"bus/{path}").store(text.encode())
    recording = record_machine(EngineSysfs(machine.system.sys))
    assert recording.machine.memmap == "512M!4G"
    assert any("Soft reserved memory" in remark for remark in recording.remarks)


SPEEDS = """
[[node_access]]
node = 2
read_latency = 350
read_bandwidth = 6400
write_bandwidth = 2300
[[node_access]]
node = 0
read_latency = 80
read_bandwidth = 102400
"""


def test_how_fast_nodes_are_is_recorded():
    described = parse_machine(TWO_SOCKETS + SPEEDS, "two-sockets.toml")
    recorded = recorded_sysfs(Machine.described(described, clock="steps"))
    assert recorded.node_accesses == described.node_accesses[::-1]
    assert "[[node_access]]\nnode = 0\nread_latency = 80\nread_bandwidth = 102400\n\n" in machine_text(
        abridged(recorded)
    )


def test_tables_that_only_programs_read_are_recorded():
    tables = """
[[acpi_table]]
signature = "PCAT"
revision = 2
body = "00000000"
[[acpi_table]]
signature = "SSDT"
"""
    described = parse_machine(TWO_SOCKETS + tables, "two-sockets.toml")
    recorded = recorded_sysfs(Machine.described(described, clock="steps"))
    assert recorded.acpi_tables == described.acpi_tables[:1]


def test_how_fast_nodes_are_is_recorded_without_the_table_of_those_that_are_online():
    machine = Machine.described(parse_machine(TWO_SOCKETS + SPEEDS, "two-sockets.toml"), clock="steps")
    tables = machine.system.sys.find("firmware/acpi/tables")
    tables.remove("HMAT")
    assert [access.node for access in recorded_sysfs(machine).node_accesses] == [0]


def test_dimms_are_recorded_by_number_and_not_by_name(tmp_path):
    bus = tmp_path / NFIT_BUS
    for number in (2, 10):
        folder = bus / f"nmem{number}" / "nfit"
        folder.mkdir(parents=True)
        (folder / "handle").write_text(f"{number:#x}\n")
    (tmp_path / "bus/nd/devices").mkdir(parents=True)
    (tmp_path / "bus/nd/devices/ndbus0").symlink_to(f"../../../{NFIT_BUS}")
    (recorded,) = record_machine(MountedSysfs(tmp_path)).machine.buses
    assert [dimm.handle for dimm in recorded.dimms] == [2, 10]
    assert [dimm.control_region for dimm in recorded.dimms] == [False, False]


def test_the_command_prints_a_file_that_reads_as_the_machine(tmp_path, capsys):
    sysfs = rebuild(tmp_path, NFIT, (*AT_REST, LABELLED, TWO_NAMESPACES))
    assert main(["record", "--root", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert attrs.evolve(parse_machine(printed, "printed"), name="") == record_machine(sysfs).machine


def test_the_printed_file_does_not_repeat_what_goes_without_saying(tmp_path, capsys):
    rebuild(tmp_path, NFIT)
    main(["record", "--root", str(tmp_path)])
    printed = capsys.readouterr().out
    assert 'dimms = ["0x2"]' in printed
    assert "parent" not in printed
    assert "region_offset" not in printed


def test_a_tree_without_a_bus_is_refused_in_one_line(tmp_path, capsys):
    assert main(["record", "--root", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "no nvdimm bus" in captured.err


def test_a_root_that_is_not_there_is_refused_in_one_line(tmp_path, capsys):
    assert main(["record", "--root", str(tmp_path / "nowhere")]) == 1
    assert "is not a folder" in capsys.readouterr().err


def test_a_tree_of_nonsense_gives_no_traceback(tmp_path, capsys):
    rebuild(tmp_path, NFIT)
    for path in (tmp_path / NFIT_BUS).rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(b"\xff\x00nonsense, 1,2,3 \n\n")
    assert main(["record", "--root", str(tmp_path)]) == 1
    assert "correct by hand" in capsys.readouterr().err


@pytest.mark.parametrize("name", machines())
def test_a_machine_made_of_a_recorded_one_shows_the_same_tree(name):
    machine = Machine.described(load_machine(name), clock="steps")
    recorded = recorded_sysfs(machine)
    again = Machine.described(parse_machine(machine_text(recorded), "recorded.toml"), clock="steps")
    assert dump_of_machine(again.system) == dump_of_machine(machine.system)


OFFSETS = """
[[bus]]
[[bus.dimm]]
size = "1G"
flush_hints = 4
[[bus.dimm]]
size = "1G"
[[bus.dimm]]
size = "2G"
[[bus.range]]
size = "1G"
dimms = [{ dimm = "0x1", region_offset = 256 }, { dimm = "0x2", region_offset = 0 }]
"""


def test_the_nfit_has_what_sysfs_lacks():
    machine = Machine.described(parse_machine(OFFSETS, "offsets.toml"), clock="steps")
    (bus,) = recorded_sysfs(machine).buses
    assert [mapping.region_offset for mapping in bus.ranges[0].mappings] == [256, 0]
    assert bus.ranges[0].cookie == 0, "the offsets explain it"
    assert [dimm.flush_hints for dimm in bus.dimms] == [4, 0, 0]
    assert bus.dimms[2].size == 2 << 30


@pytest.mark.parametrize("data", [b"", b"NFIT", b"NFIT" + bytes(100), b"\xff" * 5000])
def test_a_table_of_nonsense_is_ignored(tmp_path, data):
    sysfs = rebuild(tmp_path, NFIT)
    before = record_machine(sysfs).machine
    (tmp_path / "firmware/acpi/tables").mkdir(parents=True)
    for name in ("NFIT", "SLIT"):
        (tmp_path / "firmware/acpi/tables" / name).write_bytes(data)
    assert record_machine(sysfs).machine == before


def test_record_of_an_emulated_legacy_machine_gives_its_memmap():
    machine = Machine.legacy("512M!4G,256M!5G", 4 << 30, clock="steps")
    recorded = recorded_sysfs(machine)
    expected = attrs.evolve(load_machine("e820"), name="", description="", memmap="512M!4G,256M!5G")
    assert recorded == expected


def test_a_legacy_range_is_recorded_as_installed_memory():
    machine = Machine.legacy("512M!4G,256M!6G", 4 << 30, clock="steps")
    recorded = recorded_sysfs(machine)
    assert recorded.ram == (4 << 30) + (256 << 20)


def test_the_size_of_a_label_area_follows_from_its_free_slots(tmp_path):
    sysfs = rebuild(tmp_path, NFIT)
    (tmp_path / NFIT_BUS / "nmem0/available_slots").write_text("1019\n")
    (bus,) = record_machine(sysfs).machine.buses
    assert [dimm.label for dimm in bus.dimms] == [LabelAreaDescription(256 << 10), LabelAreaDescription(128 << 10)]
