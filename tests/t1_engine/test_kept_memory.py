"""The files of a guest's memory, made from a folder of media and copied back."""

import os
from pathlib import Path

import pytest
from poke import Hands

from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.hardware import hardware_of
from nvdimmfs.lab.kept_memory import kept_memory
from nvdimmfs.lab.qemu_machine import with_qemu_numbers
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.reader import read_machine
from nvdimmfs.units import GIB, KIB, MIB

DIMM = """
ram = "1G"
[[bus]]
[[bus.dimm]]
handle = 0x1
size = "66M"
label = { size = "128K", initialised = "1.2" }
[[bus.range]]
start = 0x100000000
size = "64M"
dimms = ["0x1"]
"""
LEGACY = "ram = '1G'\nmemmap = '64M!512M'\n"
LABELS = "labels-ACPI.NFIT-1.img"
RANGES = {DIMM: "pmem-100000000-103ffffff.img", LEGACY: "pmem-20000000-23ffffff.img"}


def hardware(text):
    return hardware_of(completed(with_qemu_numbers(read_machine(text))))


def place_of(made, *, label_area=False):
    """The file of the memory, and where in it the persistent memory begins."""
    if label_area:
        (place,) = (each for each in made.places if each.label_area)
        return place.backend, place.offset
    start = 512 * MIB if made.memmap else 4 * GIB
    (place,) = (each for each in made.places if each.start <= start < each.start + each.size)
    return place.backend, place.offset + start - place.start


@pytest.fixture
def folders(tmp_path):
    for name in ("media", "guest"):
        (tmp_path / name).mkdir()
    return tmp_path / "media", tmp_path / "guest"


def run_guest_that_fails(made, media, guest, memory):
    """Find the bytes of `memory`, write some to the guest's memory and to `memory`, and fail."""
    backend, offset = place_of(made)
    with kept_memory(made, media, guest), (guest / backend).open("r+b") as file:
        assert os.pread(file.fileno(), 64 * MIB, offset) == memory
        for position, data in ((3 * MIB, bytes(6 * KIB)), (64 * MIB - 5, b"after"), (MIB - 2, b"x" * 5), (0, b"new")):
            os.pwrite(file.fileno(), data, offset + position)
            memory[position : position + len(data)] = data
        raise LabError("the guest ended")


@pytest.mark.parametrize("text", [DIMM, LEGACY], ids=["dimm", "legacy"])
def test_writes_of_a_guest_are_in_the_folder_however_it_ends(text, folders):
    media, guest = folders
    Hands.described(text, media).machine.close()
    image = media / RANGES[text]
    with image.open("r+b") as file:
        for position in (0, 3 * MIB, 40 * MIB):
            os.pwrite(file.fileno(), b"before" * KIB, position)
    expected = bytearray(image.read_bytes())
    with pytest.raises(LabError, match="the guest ended"):
        run_guest_that_fails(hardware(text), media, guest, expected)
    assert image.read_bytes() == expected
    Hands.described(text, media).machine.close()


def test_a_new_folder_has_the_labels_of_the_machine_file(folders):
    media, guest = folders
    made = hardware(DIMM)
    backend, offset = place_of(made, label_area=True)
    with kept_memory(made, media, guest), (guest / backend).open("r+b") as file:
        labels = os.pread(file.fileno(), 128 * KIB, offset)
        os.pwrite(file.fileno(), b"\xee" * 16, offset + 64 * KIB)
    assert labels.startswith(b"NAMESPACE_INDEX\0")
    assert (media / LABELS).read_bytes() == labels[: 64 * KIB] + b"\xee" * 16 + labels[64 * KIB + 16 :]


def test_a_folder_that_cannot_be_used_is_one_line(folders):
    media, guest = folders
    hands = Hands.described(DIMM, media)
    with pytest.raises(LabError, match="in use by another machine"), kept_memory(hardware(DIMM), media, guest):
        pytest.fail("the folder is in use")
    hands.machine.close()
    with pytest.raises(LabError, match="cannot keep media"), kept_memory(hardware(DIMM), Path("/dev/null/x"), guest):
        pytest.fail("there can be no such folder")
