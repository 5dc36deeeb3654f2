"""The lab's formats: archives of guests, messages to their agent, names of QEMU's devices."""

import itertools
import random
import stat
from pathlib import Path

import pytest

from nvdimmfs.cli.main import main
from nvdimmfs.lab import device_names, frames, tools
from nvdimmfs.lab.cpio import Entry, archive, entries_below
from nvdimmfs.lab.errors import LabError


def read_archive(data):
    """An independent reader of newc: name, mode and data of each file."""
    position = 0
    while True:
        assert data[position : position + 6] == b"070701"
        fields = [int(data[position + 6 + 8 * index : position + 14 + 8 * index], 16) for index in range(13)]
        name_at = position + 110
        name = data[name_at : name_at + fields[11] - 1].decode()
        start = -(-(name_at + fields[11]) // 4) * 4
        if name == "TRAILER!!!":
            assert start == len(data)
            return
        yield name, fields[1], data[start : start + fields[6]]
        position = -(-(start + fields[6]) // 4) * 4


def test_an_archive_has_what_was_put_in():
    entries = [
        Entry.folder("etc"),
        Entry.file("etc/empty", b""),
        *(Entry.file(f"etc/{'n' * length}", bytes(range(length)), is_program=True) for length in range(1, 9)),
        Entry.link("etc/link", "../elsewhere"),
    ]
    data = b"".join(archive(entries))
    assert list(read_archive(data)) == [(entry.name, entry.mode, entry.data) for entry in entries]


def test_an_archive_of_a_folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/file").write_bytes(b"data")
    (tmp_path / "b/program").write_bytes(b"#!")
    (tmp_path / "b/program").chmod(0o700)
    (tmp_path / "a").symlink_to("b/file")
    found = {name: (mode, data) for name, mode, data in read_archive(b"".join(archive(entries_below(tmp_path))))}
    assert found == {
        "a": (stat.S_IFLNK | 0o777, b"b/file"),
        "b": (stat.S_IFDIR | 0o755, b""),
        "b/file": (stat.S_IFREG | 0o644, b"data"),
        "b/program": (stat.S_IFREG | 0o755, b"#!"),
    }
    assert list(found) == sorted(found), "a folder precedes what it contains"


@pytest.mark.parametrize("length", [0, 1, 5000])
def test_the_agent_asks_for_each_piece_of_a_message(length):
    message = {"shell": random.Random(1).randbytes(length).hex()}
    waiting = list(frames.pieces(frames.encoded(message)))
    assert all(len(piece) <= frames.PIECE for piece in waiting)
    line = bytearray(waiting.pop(0))

    def receive(count):
        assert line, "the agent waits for a piece that it has not asked for"
        data = bytes(line[: min(count, 700)])
        del line[: len(data)]
        return data

    def ask_for_next():
        assert not line, "the line may drop what is sent before all was received"
        if waiting:
            line.extend(waiting.pop(0))

    assert frames.received(receive, ask_for_next) == message


def test_a_closed_line_is_the_end():
    frame = frames.encoded({"done": True})
    parts = iter([frame[:4], frame[4:-1], b""])
    with pytest.raises(EOFError):
        frames.received(lambda _: next(parts))


def table_of_glib(names):
    """The names as a hash table of GLib 2.74 has them, by a simulation of each insertion."""
    moduli = (1, 2, 3, 7, 13, 31, 61, 127, 251, 509)

    def place(table, name):
        value = 5381
        for byte in name.encode():
            value = (value * 33 + byte) % 2**32
        position, step = value * 11 % 2**32 % moduli[len(table).bit_length() - 1], 0
        while table[position] is not None:
            step += 1
            position = (position + step) % len(table)
        table[position] = name

    table = [None] * 8
    for count, name in enumerate(names, 1):
        place(table, name)
        if len(table) <= count + count // 16:
            before = [each for each in table if each is not None]
            table = [None] * (1 << int(count * 1.333).bit_length())
            for each in before:
                place(table, each)
    return [each for each in table if each is not None]


def test_the_simulation_of_the_table_is_right():
    """The order of the handles, minus 1, in the NFIT of QEMU 7.2 with DIMMs nv0 to nv11."""
    names = [f"nv{number}" for number in range(12)]
    assert [names.index(name) for name in table_of_glib(names)] == [7, 0, 6, 10, 5, 4, 3, 9, 2, 8, 1, 11]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 13, 16, 30])
def test_devices_are_listed_in_the_order_of_their_names(count):
    names = device_names.names_in_order(count)
    orders = [names, names[::-1], random.Random(count).sample(names, count)]
    assert all(table_of_glib(order) == names for order in itertools.chain(orders))


def test_more_devices_than_places_have_names():
    assert len(set(device_names.names_in_order(14))) == 14


def test_the_packages_of_missing_programs_are_named(monkeypatch, capsys):
    monkeypatch.setattr(
        tools, "find", lambda program: None if program in ("kmod", "depmod", "strace") else Path("/bin/true")
    )
    assert tools.missing_packages() == ["kmod", "strace"]
    assert main(["doctor", "--for", "lab"]) == 1
    assert "NO  lab" in (printed := capsys.readouterr().out)
    assert "to improve it: apt-get install kmod strace\n" in printed
    with pytest.raises(LabError, match=r"strace is not installed: apt-get install strace"):
        tools.require("strace")
