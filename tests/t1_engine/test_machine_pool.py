"""Machines that begin again are, in every object, what a boot makes."""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path

import attrs
import pytest
from machines import described
from same_state import StatesDifferError, require_same_state

from nvdimmfs.core.clock import ClockMode
from nvdimmfs.lab.recording import Recording
from nvdimmfs.lab.recording_text import load, load_header
from nvdimmfs.lab.replay import replay
from nvdimmfs.lab.trees import InProcess
from nvdimmfs.machine.first_boot import NewMachineError
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine.pool import InheritedMachines, MachinePool
from nvdimmfs.machine_file.files import load_machine, machines, parse_machine
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.mm.e820 import memparse
from nvdimmfs.snapshot import Snapshot
from nvdimmfs.testing import Engine

RECORDINGS = Path(__file__).parent.parent / "recordings"

#: How many stories of a machine are replayed, the shortest first.
STORIES_A_MACHINE = 2

E820 = parse_machine("memmap = '512M!4G,256M!6G'\nclock = 'steps'\n", "machine.toml")


def description_of(story: Recording) -> MachineDescription:
    header = story.header.machine
    settings = {"clock": ClockMode.STEPS, "kernel": header.get("kernel", E820.kernel)}
    if name := header.get("machine"):
        return attrs.evolve(described(name), **settings)
    memory, _ = memparse(header.get("memory", "4G"))
    return MachineDescription(memmap=header["memmap"], ram=memory, **settings)


def stories() -> dict[str, list[Path]]:
    """The shortest stories of each machine of which there are several."""
    found = defaultdict(list)
    for file in sorted(RECORDINGS.rglob("*.recording"), key=lambda file: (file.stat().st_size, file)):
        header = load_header(file)
        if not (header.programs or header.after or "regions" in header.machine):
            found[" ".join(header.machine.values())].append(file)
    return {name: files[:STORIES_A_MACHINE] for name, files in found.items() if len(files) >= STORIES_A_MACHINE}


STORIES = stories()


def taken_twice(pool: MachinePool, description: MachineDescription):
    """A machine that can begin again."""
    pool.take(description)
    pooled = pool.take(description)
    assert pooled.booted
    return pooled


@pytest.mark.parametrize("machine", STORIES)
def test_a_machine_answers_one_recording_after_the_other(machine):
    pool = MachinePool()
    recordings = [load(story) for story in STORIES[machine]]
    description = description_of(recordings[0])
    pooled = taken_twice(pool, description)
    fresh = Machine.described(description)
    for recording in recordings:
        report = replay(recording, InProcess(pooled.machine))
        assert report.total > 0
        assert not report.differences
        pool.give_back(pooled)
        assert pool.take(description) is pooled
        assert require_same_state(pooled.machine, fresh) > 500


def test_a_difference_would_be_found():
    one, other = Machine.described(E820), Machine.described(E820)
    one.system.sys.find("devices/platform/e820_pmem/ndbus0/region0/size")
    with pytest.raises(StatesDifferError, match="region0"):
        require_same_state(one, other)


def written_by(snapshot):
    """What a reset writes whether or not it has changed, by id."""
    containers = [each for each, _ in (*snapshot._lists, *snapshot._sets, *snapshot._cells)]
    owners = [owner for _, owner, _ in snapshot._slots] + [attributes for attributes, _, _ in snapshot._attributes]
    return {id(each): each for each in (*containers, *owners)}


@pytest.mark.parametrize("machine", machines())
def test_machines_share_nothing_that_a_reset_writes(machine):
    """The reset of one machine must not disturb another, which another thread may use."""
    one, other = (Machine.described(load_machine(machine), clock="steps") for _ in range(2))
    written, also_written = (written_by(Snapshot(each, whole=True)) for each in (one, other))
    assert len(written) > 200
    assert not [written[each] for each in written.keys() & also_written.keys()]


class TestEngines:
    def use_everything(self, engine):
        """Leave traces in whatever a machine has."""
        engine.fail("/sys/bus/nd/devices/region0/size", "read", "EIO")
        with pytest.raises(OSError, match="Input/output"):
            engine.read("/sys/bus/nd/devices/region0/size")
        engine.write("/sys/kernel/debug/nvdimmfs/trace", "size 64")
        engine.checkpoint()
        engine.write("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
        engine.write("/dev/pmem1", b"bytes", 4096)
        engine.modules.unload("dax_pmem")
        engine.clock.advance(seconds=10)
        engine.stat("/sys/devices/system/memory/memory1/state")
        engine.trace.stop()

    @pytest.mark.parametrize("clock", ["steps", "manual", "real"])
    def test_nothing_of_one_is_left_in_the_next(self, clock):
        with Engine(E820, clock=clock), Engine(E820, clock=clock):
            pass
        pooled = set()
        for _ in range(3):
            with Engine(E820, clock=clock) as engine:
                fresh = Machine.described(E820, clock=clock)
                pooled.add(engine._machine)
                engine._machine.system.clock._started_at = None
                engine._machine.system.stop_trace()
                engine._machine.system.stop_listening(engine)
                engine._machine.tree.caller_of = fresh.tree.caller_of
                require_same_state(engine._machine, fresh)
            with Engine(E820, clock=clock) as engine:
                pooled.add(engine._machine)
                assert not engine.events
                assert len(engine.trace) == 0
                self.use_everything(engine)
        assert len(pooled) == 1

    def test_engines_that_exist_at_once_are_different_machines(self):
        for _ in range(3):
            with Engine("e820") as one, Engine("e820") as other:
                one.write("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
                assert "pmem0" in other.ls("/dev")
                assert "pmem0" not in one.ls("/dev")

    def test_a_closed_engine_does_not_reach_the_machine_of_the_next(self):
        for _ in range(3):
            with Engine("e820") as old:
                checkpoint = old.checkpoint()
                fault = old.fail("/sys/*", "read", "EIO")
            with Engine("e820") as new:
                for use in (
                    checkpoint.reset,
                    fault.remove,
                    lambda: old.clock.advance(1),
                    old.dump,
                    lambda: old.read("/sys"),
                ):
                    with pytest.raises(ValueError, match="the engine is closed"):
                        use()
                assert new.read("/sys/bus/nd/devices/region0/size")

    def test_after_a_power_cycle_an_engine_is_used_no_more(self):
        for _ in range(3):
            with Engine("e820") as engine:
                engine.write("/dev/pmem0", b"kept")
                machine = engine._machine
                engine.power_cycle()
                assert engine._machine is not machine
            with Engine("e820") as engine:
                assert engine.read_bytes("/dev/pmem0", 0, 4) == bytes(4)


class TestInheritance:
    def test_a_machine_that_is_asked_for_twice_is_booted_for_the_next(self):
        machines, pickled = InheritedMachines(), pickle.dumps(E820)
        for count in (0, 1, 1):
            machines.learn(pickled)
            assert len(machines) == count
        assert require_same_state(machines.take(pickled), Machine.described(E820)) > 500
        assert machines.take(pickled) is None

    def test_few_machines_are_booted(self):
        machines = InheritedMachines()
        for number in range(9):
            pickled = pickle.dumps(attrs.evolve(E820, name=f"machine {number}"))
            machines.learn(pickled)
            machines.learn(pickled)
        assert len(machines) == 8
        assert machines.take(pickled) is None

    def test_a_machine_that_cannot_boot_is_refused(self):
        refused = parse_machine("memmap = '512M!4G'\nunreadable = [{ path = 'no', errno = 'EIO' }]\n", "machine.toml")
        machines = InheritedMachines()
        machines.learn(pickle.dumps(refused))
        with pytest.raises(NewMachineError, match="no does not exist"):
            machines.learn(pickle.dumps(refused))
        assert len(machines) == 0


class TestPool:
    def test_a_machine_that_is_used_once_is_not_kept(self):
        pool = MachinePool()
        pooled = pool.take(E820)
        pool.give_back(pooled)
        assert pooled.booted is None
        assert pool.take(E820) is not pooled

    def test_few_machines_are_kept(self):
        pool = MachinePool()
        machines = [attrs.evolve(E820, name=f"machine {number}") for number in range(9)]
        kept = [taken_twice(pool, each) for each in machines]
        for each in kept:
            pool.give_back(each)
        assert pool.take(machines[0]) is not kept[0]
        assert [pool.take(each) for each in machines[1:]] == kept[1:]

    def test_of_one_description_one_machine_is_kept(self):
        pool = MachinePool()
        one, other = taken_twice(pool, E820), pool.take(E820)
        for each in (one, other):
            pool.give_back(each)
        assert pool.take(E820) is other
        assert pool.take(E820) is not one

    def test_a_machine_whose_labels_are_in_a_file_boots_each_time(self, tmp_path):
        file = tmp_path / "labels"
        file.write_bytes(b"x" * 131072)
        dimm = f"[[bus]]\n[[bus.dimm]]\nsize = '64M'\nlabel = {{ file = '{file}' }}\n"
        description = parse_machine(dimm, "machine.toml")
        pool = MachinePool()
        assert [pool.take(description).booted for _ in range(3)] == [None] * 3

    def test_a_label_file_that_is_gone_is_refused_although_it_was_there_before(self, tmp_path):
        file = tmp_path / "labels"
        file.write_bytes(b"x" * 131072)
        description = parse_machine(f"[[bus]]\n[[bus.dimm]]\nlabel = {{ file = '{file}' }}\n", "machine.toml")
        with Engine(description) as engine:
            assert engine.exists("/sys/bus/nd/devices/nmem0")
        file.unlink()
        with pytest.raises(ValueError, match=r"label\.file: .* is not a file"):
            Engine(description)

    def test_a_large_machine_boots_each_time(self):
        dimms = "".join("[[bus.dimm]]\n" for _ in range(65))
        large = parse_machine(f"[[bus]]\n{dimms}", "machine.toml")
        pool = MachinePool()
        assert [pool.take(large).booted for _ in range(3)] == [None] * 3

    def test_a_machine_that_cannot_boot_is_refused_each_time(self):
        refused = parse_machine("memmap = '512M!4G'\nunreadable = [{ path = 'no', errno = 'EIO' }]\n", "machine.toml")
        pool = MachinePool()
        for _ in range(3):
            with pytest.raises(NewMachineError, match="no does not exist"):
                pool.take(refused)
