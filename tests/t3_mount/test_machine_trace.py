"""`Machine.trace`: the calls of all processes on a mounted machine, in a test."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from nvdimmfs.testing import Machine
from nvdimmfs.traces.effects import Unbound

UNBIND = "/sys/bus/nd/drivers/nd_pmem/unbind"
SIZE = "/sys/bus/nd/devices/region0/size"

pytestmark = pytest.mark.usefixtures("fuse")


@pytest.fixture
def machine():
    with Machine(memmap="512M!4G") as machine:
        yield machine


def test_calls_with_effects(machine):
    machine.write(UNBIND, "namespace0.0")
    opened, written = machine.trace
    assert (opened.op, opened.path) == ("open", UNBIND)
    assert (written.data, written.result, written.pid) == (b"namespace0.0", 12, os.getpid())
    assert Unbound("nd_pmem", "namespace0.0") in written.effects
    machine.trace.assert_wrote(UNBIND, "namespace0.0")
    with pytest.raises(OSError, match="No such device"):
        machine.write(UNBIND, "namespace0.0")
    (refused,) = machine.trace.refused()
    assert (refused.code, refused.reason) == ("ENODEV", "namespace0.0 is not bound to nd_pmem")


def test_events_since_a_mark(machine):
    mark = machine.trace.mark()
    machine.read(SIZE)
    assert [event.op for event in machine.trace.since(mark)] == ["open", "read", "read"]
    mark = machine.trace.mark()
    machine.read(SIZE)
    assert len(machine.trace.since(mark)) == 3
    assert len(machine.trace) == 6


def test_the_tests_own_controls_are_no_writes(machine):
    machine.clock.advance(1)
    machine.trace.assert_no_writes()
    with machine.checkpoint():
        machine.write(UNBIND, "namespace0.0")
    with pytest.raises(AssertionError, match="was written to"):
        machine.trace.assert_no_writes()


def test_switching_and_clearing():
    with Machine(memmap="512M!4G", trace=False) as machine:
        assert not machine.trace.is_on
        machine.read(SIZE)
        with pytest.raises(ValueError, match="the trace is off"):
            machine.trace.assert_no_writes()
        machine.trace.start()
        assert machine.trace.is_on
        machine.read(SIZE)
        machine.trace.stop()
        machine.read(SIZE)
        assert [event.op for event in machine.trace] == ["open", "read", "read"]
        machine.trace.clear()
        machine.trace.start()
        assert list(machine.trace) == []


def test_it_has_what_the_machine_keeps(machine):
    machine.write("/sys/kernel/debug/nvdimmfs/trace", "size 5")
    for _ in range(3):
        machine.read(SIZE)
    assert len(machine.trace) == 5
    assert machine.trace.dropped == 4
    with pytest.raises(ValueError, match="has dropped"):
        machine.trace.assert_no_writes()


def test_threads_share_it(machine):
    threads = [threading.Thread(target=lambda: (machine.read(SIZE), len(machine.trace))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(machine.trace) == 12


def test_a_forked_child_reads_for_itself(machine):
    machine.read(SIZE)
    assert len(machine.trace) == 3
    child = os.fork()
    if not child:
        try:
            os._exit(0 if len(machine.trace) == 3 else 1)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    machine.read(SIZE)
    assert len(machine.trace) == 6


@pytest.mark.usefixtures("sandbox")
def test_commands_in_sandboxes(machine):
    mark = machine.trace.mark()
    assert machine.run(["cat", SIZE]).stdout == "536870912\n"
    reads = [event for event in machine.trace.since(mark) if event.command == "cat"]
    assert [event.op for event in reads] == ["open", "read", "read"]
    assert reads[0].path == "/sys/devices/platform/e820_pmem/ndbus0/region0/size"
