"""Ioctls of a sandbox in the trace: a conversation, between whose messages other calls are carried out."""

from __future__ import annotations

import pytest

from nvdimmfs.formats import control
from nvdimmfs.kernfs import TracedProcess
from nvdimmfs.kernfs.open_file import open_node
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine

GET_SIZE = 0xC00C4E04
CHANNEL = "sys/kernel/debug/nvdimmfs/control"


@pytest.fixture
def machine():
    machine = Machine.described(load_machine("nfit_test"), clock="steps")
    machine.system.start_trace()
    machine.tree.caller_of = lambda thread: TracedProcess(thread, f"thread {thread}")
    yield machine
    machine.close()


class Sandbox:
    """One open file of the control channel."""

    def __init__(self, machine):
        self.file = open_node(machine.tree.root.find(CHANNEL), 2)

    def ask(self, message):
        self.file.write(0, control.encode(message))
        return control.decode(self.file.read(0, 1 << 20))

    def ioctl(self, machine, name, request=GET_SIZE, thread=77, ahead=b""):
        number = next(number for number, device in machine.system.numbered.items() if device.name == name)
        where = (number.kind, number.major, number.minor)
        return self.ask(control.Ioctl(*where, request, 0, writable=True, privileged=True, thread=thread, ahead=ahead))


def test_two_conversations_at_a_time(machine):
    first, second = Sandbox(machine), Sandbox(machine)
    replies = {first: first.ioctl(machine, "nmem0", thread=1), second: second.ioctl(machine, "nmem1", thread=2)}
    for sandbox in (second, first):
        reply = replies[sandbox]
        assert isinstance(reply, control.ReadMemory)
        while not isinstance(reply, control.Result):
            reply = sandbox.ask(control.Copied(bytes(reply.length) if isinstance(reply, control.ReadMemory) else b""))
    events = machine.system.recorder.events
    assert [(event.path, event.pid, event.command) for event in events] == [
        ("/dev/nmem1", 2, "thread 2"),
        ("/dev/nmem0", 1, "thread 1"),
    ]
    assert all(event.request == f"GET_SIZE ({GET_SIZE:#x})" for event in events)
    assert all((event.data_size, event.output_size) == (12, 12) for event in events)


def test_how_the_last_write_ends_is_awaited(machine):
    """Without a trace it is reported only if it fails."""
    sandbox = Sandbox(machine)
    write = sandbox.ioctl(machine, "nmem0", ahead=bytes(12))
    assert isinstance(write, control.WriteMemory)
    assert not write.is_last
    assert not machine.system.recorder.events
    assert sandbox.ask(control.Copied(b"")) == control.Result(0)
    (event,) = machine.system.recorder.events
    assert (event.data_size, event.output_size, event.result) == (12, 12, 0)


def test_a_caller_that_ends_before_the_answer(machine):
    sandbox = Sandbox(machine)
    sandbox.ioctl(machine, "nmem0")
    sandbox.file.session.close()
    del sandbox
    (event,) = machine.system.recorder.events
    assert (event.op, event.result, event.errno) == ("ioctl", None, None)


def test_a_fault(machine):
    sandbox = Sandbox(machine)
    sandbox.ioctl(machine, "nmem0")
    assert isinstance(sandbox.ask(control.Fault()), control.Refused)
    (event,) = machine.system.recorder.events
    assert event.code == "EFAULT"


def test_a_device_that_has_gone(machine):
    refused = Sandbox(machine).ask(
        control.Ioctl("char", 240, 17, GET_SIZE, 0, writable=True, privileged=True, thread=5)
    )
    assert isinstance(refused, control.Refused)
    (event,) = machine.system.recorder.events
    assert (event.path, event.code, event.pid) == ("/dev/char/240:17", "ENODEV", 5)


def test_modules(machine):
    sandbox = Sandbox(machine)
    assert isinstance(sandbox.ask(control.Unload("nfit_test", 9)), control.Refused)
    assert sandbox.ask(control.Load("nd_e820", 9)) == control.Result(0)
    unloaded, loaded = machine.system.recorder.events
    assert (unloaded.op, unloaded.path, unloaded.code, unloaded.pid) == ("unload", "/sys/module/nfit_test", "EAGAIN", 9)
    assert (loaded.op, loaded.path, loaded.result) == ("load", "/sys/module/nd_e820", 0)
