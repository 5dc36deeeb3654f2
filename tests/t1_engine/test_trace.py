"""The trace of an engine: calls with their answers, and what the kernel did because of them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import jsonschema
import pytest

from nvdimmfs.core.trace import KEPT, KEPT_OF_WRITE
from nvdimmfs.testing import Engine
from nvdimmfs.traces.effects import (
    Claimed,
    DeviceAdded,
    DeviceRemoved,
    InfoBlockWritten,
    LabelIndexWritten,
    LabelWritten,
    ModuleLoaded,
    ModuleUnloaded,
    PagesRegistered,
    PagesRemoved,
    Probed,
    Released,
    UeventSent,
    Unbound,
    WorkDone,
)
from nvdimmfs.traces.json_lines import decoded, line_of

ND = "/sys/bus/nd"
BIND, UNBIND = f"{ND}/drivers/nd_pmem/bind", f"{ND}/drivers/nd_pmem/unbind"
REGION = "/sys/devices/platform/e820_pmem/ndbus0/region0"
UUID = "01234567-89ab-cdef-0123-456789abcdef"
GET_CONFIG_SIZE, SET_CONFIG_DATA, ARS_START = 0xC00C4E04, 0xC00C4E06, 0xC0144E02


@pytest.fixture
def engine():
    with Engine(memmap="512M!4G") as engine:
        yield engine


def configure(engine, kind="pfn", **values):
    engine.write(UNBIND, "namespace0.0")
    for name, value in values.items():
        engine.write(f"{ND}/devices/{kind}0.0/{name}", value)


def effects_of_last(engine, *kinds):
    return [each for each in engine.trace[-1].effects if isinstance(each, kinds)]


class TestCalls:
    def test_a_write_is_an_open_and_a_write(self, engine):
        engine.write(UNBIND, "namespace0.0\n")
        opened, written = engine.trace
        assert (opened.op, opened.path, opened.flags, opened.result) == ("open", UNBIND, "O_WRONLY", 0)
        assert (written.op, written.path, written.data, written.size) == ("write", UNBIND, b"namespace0.0\n", 13)
        assert (written.result, written.errno, written.reason) == (13, None, "")
        assert (opened.number, written.number) == (1, 2)
        assert written.pid == os.getpid()
        assert written.command == Path("/proc/self/comm").read_text().removesuffix("\n")
        assert 0 <= opened.time <= written.time <= engine.clock.now
        assert opened.host_time <= written.host_time

    def test_a_read_is_followed_to_its_end(self, engine):
        engine.read(f"{REGION}/size")
        assert [(event.op, event.data, event.result, event.offset) for event in engine.trace[1:]] == [
            ("read", b"536870912\n", 10, 0),
            ("read", b"", 0, 10),
        ]

    def test_refusals_have_errno_and_reason(self, engine):
        with pytest.raises(OSError, match="No such device"):
            engine.write(UNBIND, "namespace7.0")
        with pytest.raises(PermissionError):
            engine.write(f"{REGION}/size", "1")
        written, opened = engine.trace.refused()
        assert (written.code, written.reason) == ("ENODEV", "no device 'namespace7.0' on bus nd")
        assert (opened.op, opened.errno, opened.result) == ("open", errno.EACCES, None)
        assert opened.reason == f"{REGION}/size is not writable"

    def test_the_reason_names_the_refusal_of_the_probe_behind_it(self):
        with Engine(memmap="512M!4G", kernel="4.3") as engine:
            configure(engine)
            with pytest.raises(OSError, match=r".") as refusal:
                engine.write(BIND, "pfn0.0")
            assert "because of" in engine.trace[-1].reason
            assert engine.trace[-1].reason == "; ".join(refusal.value.__notes__)

    def test_long_data_is_cut_and_counted(self, engine):
        with pytest.raises(OSError, match=r"."):
            engine.write(f"{ND}/drivers/nd_pmem/bind", "x" * 5000)
        event = engine.trace[-1]
        assert (len(event.data), event.data_size, event.size) == (KEPT_OF_WRITE, 5000, 5000)
        engine.write("/dev/pmem0", b"y" * 5000)
        assert engine.read_bytes("/dev/pmem0", 0, 5000) == b"y" * 5000
        event = engine.trace[-1]
        assert (len(event.data), event.data_size, event.result) == (KEPT, 5000, 5000)

    def test_a_removed_file_has_its_name(self, engine):
        """As a program sees it that holds the file open."""
        from nvdimmfs.kernfs.open_file import open_node
        from nvdimmfs.kernfs.traced_calls import traced_write

        tree = engine._machine.tree
        file = open_node(tree.root.find("sys/devices/virtual/bdi/259:0/read_ahead_kb"), os.O_WRONLY)
        engine.write(UNBIND, "namespace0.0")
        with pytest.raises(Exception, match="ENODEV"):
            traced_write(tree.tracer, file, 0, b"1")
        assert (engine.trace[-1].path, engine.trace[-1].code) == ("read_ahead_kb", "ENODEV")

    def test_the_debug_folder_is_traced_but_not_its_channels(self, engine):
        engine.write("/sys/kernel/debug/nvdimmfs/fail_altmap", "1")
        assert [event.op for event in engine.trace] == ["open", "write"]
        with pytest.raises(OSError, match="Invalid argument"):
            engine.write("/sys/kernel/debug/nvdimmfs/control", "x")
        assert len(engine.trace) == 2


class TestIoctls:
    @pytest.fixture
    def engine(self):
        with Engine("qemu-nfit-labelled") as engine:
            yield engine

    def test_both_directions(self, engine):
        engine.ioctl("/dev/nmem0", GET_CONFIG_SIZE, bytes(12))
        (event,) = engine.trace
        assert (event.op, event.path, event.request) == ("ioctl", "/dev/nmem0", f"GET_SIZE ({GET_CONFIG_SIZE:#x})")
        assert (event.data, event.data_size, event.result) == (bytes(12), 12, 0)
        assert event.output[:8] == bytes(4) + (128 << 10).to_bytes(4, "little")
        assert event.output_size == 12

    def test_a_refusal(self, engine):
        with pytest.raises(OSError, match="busy"):
            engine.ioctl("/dev/nmem0", SET_CONFIG_DATA, bytes(12))
        (event,) = engine.trace
        assert (event.code, event.request) == ("EBUSY", f"SET_DATA ({SET_CONFIG_DATA:#x})")
        assert event.reason == "nmem0 is in use: its labels belong to the kernel"

    def test_a_fault_in_the_middle(self, engine):
        with pytest.raises(OSError, match="Bad address"):
            engine.ioctl("/dev/nmem0", GET_CONFIG_SIZE, bytes(8))
        assert engine.trace[-1].code == "EFAULT"

    def test_a_number_without_a_name(self, engine):
        with pytest.raises(OSError, match=r"."):
            engine.ioctl("/dev/nmem0", 0xC00C4EFF, bytes(12))
        assert engine.trace[-1].request == "0xc00c4eff"

    def test_a_disk(self):
        with Engine(memmap="512M!4G") as engine:
            with pytest.raises(OSError, match=r"."):
                engine.ioctl("/dev/pmem0", 0x1234, bytes(12))
            assert (engine.trace[-1].request, engine.trace[-1].code) == ("0x1234", "ENOTTY")
            engine.ioctl("/dev/pmem0", 0x125D, bytes(4))
            assert (engine.trace[-1].request, engine.trace[-1].result) == ("BLKROSET (0x125d)", 0)


class TestEffects:
    def test_claim_and_release(self, engine):
        configure(engine, uuid=UUID, mode="pmem", namespace="namespace0.0")
        assert effects_of_last(engine, Claimed) == [Claimed("pfn0.0", "namespace0.0")]
        engine.write(f"{ND}/devices/pfn0.0/namespace", "")
        assert engine.trace[-1].effects == ()  # nothing is written

    def test_a_released_claim(self, engine):
        configure(engine, uuid=UUID, mode="pmem", namespace="namespace0.0")
        engine.write(f"{ND}/devices/pfn0.0/namespace", "\n")
        assert effects_of_last(engine, Released) == [Released("pfn0.0", "namespace0.0")]

    def test_a_bind_and_what_is_part_of_the_probe(self, engine):
        configure(engine, uuid=UUID, mode="pmem", namespace="namespace0.0")
        engine.write(BIND, "pfn0.0")
        effects = engine.trace[-1].effects
        start, end = 4 << 30, (4 << 30) + (512 << 20) - 1
        assert effects[:3] == (
            Probed("nd_pmem", "pfn0.0"),
            InfoBlockWritten("pfn0.0", "namespace0.0", 4096, 4096, depth=1),
            PagesRegistered("pfn0.0", start, end, "media", depth=1),
        )
        assert DeviceAdded(f"{REGION}/pfn0.0/block/pmem0", depth=1) in effects
        assert DeviceAdded(f"{REGION}/pfn0.1") in effects
        assert Probed("nd_pmem", "pfn0.1", errno.ENODEV, "pfn0.1 has no namespace") in effects
        engine.write(UNBIND, "pfn0.0")
        assert effects_of_last(engine, PagesRemoved, Unbound) == [
            PagesRemoved("pfn0.0", start, end),
            Unbound("nd_pmem", "pfn0.0"),
        ]

    def test_struct_pages_in_ram(self, engine):
        configure(engine, uuid=UUID, mode="ram", namespace="namespace0.0")
        engine.write(BIND, "pfn0.0")
        assert [each.memmap for each in effects_of_last(engine, PagesRegistered)] == ["RAM"]

    def test_a_refused_probe(self, engine):
        configure(engine)
        with pytest.raises(OSError, match=r"."):
            engine.write(BIND, "pfn0.0")
        assert engine.trace[-1].effects == (Probed("nd_pmem", "pfn0.0", errno.ENODEV, "pfn0.0 has no namespace"),)

    def test_an_arena_has_two_info_blocks(self, engine):
        configure(engine, "btt", uuid=UUID, sector_size=4096, namespace="namespace0.0")
        engine.write(BIND, "btt0.0")
        offsets = [each.offset for each in effects_of_last(engine, InfoBlockWritten)]
        assert sorted(offsets) == [4096, (512 << 20) - 4096]
        engine.write(UNBIND, "btt0.0")
        engine.write(BIND, "btt0.0")
        assert effects_of_last(engine, InfoBlockWritten) == []  # it was found

    def test_uevents_are_those_that_are_sent(self, engine):
        engine.events.new()
        engine.write(UNBIND, "namespace0.0")
        sent = [(each.action, each.devpath, each.properties["SEQNUM"]) for each in engine.events.new()]
        assert sent
        assert sent == [(each.action, each.devpath, str(each.sequence)) for each in effects_of_last(engine, UeventSent)]

    def test_devices_that_go(self, engine):
        engine.write(UNBIND, "namespace0.0")
        assert DeviceRemoved(f"{REGION}/namespace0.0/block/pmem0") in engine.trace[-1].effects

    def test_labels(self):
        with Engine("qemu-nfit-labelled") as engine:
            engine.write(f"{ND}/devices/namespace0.0/uuid", UUID)
            engine.write(f"{ND}/devices/namespace0.0/size", 64 << 20)
            labels = effects_of_last(engine, LabelWritten, LabelIndexWritten)
            assert labels[0] == LabelWritten("nmem1", 0, UUID)
            assert isinstance(labels[1], LabelIndexWritten)
            assert labels[1].dimm == "nmem1"
            last = [each for each in labels if isinstance(each, LabelIndexWritten)][-1]
            assert last.free == int(engine.read(f"{ND}/devices/nmem1/available_slots")) + 1

    def test_modules(self, engine):
        engine.modules.unload("nd_pmem")
        event = engine.trace[-1]
        assert (event.op, event.path, event.result) == ("unload", "/sys/module/nd_pmem", 0)
        assert ModuleUnloaded("nd_pmem") in event.effects
        assert Unbound("nd_pmem", "namespace0.0") in event.effects
        with pytest.raises(FileNotFoundError):
            engine.modules.unload("nd_pmem")
        assert (engine.trace[-1].op, engine.trace[-1].code) == ("unload", "ENOENT")
        engine.modules.load("nd_pmem")
        assert (engine.trace[-1].op, engine.trace[-1].result) == ("load", 0)
        assert {ModuleLoaded("nd_pmem"), Probed("nd_pmem", "namespace0.0")} <= set(engine.trace[-1].effects)

    def test_work_that_is_due_without_a_call(self):
        with Engine("nfit_test") as engine:
            (pending, *_) = engine.clock.pending
            engine.clock.advance(3600)
            event = engine.trace[0]
            assert (event.op, event.path, event.pid, event.result) == ("kernel", "", None, None)
            assert event.effects[0] == WorkDone(pending.what, pending.due)
            assert all(each.depth for each in event.effects[1:])

    def test_work_that_is_due_during_a_call_is_part_of_it(self):
        with Engine("nfit_test", clock="steps") as engine:
            (pending, *_) = engine.clock.pending
            engine.clock.advance(pending.due - engine.clock.now - 0.0001)
            engine.read(f"{ND}/devices/region0/size")
            read = engine.trace[1]
            assert (read.op, read.effects[0]) == ("read", WorkDone(pending.what, pending.due))


class TestRing:
    def test_the_oldest_events_are_dropped_and_counted(self, engine):
        recorder = engine._machine.system.recorder
        recorder.resize(10)
        for _ in range(10):
            engine.read_bytes(f"{REGION}/size", 0, 1)  # two events without effects
        assert len(engine.trace) == 10
        assert engine.trace.dropped == 10
        assert [event.number for event in engine.trace] == list(range(11, 21))
        assert str(engine.trace).startswith("--- 10 events were dropped ---\n")

    def test_an_event_counts_its_effects(self, engine):
        engine.write(UNBIND, "namespace0.0")
        lines = engine.trace[-1].lines
        assert lines > 2
        engine._machine.system.recorder.resize(lines + 1)
        assert len(engine.trace) == 2
        engine.read_bytes(f"{REGION}/size", 0, 1)
        assert [event.op for event in engine.trace] == ["open", "read"]

    def test_effects_that_no_ring_has_room_for_are_omitted(self, engine):
        engine._machine.system.recorder.resize(4)
        engine.write(UNBIND, "namespace0.0")
        assert [event.op for event in engine.trace] == ["write"]
        assert engine.trace[0].lines == 4
        assert engine.trace[0].omitted > 0

    def test_a_probe_with_more_effects_than_room_is_still_there(self, engine):
        configure(engine, uuid=UUID, mode="pmem", namespace="namespace0.0")
        engine._machine.system.recorder.resize(3)
        engine.write(BIND, "pfn0.0")
        assert engine.trace[0].effects[0] == Probed("nd_pmem", "pfn0.0")
        assert len(engine.trace[0].effects) == 2


class TestAssertions:
    def test_no_writes(self, engine):
        mark = engine.trace.mark()
        engine.read(f"{REGION}/size")
        engine.trace.assert_no_writes()
        with pytest.raises(OSError, match=r"."):
            engine.write(UNBIND, "namespace7.0")
        engine.trace.since(mark)[:3].assert_no_writes()
        with pytest.raises(AssertionError) as failure:
            engine.trace.since(mark).assert_no_writes()
        message = str(failure.value)
        assert message.startswith(f"{UNBIND} was written to:\n")
        marked = [line for line in message.splitlines() if line.startswith("> ")]
        assert len(marked) == 1
        assert 'write("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace7.0", 12) = -1 ENODEV' in marked[0]
        assert 'read("' in message

    def test_wrote(self, engine):
        engine.write(f"{ND}/devices/pfn0.0/mode", "pmem\n")
        for path in (f"{REGION}/pfn0.0/mode", f"{ND}/devices/pfn0.0/mode", "sys/bus/nd/devices/pfn0.0/mode"):
            engine.trace.assert_wrote(path)
            engine.trace.assert_wrote(path, "pmem")
            engine.trace.assert_wrote(path, b"pmem\n")
            with pytest.raises(AssertionError, match="no 'ram' was written to"):
                engine.trace.assert_wrote(path, "ram")
        with pytest.raises(AssertionError, match=r"nothing was written to /sys/bus/nd/devices/pfn0\.1/mode"):
            engine.trace.assert_wrote(f"{ND}/devices/pfn0.1/mode")
        with pytest.raises(AssertionError):
            engine.trace.assert_wrote("/sys/class/nd/fn0.0/mode")

    def test_a_refused_write_has_written_nothing(self, engine):
        with pytest.raises(OSError, match=r"."):
            engine.write(UNBIND, "namespace7.0")
        with pytest.raises(AssertionError, match="ENODEV"):
            engine.trace.assert_wrote(UNBIND, "namespace7.0")

    def test_long_values_are_compared_by_what_is_known(self, engine):
        engine.write("/dev/pmem0", b"y" * 9000)
        engine.trace.assert_wrote("/dev/pmem0", b"y" * 9000)
        with pytest.raises(AssertionError):
            engine.trace.assert_wrote("/dev/pmem0", b"y" * 9001)
        with pytest.raises(AssertionError):
            engine.trace.assert_wrote("/dev/pmem0", b"y" * 100 + b"z" * 8900)

    def test_a_value_that_cannot_be_written(self, engine):
        with pytest.raises(TypeError, match="float"):
            engine.trace.assert_wrote(UNBIND, 1.5)

    def test_nobody_knows_what_was_dropped(self, engine):
        engine._machine.system.recorder.resize(2)
        mark = engine.trace.mark()
        engine.read(f"{REGION}/size")
        with pytest.raises(ValueError, match="has dropped 1 events"):
            engine.trace.assert_no_writes()
        with pytest.raises(ValueError, match="has dropped 1 events"):
            engine.trace.since(mark).assert_no_writes()
        engine.trace.since(mark + 1).assert_no_writes()

    def test_an_empty_trace_says_so(self, engine):
        with pytest.raises(AssertionError, match="the trace is empty"):
            engine.trace.assert_wrote(UNBIND)


class TestSwitch:
    def test_a_trace_that_is_off_cannot_be_asserted(self):
        with Engine(memmap="512M!4G", trace=False) as engine:
            engine.write(UNBIND, "namespace0.0")
            assert not engine.trace.is_on
            with pytest.raises(ValueError, match="the trace is off"):
                engine.trace.assert_no_writes()
            engine.trace.start()
            engine.read(f"{REGION}/size")
            engine.trace.stop()
            engine.write(BIND, "namespace0.0")
            engine.trace.assert_no_writes()
            engine.trace.clear()
            with pytest.raises(ValueError, match="the trace is off"):
                len(engine.trace)

    def test_a_reset_keeps_the_trace(self, engine):
        with engine.checkpoint():
            engine.write(UNBIND, "namespace0.0")
            before = list(engine.trace)
        assert list(engine.trace) == before
        engine.write(UNBIND, "namespace0.0")
        assert engine.trace[-1].number == 4

    def test_a_closed_engine_has_no_trace(self, engine):
        engine.close()
        with pytest.raises(ValueError, match="closed"):
            len(engine.trace)


def test_recorded_events_are_valid_json(engine):
    schema = Path(__file__).resolve().parents[2] / "docs" / "reference" / "trace.schema.json"
    validator = jsonschema.Draft7Validator(json.loads(schema.read_text()))
    configure(engine, uuid=UUID, mode="pmem", namespace="namespace0.0")
    engine.write(BIND, "pfn0.0")
    engine.read(f"{REGION}/size")
    for event in engine.trace:
        validator.validate(json.loads(line_of(event)))
        assert decoded(line_of(event)) == event
