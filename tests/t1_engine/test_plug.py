"""DIMMs and ranges that are plugged in.  tests/recordings/nfit/plug*.recording hold the kernel's side."""

from __future__ import annotations

import errno
import re

import pytest
from poke import DEBUG, Hands

from nvdimmfs.cli.drawing.described import drawing_of
from nvdimmfs.errors import KernelError
from nvdimmfs.machine_file.files import MachineFileError, load_machine, parse_machine
from nvdimmfs.machine_file.writer import machine_text

BUS = "devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00/ndbus0"
LABELLED = """
[[bus.dimm]]
name = "new"
size = "64M"
label = { initialised = "1.2" }
[[bus.range]]
dimms = ["new"]
[[bus.range.namespace]]
uuid = "00000000-1111-2222-3333-000000000001"
size = "32M"
"""
SCRUBBING = """
[[bus]]
commands = ["ars_cap", "ars_start", "ars_status", "clear_error"]
[[bus.dimm]]
size = "64M"
[[bus.range]]
dimms = ["0x1"]
"""


def rename(hands, name):
    """Write to the labels of the namespace that was plugged in."""
    hands.unbind("namespace2.0")
    hands.write("bus/nd/devices/namespace2.0/alt_name", name)


@pytest.fixture
def hands():
    return Hands.described(load_machine("qemu-nfit"))


def test_a_line_adds_a_dimm_and_a_range_over_all_of_it(hands):
    hands.write(f"{DEBUG}/plug", "dimm size=1G label=256K initialised=1.1 node=0\n")
    assert hands.read("bus/nd/devices/nmem2/nfit/handle") == "0x3\n"
    assert hands.read("bus/nd/devices/region2/mapping0") == "nmem2,0,1073741824,0\n"
    assert hands.read("bus/nd/devices/region2/size") == "1073741824\n"
    assert hands.read("bus/nd/devices/region2/nstype") == "5\n"
    assert "dimm size=" in hands.debug("plug")


def test_its_bytes_are_kept_and_its_namespace_is_a_disk(hands):
    hands.machine.plug("dimm size=64M")
    disk = hands.machine.tree.root.find("dev/pmem2")
    disk.data.write(4096, b"kept")
    hands.unbind("namespace2.0")
    hands.bind("namespace2.0")
    assert hands.machine.tree.root.find("dev/pmem2").data.read(4096, 4) == b"kept"


def test_labels_come_with_the_dimm(hands):
    hands.machine.plug(LABELLED)
    assert hands.read("bus/nd/devices/namespace2.0/uuid") == "00000000-1111-2222-3333-000000000001\n"
    assert hands.read("bus/nd/devices/namespace2.0/size") == f"{32 << 20}\n"


def test_labels_of_a_dimm_that_is_found_later_are_written_once(hands):
    hands.write("bus/acpi/drivers/nfit/unbind", "ACPI0012:00")
    hands.machine.plug(LABELLED)
    hands.write("bus/acpi/drivers/nfit/bind", "ACPI0012:00")
    rename(hands, "kept")
    hands.write("bus/acpi/drivers/nfit/unbind", "ACPI0012:00")
    hands.write("bus/acpi/drivers/nfit/bind", "ACPI0012:00")
    assert hands.read("bus/nd/devices/namespace2.0/alt_name") == "kept\n"


def test_a_range_over_old_and_new_dimms(hands):
    hands.machine.plug("[[bus.dimm]]\nsize = '2M'\n[[bus.range]]\ndimms = [{ dimm = '0x1', size = '2M' }, '0x3']\n")
    assert hands.read("bus/nd/devices/region2/mapping0") == "nmem0,534773760,2097152,0\n"
    assert hands.read("bus/nd/devices/region2/mapping1") == "nmem2,0,2097152,1\n"


def test_the_firmware_is_scrubbed_again():
    hands = Hands.described(parse_machine(SCRUBBING, "machine"))
    scrub = f"{BUS}/nfit/scrub"
    before = hands.read(scrub)
    hands.machine.plug("dimm size=64M")
    assert hands.read(scrub) == f"{before.strip()}+\n"
    hands.machine.system.clock.advance(10**13)
    assert hands.read(scrub) == f"{int(before) + 1}\n"


def test_a_plugged_dimm_is_gone_after_a_reset_and_can_come_again(hands):
    with hands.machine.checkpoint():
        hands.machine.plug("dimm size=1G")
    assert "nmem2" not in hands.names("nmem")
    hands.machine.plug("dimm size=2G")
    assert hands.read("bus/nd/devices/region2/size") == f"{2 << 30}\n"


def test_files_appear_and_a_machine_file_that_lists_the_dimm_finds_them(tmp_path):
    hands = Hands.described(load_machine("qemu-nfit"), media=tmp_path)
    hands.machine.plug(LABELLED)
    rename(hands, "kept")
    hands.bind("namespace2.0")
    hands.machine.tree.root.find("dev/pmem2").data.write(0, b"kept")
    text = machine_text(hands.machine.description)
    hands.machine.close()
    again = Hands.described(parse_machine(text, "machine"), media=tmp_path)
    assert again.read("bus/nd/devices/namespace2.0/alt_name") == "kept\n"
    assert again.machine.tree.root.find("dev/pmem2").data.read(0, 4) == b"kept"
    again.machine.close()


def test_labels_that_a_folder_has_are_not_written_again(tmp_path):
    for name in ("first", "again"):
        hands = Hands.described(load_machine("qemu-nfit"), media=tmp_path)
        hands.machine.plug(LABELLED)
        before = hands.read("bus/nd/devices/namespace2.0/alt_name")
        rename(hands, name)
        hands.machine.close()
    assert before == "first\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "nothing to add"),
        ("dimm", "size of the DIMM is missing"),
        ("dimm size=1X", '"1X" is not a size'),
        ("dimm size=1G colour=red", '"colour=red" is not one of'),
        ("dimm size=0x0", "a DIMM of size 0 has nothing to plug in"),
        ("dimm size=1G size=2G", '"size" is there twice'),
        ("dimm size=1G start=4G", "overlaps RAM"),
        ("dimm size=1G handle=1", "also the handle"),
        ("dimm size=1G node=x", "not a node"),
        ("[bus]\nprovider = 'x'\n[[bus.dimm]]\nsize='1M'\n", 'no bus with the provider "x"'),
        ("[[bus.dimm]]\nsize = '1G'\nlabel = { file = '/etc/passwd' }\n", "reads no files"),
        ("[[bus.dimm]]\ncolour = 1\n", "unknown key"),
        ("[[bus.range]]\ndimms = ['x']\n", "x"),
        (LABELLED.replace('dimms = ["new"]', 'size = "64M"\ndimms = ["new", "0x1"]'), "plugged together"),
        ("ram = '1G'", "unknown key"),
        ("[bus", "not TOML"),
    ],
)
def test_a_text_with_a_mistake_is_refused_in_one_line(hands, text, problem):
    before = hands.snapshot()
    with pytest.raises(MachineFileError, match=re.escape(problem)) as error:
        hands.machine.plug(text)
    assert all("\n" not in line for line in error.value.lines)
    assert not text or hands.refused(f"{DEBUG}/plug", text) == errno.EINVAL
    assert hands.snapshot() == before


def test_bytes_that_are_no_text_are_refused(hands):
    assert hands.refused(f"{DEBUG}/plug", "dimm size=1G") == 0
    with pytest.raises(KernelError, match="not UTF-8"):
        hands.sysfs.write(f"{DEBUG}/plug", b"dimm \xff")


@pytest.mark.parametrize(
    ("machine", "number"),
    [
        ('memmap = "512M!4G"\n', errno.EINVAL),
        ('kernel = "4.3"\n[[bus]]\n[[bus.dimm]]\nsize = "64M"\n[[bus.range]]\ndimms = ["0x1"]\n', errno.EOPNOTSUPP),
    ],
)
def test_a_machine_that_cannot_be_extended_refuses(machine, number):
    hands = Hands.described(parse_machine(machine, "machine"))
    assert hands.refused(f"{DEBUG}/plug", "dimm size=1G") == number


def test_the_test_platform_has_the_dimms_of_its_module():
    hands = Hands.described(load_machine("nfit_test"))
    assert hands.refused(f"{DEBUG}/plug", "dimm size=1G") == errno.EOPNOTSUPP


def test_a_bus_without_a_table_is_drawn_neither_from_its_file_nor_mounted():
    machine = parse_machine("[[bus]]\n", "machine")
    assert drawing_of(machine).buses == ()
    assert Hands.described(machine).names("ndbus") == []
