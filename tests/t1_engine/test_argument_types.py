"""Arguments of wrong types are refused in one line that says what would be right, in Python's public names."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.machine_file.model import BusDescription, DimmDescription, MachineDescription, MappingDescription
from nvdimmfs.machine_file.model import RangeDescription as Range
from nvdimmfs.testing import Engine


def described(**parts):
    return MachineDescription(buses=[BusDescription(**parts)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"machine": 5}, "machine must be a name, a path or a MachineDescription, not 5"),
        ({"machine": b"e820"}, "machine must be a name, a path or a MachineDescription, not b'e820'"),
        ({"memmap": 5}, "memmap must be a text, not 5"),
        ({"memmap": ["512M!4G"]}, r"memmap must be a text, not \['512M!4G'\]"),
        ({"ram": 1.5}, r"ram must be a number of bytes or a text, not 1\.5"),
        ({"ram": True}, "ram must be a number of bytes or a text, not True"),
        ({"kernel": 6.1}, r"kernel must be a text, not 6\.1"),
        ({"clock": 5}, "clock must be a text, not 5"),
        ({"media": 5}, "media must be a text or an os.PathLike of one, not 5"),
        ({"media": b"folder"}, "media must be a text or an os.PathLike of one, not b'folder'"),
        ({"machine": MachineDescription(memmap=5)}, "memmap must be a text, not 5"),
        ({"machine": MachineDescription(memmap={})}, "memmap must be a text, not {}"),
        ({"machine": MachineDescription(buses=5)}, "buses must be a list or a tuple, not 5"),
        ({"machine": MachineDescription(buses=[5])}, r"buses\[0\] must be of the class BusDescription, not 5"),
        ({"machine": MachineDescription(clock="steps")}, "clock must be of the class ClockMode, not 'steps'"),
        (
            {"machine": described(dimms=[DimmDescription(size="1G")])},
            r"buses\[0\]\.dimms\[0\]\.size must be a whole number, not '1G'",
        ),
        (
            {"machine": described(ranges=[Range(mappings=[MappingDescription("a", dpa=True)])])},
            r"buses\[0\]\.ranges\[0\]\.mappings\[0\]\.dpa must be a whole number, not True",
        ),
    ],
)
def test_of_a_machine(arguments, message):
    with pytest.raises(TypeError, match=f"^{message}$"):
        Engine(**arguments)


def test_a_folder_of_media_has_a_name():
    with pytest.raises(ValueError, match=r"^media '': must be the path of a folder$"):
        Engine(media="")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_machine(5), "a machine must be a name or a path, not 5"),
        (lambda: Machine.described(5), "description must be a MachineDescription, not 5"),
        (lambda: Machine.legacy("64M!4G", "4G"), "ram must be a whole number, not '4G'"),
        (lambda: Machine.legacy("64M!4G", 1 << 32, media="x"), "media must be a Path, not 'x'"),
    ],
)
def test_of_other_public_names(call, message):
    with pytest.raises(TypeError, match=f"^{message}$"):
        call()


DISK = Path("/dev/pmem0")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda engine: engine.read(5), "path must be a text or an os.PathLike of one, not 5"),
        (lambda engine: engine.ls(b"/"), "path must be a text or an os.PathLike of one, not b'/'"),
        (lambda engine: engine.exists(b"/"), "path must be a text or an os.PathLike of one, not b'/'"),
        (lambda engine: engine.read_bytes(DISK, "0"), "offset must be a whole number, not '0'"),
        (lambda engine: engine.read_bytes(DISK, 0, 1.5), r"size must be a whole number, not 1\.5"),
        (lambda engine: engine.write(DISK, "x", 1.5), r"offset must be a whole number, not 1\.5"),
        (lambda engine: engine.ioctl(DISK, "x", b""), "request must be a whole number, not 'x'"),
        (lambda engine: engine.ioctl(DISK, 1, 5), "argument must be bytes or a bytearray, not 5"),
        (lambda engine: engine.ioctl(DISK, 1, b"", flags="x"), "flags must be a number, not 'x'"),
        (lambda engine: engine.plug(5), "text must be a text, not 5"),
        (lambda engine: engine.fail(5, "read", "EIO"), "path must be a text or an os.PathLike of one, not 5"),
        (lambda engine: engine.fail("sys", 5, "EIO"), "op must be a text, not 5"),
        (lambda engine: engine.fail("sys", "read", 1.5), r"errno must be a number or a name, not 1\.5"),
        (lambda engine: engine.diff(5), "before must be the text of a dump, not 5"),
        (lambda engine: engine.clock.advance("1"), "seconds must be a number, not '1'"),
        (lambda engine: engine.modules.load(["x"]), r"name must be a text, not \['x'\]"),
        (lambda engine: engine.modules.unload(5), "name must be a text, not 5"),
        (lambda engine: engine.trace.since("x"), "mark must be a whole number, not 'x'"),
        (lambda engine: engine.trace.writes(5), "path must be a text or an os.PathLike of one, not 5"),
    ],
)
def test_of_a_call(call, message):
    with Engine(memmap="64M!4G") as engine, pytest.raises(TypeError, match=f"^{message}$"):
        call(engine)


def test_offsets_that_no_system_call_takes():
    with Engine(memmap="64M!4G") as engine:
        for offset in (-1, 1 << 63):
            with pytest.raises(OSError, match="Invalid argument: '/dev/pmem0'") as read:
                engine.read_bytes("/dev/pmem0", offset)
            with pytest.raises(OSError, match="Invalid argument: '/dev/pmem0'"):
                engine.write("/dev/pmem0", b"x", offset)
            assert read.value.__notes__ == [f"the offset {offset} is not from 0 to 9223372036854775807"]
        with pytest.raises(ValueError, match=r"^size must be 0 or more, not -1$"):
            engine.read_bytes("/dev/pmem0", 0, -1)


@pytest.mark.parametrize("seconds", [1e30, float("inf"), float("nan")])
def test_a_time_that_no_clock_counts(seconds):
    with Engine(memmap="64M!4G") as engine, pytest.raises(ValueError, match=r"must be a time of at most 9223372036 s$"):
        engine.clock.advance(seconds)


def test_a_refused_plug_names_the_file_from_the_root_on():
    with Engine(memmap="64M!4G") as engine, pytest.raises(OSError, match="Invalid argument") as refusal:
        engine.plug("garbage")
    assert refusal.value.filename == "/sys/kernel/debug/nvdimmfs/plug"
