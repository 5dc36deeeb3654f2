"""Garbage, crowds and broken promises on the control channel of a real mount: the daemon lives, and finds no bug."""

import contextlib
import errno
import json
import os
import random
import threading

import pytest
from mounting import MACHINE

from nvdimmfs.formats import control

CHANNEL = "sys/kernel/debug/nvdimmfs/control"
GET_SIZE = 0xC00C4E04


def get_size(major, minor):
    return control.Ioctl("char", major, minor, GET_SIZE, 0, writable=True, privileged=True)


@pytest.fixture
def machine(new_mount):
    return new_mount(MACHINE, "--machine", "qemu-nfit")


@contextlib.contextmanager
def session(mount, flags=os.O_RDWR):
    channel = os.open(mount.directory / CHANNEL, flags)
    try:
        yield channel
    finally:
        os.close(channel)


def send(channel, message):
    """Send a message; returns the errno, or 0."""
    try:
        assert os.write(channel, message) == len(message)
    except OSError as failure:
        return failure.errno
    return 0


def ask(channel, question):
    os.write(channel, control.encode(question))
    return control.decode(os.read(channel, 1 << 18))


def number_of(mount, name):
    (place,) = (mount.directory / "sys/devices").rglob(f"{name}/dev")
    major, _, minor = place.read_text().partition(":")
    return int(major), int(minor)


def lives(mount):
    """It answers, and to the point."""
    with session(mount) as channel:
        answer = ask(channel, get_size(*number_of(mount, "nmem0")))
        while isinstance(answer, control.ReadMemory):
            answer = ask(channel, control.Copied(bytes(answer.length)))
        assert isinstance(answer, control.WriteMemory)
        assert ask(channel, control.Copied(b"")) == control.Result(0)
    return (mount.directory / "sys/bus/nd/devices/region0/mappings").read_text() == "1\n"


def garbage():
    """Messages that are none: bytes by chance, parts of real ones, real ones with a field of another kind."""
    chance = random.Random(20)
    real = [
        get_size(1, 2),
        control.Copied(b"abc"),
        control.Renumber("char", 1, 2, 3, 4),
        control.Watch(("", "bus")),
        control.Done(1),
        control.Load("nd_pmem"),
    ]
    for length in (1, 2, 80, 4096, 1 << 16, 1 << 17):
        yield chance.randbytes(length)
        yield b"[" * length
        yield b"1" * length
    for message in real:
        text = control.encode(message)
        for cut in range(1, len(text)):
            yield text[:cut]
        yield text + text
        ((kind, fields),) = json.loads(text.partition(b"\n")[0]).items()
        for name in fields:
            for value in (None, [], {}, -1.5, "\ud800", [[[]]], True, "=", 1):
                if type(value) is not type(fields[name]):
                    yield json.dumps({kind: fields | {name: value}}).encode()
    yield from (
        b"null",
        b"{}",
        b'{"Ioctl":null}',
        b'{"Message":{}}',
        b'{"Copied":{"data":"\xff"}}',
        b"\xff\xfe{}",
        b"\0",
    )


def test_garbage_is_refused(machine):
    with session(machine) as channel:
        assert {send(channel, message) for message in garbage()} == {errno.EINVAL}
        assert os.read(channel, 4096) == b""
    assert lives(machine)


def test_messages_that_are_too_long(machine):
    """A write of many megabytes comes in parts, none of which is a message."""
    long = control.encode(control.Copied(bytes(4 << 20)))
    with session(machine) as channel:
        assert send(channel, long) == errno.EINVAL
        assert send(channel, b"\0" * (16 << 20)) == errno.EINVAL
    assert lives(machine)


#: What only a machine says, or what nobody asked for, or what names nothing.
UNEXPECTED = (
    control.Copied(b""),
    control.Fault(),
    control.Done(1),
    control.ReadMemory(0, 1),
    control.WriteMemory(0, b""),
    control.Result(0),
    control.Refused(1, ""),
    control.DeviceEvent(1, ()),
    control.EntryEvent(1, "", True),
    control.StaleDiskEvent(1, ""),
    get_size(-1, 1 << 200),
    control.Ioctl("pipe", 0, 0, -5, 1 << 200, writable=False, privileged=False),
    control.Load(""),
    control.Load("\ud800/../\0" * 1000),
    control.Unload("libnvdimm"),
    control.Renumber("pipe", 0, 0, 0, 0),
    control.Renumber("char", 10**80, -1, 5, 5),
    control.Watch(("no/such",)),
    control.Watch(("../..", "/", "bus/nd/../nd")),
    control.Watch(("bus/nd/drivers_autoprobe",)),
)


def test_numbers_that_devices_cannot_have_are_left_out(machine):
    own = number_of(machine, "nmem0")
    changes = (("pipe", 0, 0, 0, 0), ("char", 10**80, -1, 5, 5), ("char", *own, 10**80, -1))
    with session(machine) as channel:
        assert ask(channel, control.RenumberAll(changes)) == control.Result(0)
    assert number_of(machine, "nmem0") == own


def test_a_message_out_of_turn_is_refused(machine):
    for message in UNEXPECTED:
        with session(machine) as channel:
            assert isinstance(ask(channel, message), control.Refused), message
            assert os.read(channel, 4096) == b"", message
        assert lives(machine), message


def test_a_number_that_cannot_be_is_refused(machine):
    old = number_of(machine, "nmem0")
    for new in ((-1, 0), (0, -1), (1 << 12, 0), (0, 1 << 20), (10**80, 10**80)):
        with session(machine) as channel:
            assert ask(channel, control.Renumber("char", *old, *new)).errno == errno.EINVAL, new
        assert number_of(machine, "nmem0") == old, new


def test_a_number_that_is_taken_is_refused(machine):
    old = number_of(machine, "nmem0")
    with session(machine) as channel:
        assert ask(channel, control.Renumber("char", *old, *number_of(machine, "nmem1"))).errno == errno.EBUSY
    assert number_of(machine, "nmem0") == old
    assert lives(machine)


@pytest.mark.parametrize("data", [b"", bytes(1 << 16)])
def test_an_answer_that_was_not_asked_for_ends_the_ioctl(machine, data):
    number = number_of(machine, "nmem0")
    with session(machine) as channel:
        assert isinstance(ask(channel, get_size(*number)), control.ReadMemory)
        assert ask(channel, control.Copied(data)).errno == errno.EINVAL
        assert ask(channel, control.Fault()).errno == errno.EINVAL
    assert lives(machine)


def test_hanging_up_in_the_middle_of_an_ioctl(machine):
    number = number_of(machine, "nmem0")
    for _ in range(50):
        with session(machine) as channel:
            assert isinstance(ask(channel, get_size(*number)), control.ReadMemory)
    assert lives(machine)


def test_many_sessions_at_once(machine):
    with contextlib.ExitStack() as stack:
        channels = [stack.enter_context(session(machine)) for _ in range(300)]
        for channel in channels:
            assert send(channel, control.encode(control.Watch(("",)))) == 0
        answering = threading.Thread(target=lambda: [_answer_events(channel) for channel in channels])
        write = threading.Thread(
            target=(machine.directory / "sys/bus/nd/drivers/nd_pmem/unbind").write_text, args=("namespace0.0",)
        )
        write.start()
        answering.start()
        write.join()
        answering.join()
        assert lives(machine)


def _answer_events(channel):
    """Wait for the disk's end and act on everything so far."""
    events = []
    while not any("pmem" in str(event) for event in events):
        data = os.read(channel, 1 << 18)
        if data:
            events.append(control.decode(data))
    os.write(channel, control.encode(control.Done(1 << 62)))


def test_a_watcher_that_never_answers(machine):
    machine.may_log_warnings = True
    with session(machine) as channel:
        assert send(channel, control.encode(control.Watch(("", "bus")))) == 0
        (machine.directory / "sys/bus/nd/drivers/nd_pmem/unbind").write_text("namespace0.0")
        (machine.directory / "sys/bus/nd/drivers/nd_pmem/bind").write_text("namespace0.0")
        assert lives(machine)
    loud = machine.unexpected_lines()
    assert loud
    assert all("has not acted on a change" in line for line in loud), loud


def test_a_storm_of_opening_and_closing(machine):
    def storm():
        for flags in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY) * 60:
            with session(machine, flags) as channel:
                if flags == os.O_RDWR:
                    send(channel, control.encode(control.Watch(("",))))
                    send(channel, b"garbage")

    threads = [threading.Thread(target=storm) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lives(machine)
