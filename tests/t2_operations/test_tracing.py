"""FUSE requests in the trace of a machine, and who made them."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest
from asking import CONTEXT, READY, Asker

from nvdimmfs.fuse.callers import Callers
from nvdimmfs.fuse.peers import ProcFolder
from nvdimmfs.kernfs import TracedProcess
from nvdimmfs.machine.machine import Machine
from nvdimmfs.traces.effects import Unbound
from nvdimmfs.traces.json_lines import decoded

UNBIND = "sys/bus/nd/drivers/nd_pmem/unbind"
SIZE = "sys/devices/platform/e820_pmem/ndbus0/region0/size"
TRACE = "sys/kernel/debug/nvdimmfs/trace"


@pytest.fixture
def machine():
    machine = Machine.legacy("512M!4G", 8 << 30, clock="steps")
    yield machine
    machine.close()


@pytest.fixture
def ask(machine):
    asker = Asker(machine.tree, clock=machine.system.clock)
    yield asker
    assert asker.operations.bugs == []


def calls(machine):
    return [
        (event.op, event.path.rpartition("/")[2], event.result, event.code) for event in machine.system.recorder.events
    ]


def test_nothing_is_recorded_while_the_trace_is_off(machine, ask):
    ask.write(UNBIND, b"namespace0.0")
    ask.read(SIZE)
    assert calls(machine) == []


def test_calls_with_their_answers(machine, ask):
    machine.system.start_trace()
    ask.write(UNBIND, b"namespace0.0")
    ask.read(SIZE)
    assert calls(machine) == [
        ("open", "unbind", 0, ""),
        ("write", "unbind", 12, ""),
        ("open", "size", 0, ""),
        ("read", "size", 10, ""),
    ]
    written = machine.system.recorder.events[1]
    assert Unbound("nd_pmem", "namespace0.0") in written.effects
    assert machine.system.recorder.events[3].data == b"536870912\n"


def test_refusals_are_replied_and_recorded(machine, ask):
    machine.system.start_trace()
    assert ask.errno("open", ask.inode(SIZE), os.O_WRONLY, CONTEXT) == errno.EACCES
    handle = ask.open(UNBIND, os.O_WRONLY)
    assert ask.errno("write", handle, 0, b"no-such") == errno.ENODEV
    assert ask.errno("read", handle, 0, 10) == errno.EIO
    assert calls(machine) == [
        ("open", "size", None, "EACCES"),
        ("open", "unbind", 0, ""),
        ("write", "unbind", None, "ENODEV"),
        ("read", "unbind", None, "EIO"),
    ]
    assert machine.system.recorder.events[2].reason == "no device 'no-such' on bus nd"


def test_disks(machine, ask):
    machine.system.start_trace()
    handle = ask.open("dev/pmem0", os.O_RDWR)
    ask("write", handle, 4096, b"data")
    ask("fsync", handle, False)
    ask("read", handle, 4096, 4)
    assert ask.errno("write", handle, 1 << 40, b"data") == errno.ENOSPC
    events = machine.system.recorder.events
    assert [(event.op, event.offset, event.data, event.code) for event in events] == [
        ("open", None, b"", ""),
        ("write", 4096, b"data", ""),
        ("fsync", None, b"", ""),
        ("read", 4096, b"data", ""),
        ("write", 1 << 40, b"data", "ENOSPC"),
    ]


def test_poll_is_recorded_with_its_events(machine, ask):
    machine.system.start_trace()
    handle = ask.open(SIZE)
    ask("read", handle, 0, 100)
    ready = ask("poll", ask.inode(SIZE), handle, None, CONTEXT)
    assert ready == READY
    assert (machine.system.recorder.events[-1].op, machine.system.recorder.events[-1].result) == ("poll", READY)


def test_files_that_were_open_before_are_traced(machine, ask):
    handle = ask.open(SIZE)
    machine.system.start_trace()
    ask("read", handle, 0, 100)
    assert calls(machine) == [("read", "size", 10, "")]


def test_a_removed_file_has_its_name(machine, ask):
    handle = ask.open("sys/devices/virtual/bdi/259:0/read_ahead_kb", os.O_WRONLY)
    ask.write(UNBIND, b"namespace0.0")
    machine.system.start_trace()
    assert ask.errno("write", handle, 0, b"1") == errno.ENODEV
    assert machine.system.recorder.events[0].path == "read_ahead_kb"


class TestTheFile:
    def test_it_is_read_piece_by_piece_and_adds_nothing(self, machine, ask):
        machine.system.start_trace()
        handle = ask.open(f"{TRACE}.jsonl")
        ask.read(SIZE)
        head = json.loads(ask("read", handle, 0, 20) + ask("read", handle, 20, 1 << 20).partition(b"\n")[0])
        assert head["trace"] == {"version": 1, "on": True, "size": 10000, "recorded": 2, "dropped": 0}
        assert ask("read", handle, 0, 1 << 20) == b""
        assert len(calls(machine)) == 2

    def test_poll_reports_what_is_new(self, machine, ask):
        machine.system.start_trace()
        inode, handle = ask.inode(TRACE), ask.open(TRACE)
        poll = lambda: ask("poll", inode, handle, None, CONTEXT)  # noqa: E731
        assert poll() == READY
        ask("read", handle, 0, 1 << 20)
        assert poll() != READY
        ask.read(SIZE)
        assert poll() == READY
        assert ask("read", handle, 0, 1 << 20).count(b"\n") == 2
        assert poll() != READY

    def test_following_ends_with_the_file(self, machine, ask):
        handle = ask.open(TRACE, os.O_RDWR)
        assert ask("write", handle, 0, b"follow\n") == 7
        ask.read(SIZE)
        ask("release", handle)
        ask.read(SIZE)
        assert len(calls(machine)) == 2
        assert machine.system.trace is None
        assert machine.system.recorder.listeners == []

    def test_orders(self, machine, ask):
        for order in (b"on", b"size 2\n"):
            ask.write(TRACE, order)
        ask.read(SIZE)
        ask.read(SIZE)
        ask.write(TRACE, b"off")
        ask.read(SIZE)
        lines = ask.read(f"{TRACE}.jsonl").splitlines()
        assert json.loads(lines[0])["trace"] == {"version": 1, "on": False, "size": 2, "recorded": 4, "dropped": 2}
        assert [decoded(line).number for line in lines[1:]] == [3, 4]
        ask.write(TRACE, b"clear")
        assert ask.read(TRACE) == b"--- the trace is off, with room for 2 lines ---\n"

    @pytest.mark.parametrize(
        "order", [b"", b"x", b"size", b"size 0", b"size 1000001", b"size -1", b"on off", b"\xff\0"]
    )
    def test_any_other_order_is_refused(self, machine, ask, order):
        handle = ask.open(TRACE, os.O_WRONLY)
        assert ask.errno("write", handle, 0, order) == errno.EINVAL

    def test_a_slow_reader_learns_what_it_has_missed(self, machine, ask):
        ask.write(TRACE, b"on")
        ask.write(TRACE, b"size 3")
        handle = ask.open(TRACE)
        ask("read", handle, 0, 1 << 20)
        for _ in range(4):
            ask.read(SIZE)
        lines = ask("read", handle, 0, 1 << 20).decode().splitlines()
        assert lines[0] == "--- 5 events were dropped ---"
        assert len(lines) == 4


class TestCallers:
    @pytest.fixture
    def named(self):
        """Gives this thread a name, until the end of the test."""
        comm = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
        before = comm.read_bytes().removesuffix(b"\n")
        yield comm.write_bytes
        comm.write_bytes(before)

    @pytest.mark.parametrize(
        ("name", "seen"),
        [
            (b"plain", "plain"),
            (b"a\nTgid:\t1", "a\nTgid:\t1"),
            (b"back\\slash\\n", "back\\slash\\n"),
            (b"\x1b[2J\r\xff", "\x1b[2J\r\udcff"),
            (b"two  words", "two  words"),
        ],
    )
    def test_names_are_what_the_process_has_chosen(self, named, name, seen):
        named(name)
        assert ProcFolder().identity(os.getpid()) == (os.getpid(), seen)

    def test_a_thread_belongs_to_its_process(self):
        found = []
        thread = threading.Thread(target=lambda: found.append(ProcFolder().identity(threading.get_native_id())))
        thread.start()
        thread.join()
        assert found[0][0] == os.getpid()

    def test_a_process_that_cannot_be_seen_has_no_name(self):
        process = os.fork()
        if not process:
            os._exit(0)
        os.waitid(os.P_PID, process, os.WEXITED)
        assert ProcFolder().identity(process) == (process, "")
        assert ProcFolder().identity(0) == (None, "")

    def test_each_is_looked_up_once_and_the_last_ones_are_kept(self):
        class Proc:
            def __init__(self):
                self.looks = []

            def identity(self, thread):
                self.looks.append(thread)
                return thread, ""

        proc = Proc()
        callers = Callers(proc)
        for thread in (1, 2, 1, 1, 2):
            assert callers.of_thread(thread) == TracedProcess(thread)
        assert proc.looks == [1, 2]
        for thread in range(1000):
            callers.of_thread(thread)
        assert len(callers._known) <= 256
        callers.of_thread(999)
        assert proc.looks.count(999) == 1


def test_the_thread_of_a_request_is_looked_up(machine):
    asker = Asker(machine.tree, clock=machine.system.clock)
    machine.system.start_trace()
    handle = asker.open(SIZE)
    asker.operations._files[handle].opener = os.getpid()
    asker("read", handle, 0, 10)
    event = machine.system.recorder.events[-1]
    assert event.pid == os.getpid()
    assert event.command == Path("/proc/self/comm").read_text().removesuffix("\n")
