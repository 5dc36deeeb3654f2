"""Saved machines: what comes back, and which files are refused."""

from __future__ import annotations

import io
import json
import os
import random
import zipfile
from pathlib import Path

import pytest
from poke import Hands

from nvdimmfs.kernfs import Channel
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine.saved import FORMAT, LIST, MACHINE, SavedMachineError, read_saved
from nvdimmfs.machine_file.files import load_machine, parse_machine
from nvdimmfs.media.base import MediaError
from nvdimmfs.units import GIB

PETABYTE = 'ram = "4G"\n[[bus]]\n[[bus.dimm]]\nsize = "1P"\n[[bus.range]]\ndimms = ["0x1"]\n'
LABELLED = "bus/nd/devices/namespace1.0"


def boot(saved, media=None):
    return Machine.described(saved.description, media, clock="steps", saved=saved)


def disk(machine, name="pmem0"):
    return machine.tree.root.find(f"dev/{name}").data


@pytest.fixture
def hands():
    return Hands.described("qemu-nfit-labelled")


@pytest.fixture
def save(tmp_path):
    def save(machine):
        file = tmp_path / "machine.saved"
        file.write_bytes(b"".join(machine.saved()))
        return file

    return save


def label(hands):
    """Make a labelled namespace with bytes on it."""
    hands.write(f"{LABELLED}/uuid", "10000000-1111-2222-3333-000000000001")
    hands.write(f"{LABELLED}/size", str(64 << 20))
    hands.bind("namespace1.0")
    disk(hands.machine, "pmem1").write(4096, b"kept")


@pytest.mark.parametrize("kept", [False, True])
def test_labels_and_bytes_come_back_and_bindings_do_not(hands, save, tmp_path, kept):
    label(hands)
    hands.write("bus/nd/drivers/nd_region/unbind", "region0")
    machine = boot(read_saved(save(hands.machine)), tmp_path / "media" if kept else None)
    again = Hands.of(machine)
    assert again.read(f"{LABELLED}/size") == f"{64 << 20}\n"
    assert disk(machine, "pmem1").read(4096, 4) == b"kept"
    assert again.driver_of("region0") == "nd_region"
    machine.close()


def test_a_folder_is_saved_and_restored_without_one(save, tmp_path):
    machine = Machine.described(load_machine("qemu-nfit-labelled"), tmp_path / "media", clock="steps")
    label(Hands.of(machine))
    saved = read_saved(save(machine))
    machine.close()
    assert disk(boot(saved), "pmem1").read(4096, 4) == b"kept"
    with pytest.raises(MediaError, match="restore into a new folder"):
        boot(saved, tmp_path / "media")


def test_legacy_ranges_and_the_rest_of_the_machine_file_come_back(save):
    machine = Machine.legacy("512M!4G,256M!6G", 8 * GIB)
    disk(machine, "pmem1").write(512, b"kept")
    saved = read_saved(save(machine))
    assert (saved.description.memmap, saved.description.ram) == ("512M!4G,256M!6G", 8 * GIB)
    assert disk(boot(saved), "pmem1").read(512, 4) == b"kept"


def test_a_dimm_that_was_plugged_in_comes_back(hands, save):
    hands.machine.plug("dimm size=64M label=128K")
    disk(hands.machine, "pmem2").write(0, b"kept")
    assert disk(boot(read_saved(save(hands.machine))), "pmem2").read(0, 4) == b"kept"


def test_a_petabyte_with_few_bytes_is_a_small_file(save):
    machine = Machine.described(parse_machine(PETABYTE, "machine"), clock="steps")
    for offset in (0, 1 << 30, 1 << 49, (1 << 50) - 5):
        disk(machine).write(offset, b"bytes")
    file = save(machine)
    assert file.stat().st_size < 4096
    again = disk(boot(read_saved(file)))
    assert [again.read(offset, 5) for offset in (0, 1 << 30, 1 << 49, (1 << 50) - 5)] == [b"bytes"] * 4


def test_equal_machines_make_equal_files(hands, save):
    label(hands)
    first = save(hands.machine).read_bytes()
    again = boot(read_saved(save(hands.machine)))
    assert b"".join(again.saved()) == first


@pytest.mark.parametrize("kept", [False, True])
def test_a_write_during_a_save_is_in_it_whole_or_not_at_all(tmp_path, kept):
    machine = Machine.described(load_machine("qemu-nfit"), tmp_path / "media" if kept else None, clock="steps")
    chance = random.Random(1)
    for offset in range(0, 8 << 20, 1 << 20):
        disk(machine).write(offset, chance.randbytes(1 << 18))
    before = disk(machine).read(0, 8 << 20)
    pieces, offset = [], 0
    for piece in machine.saved():
        pieces.append(piece)
        disk(machine).write(offset % (8 << 20), b"\xff" * 4096)
        offset += 65536
    file = tmp_path / "machine.saved"
    file.write_bytes(b"".join(pieces))
    assert disk(boot(read_saved(file))).read(0, 8 << 20) == before
    assert disk(machine).read(0, 8 << 20) != before
    machine.close()


def test_a_reset_between_two_pieces_changes_nothing(hands, save):
    label(hands)
    expected = b"".join(hands.machine.saved())
    checkpoint = hands.machine.checkpoint()
    stream = hands.machine.saved()
    pieces = [next(stream)]
    disk(hands.machine, "pmem1").write(4096, b"lost")
    checkpoint.reset()
    disk(hands.machine, "pmem1").write(4096, b"late")
    assert b"".join([*pieces, *stream]) == expected


def test_the_debug_file_gives_the_same_bytes(hands):
    file = hands.machine.system.sys.find("kernel/debug/nvdimmfs/saved")
    assert isinstance(file, Channel)
    session = file.open_session(file)
    taken = []
    while piece := session.read():
        assert session.has_message
        taken.append(piece)
    assert not session.has_message
    assert b"".join(taken) == b"".join(hands.machine.saved())
    with pytest.raises(Exception, match="read-only"):
        session.write(b"x")
    session.close()
    assert session.read() == b""


def test_a_label_file_of_this_host_is_not_named(save, tmp_path):
    (tmp_path / "labels").write_bytes(b"labels")
    text = '[[bus]]\n[[bus.dimm]]\nsize = "64M"\nlabel = { file = "labels" }\n[[bus.range]]\ndimms = ["0x1"]\n'
    machine = Machine.described(parse_machine(text, "machine", folder=tmp_path), clock="steps")
    file = save(machine)
    (tmp_path / "labels").unlink()
    saved = read_saved(file)
    assert saved.description.buses[0].dimms[0].label.file == ""
    assert boot(saved).storage.label_areas["ACPI.NFIT-1"].read(0, 6) == b"labels"


# Files that are refused


def refusal(file):
    with pytest.raises(SavedMachineError) as error:
        read_saved(file)
    message = str(error.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message


def test_files_that_are_not_regular_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (Path("/dev/zero"), tmp_path / "pipe", tmp_path):
        assert refusal(place) == f"{place}: not a regular file"


def rewritten(file, changes):
    """The archive with the texts of some members changed; None leaves a member out."""
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as old:
        members = {name: old.read(name) for name in old.namelist()} | changes
    with zipfile.ZipFile(file, "w") as new:
        for name, data in members.items():
            if data is not None:
                new.writestr(name, data)
    return file


def with_list(file, change):
    with zipfile.ZipFile(file) as archive:
        listed = json.loads(archive.read(LIST))
    change(listed)
    return rewritten(file, {LIST: json.dumps(listed)})


@pytest.fixture
def file(hands, save):
    label(hands)
    return save(hands.machine)


def test_a_file_cut_anywhere_is_refused(file):
    whole = file.read_bytes()
    for length in range(0, len(whole), 61):
        file.write_bytes(whole[:length])
        refusal(file)


def test_a_changed_byte_is_refused_or_makes_no_difference(file):
    whole, good = file.read_bytes(), read_saved(file)
    for position in range(0, len(whole), 13):
        changed = bytearray(whole)
        changed[position] ^= 0x41
        file.write_bytes(changed)
        try:
            found = read_saved(file)
        except SavedMachineError:
            continue
        assert found == good


def test_foreign_files_are_refused(file, tmp_path):
    for content in (b"", b"hello\n", bytes(4096), b"PK\5\6" + bytes(18)):
        file.write_bytes(content)
        assert "not a saved machine" in refusal(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("hello", "world")
    assert "it has no nvdimmfs.json" in refusal(file)
    with pytest.raises(FileNotFoundError):
        read_saved(tmp_path / "missing")


def test_a_later_format_is_refused(file):
    assert f"it reads {FORMAT}" in refusal(with_list(file, lambda listed: listed.update(format=FORMAT + 1)))


@pytest.mark.parametrize(
    "change",
    [
        lambda medium: medium.update(extents=[[0, 1], [0, 1]]),
        lambda medium: medium.update(extents=[[-1, 5]]),
        lambda medium: medium.update(extents=[[medium["size"], 1]]),
        lambda medium: medium.update(extents=[[0, 0]]),
        lambda medium: medium.update(extents=[[0, 1 << 60]]),
        lambda medium: medium.update(extents="all"),
        lambda medium: medium.update(start=-1),
        lambda medium: medium.update(size="x"),
        lambda medium: medium.update(name="missing"),
        lambda medium: medium.update(sha256="0"),
        lambda medium: medium.update(label_area="../../etc/passwd"),
        lambda medium: medium.clear(),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(file, change):
    assert "damaged" in refusal(with_list(file, lambda listed: change(listed["media"][0])))


@pytest.mark.parametrize("text", ["", "[]", "1", "{", '{"format": []}', "[" * 100_000, '{"format": 1, "media": 7}'])
def test_a_list_that_is_none_is_refused(file, text):
    refusal(rewritten(file, {LIST: text}))


@pytest.mark.parametrize("text", [None, "ram = 'much'\n", "\xff", "x"])
def test_a_machine_file_with_a_mistake_is_refused(file, text):
    refusal(rewritten(file, {MACHINE: None if text is None else text.encode("latin-1")}))


def test_a_file_of_this_host_is_not_read(file):
    text = '[[bus]]\n[[bus.dimm]]\nsize = "64M"\nlabel = { file = "/etc/passwd" }\n[[bus.range]]\ndimms = ["0x1"]\n'
    assert "names a file of this host" in refusal(rewritten(file, {MACHINE: text}))


def test_a_file_that_changes_after_the_check_is_refused(file):
    saved = read_saved(file)
    rewritten(file, {medium.name: b"" for medium in saved.media})
    with pytest.raises(MediaError, match=r"damaged|ends early"):
        boot(saved)
