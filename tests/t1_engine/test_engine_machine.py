"""A state machine of Hypothesis over the engine: moves as those of `nvdimmfs lab fuzz`, and what holds after each.

    pytest tests/t1_engine/test_engine_machine.py                              # the same short stories each time
    pytest tests/t1_engine/test_engine_machine.py --hypothesis-profile=long    # others each time, for minutes

A failure is the shortest story that Hypothesis finds.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machines import boot

from nvdimmfs.errors import KernelError
from nvdimmfs.lab.trees import InProcess
from nvdimmfs.lab.walk import Walk

sys.path.append(str(Path(__file__).parents[1] / "torture"))

import accounts
import books

MACHINES = (
    {"memmap": "512M!4G,256M!6G", "memory": "8G"},
    {"memmap": "64M!4G,64M!4160M,48M!4228M", "memory": "4G", "kernel": "6.12"},
    {"machine": "qemu-nfit-labelled"},
    {"machine": "qemu-nfit-labelled", "kernel": "6.12"},
    {"machine": "two-socket-6way"},
    {"machine": "virtio-pmem"},
    {"machine": "nfit_test"},
)

#: Randomness that Hypothesis draws, so that it can shorten what follows from it.
CHANCE = st.randoms(use_true_random=False)

STATES = ("online", "offline", "online_movable", "online_kernel")


class EngineMachine(RuleBasedStateMachine):
    """A machine that takes moves."""

    @initialize(machine=st.sampled_from(MACHINES))
    def boot(self, machine):
        self.machine = boot(machine)
        self.tree = InProcess(self.machine)
        self.ram = accounts.RamAccount.of(self.machine.memory)
        self.announced = books.Announced(self.machine)
        self.now = 0

    def teardown(self):
        if hasattr(self, "machine"):
            self.machine.close()

    def write(self, path, data):
        """Write, or be refused."""
        with contextlib.suppress(KernelError):
            self.tree.write(path, data.encode())

    # Moves

    @rule(chance=CHANCE, moves=st.sampled_from((1, 5)))
    def move(self, chance, moves):
        if self.devices():  # a walk is over the devices of the bus
            Walk(self.tree, chance).go(moves)

    @rule(data=st.data())
    def unbind(self, data):
        """What was below the device cannot be reached afterwards."""
        bound = {name: device for name, device in self.devices().items() if device.driver}
        if not bound:
            return
        device = bound[data.draw(st.sampled_from(sorted(bound)))]
        before = accounts.Removal.before(device)
        self.write(f"bus/nd/drivers/{device.driver.name}/unbind", device.name)
        assert [*before.problems(self.machine)] == []

    @rule(data=st.data())
    def bind_what_fits(self, data):
        unbound = sorted(name for name, device in self.devices().items() if not device.driver)
        if unbound:
            self.write("bus/nd/drivers_probe", data.draw(st.sampled_from(unbound)))

    @rule(data=st.data(), verb=st.sampled_from(("load", "unload")))
    def change_modules(self, data, verb):
        modules = self.machine.persistent_memory.modules
        there = set(modules.loaded)
        names = sorted(there if verb == "unload" else set(modules.known) - there)
        if names:
            with contextlib.suppress(KernelError):
                getattr(modules, verb)(data.draw(st.sampled_from(names)))

    @rule(data=st.data())
    def become_ram(self, data):
        """Give a device of the dax bus to kmem, or back."""
        drivers = self.names("bus/dax/drivers")
        devices = [name for name in self.names("bus/dax/devices") if name.startswith("dax")]
        if not devices or not drivers:
            return
        device, driver = data.draw(st.sampled_from(devices)), data.draw(st.sampled_from(drivers))
        for name in drivers:
            self.write(f"bus/dax/drivers/{name}/unbind", device)
        self.write(f"bus/dax/drivers/{driver}/new_id", device)
        self.write(f"bus/dax/drivers/{driver}/bind", device)

    @rule(data=st.data(), state=st.sampled_from(STATES))
    def switch_memory(self, data, state):
        blocks = [name for name in self.names("devices/system/memory") if name.startswith("memory")]
        if blocks:
            self.write(f"devices/system/memory/{data.draw(st.sampled_from(blocks))}/state", state)

    @rule(milliseconds=st.sampled_from((0, 1, 50, 1000, 60_000)))
    def wait(self, milliseconds):
        clock = self.machine.system.clock
        before = clock.now
        clock.advance(milliseconds * 1_000_000)
        assert clock.now == before + milliseconds * 1_000_000

    @precondition(lambda self: hasattr(self, "machine"))
    @rule()
    def read_everything(self):
        assert [*books.tree_problems(self.machine)] == []

    # What holds

    @invariant()
    def tree_and_engine_agree(self):
        if hasattr(self, "machine"):
            assert [*books.problems(self.machine), *self.announced.differences()] == []

    @invariant()
    def a_claim_has_a_holder(self):
        if hasattr(self, "machine"):
            assert [*accounts.holder_problems(self.machine)] == []

    @invariant()
    def no_byte_is_in_two_namespaces(self):
        if hasattr(self, "machine"):
            assert [*accounts.byte_problems(self.machine)] == []

    @invariant()
    def ram_is_accounted_for(self):
        if hasattr(self, "machine"):
            assert [*self.ram.problems(self.machine.memory)] == []

    @invariant()
    def time_does_not_go_back(self):
        if hasattr(self, "machine"):
            before, self.now = self.now, self.machine.system.clock.now
            assert self.now >= before
            due = self.machine.system.clock.next_due
            assert due is None or due >= before

    def devices(self):
        bus = self.machine.nd_bus
        return dict(bus.members) if bus else {}

    def names(self, path):
        try:
            return sorted(self.tree.names(path))
        except KernelError:
            return []


TestEngineMachine = EngineMachine.TestCase

#: In the suite a few short stories; with --hypothesis-profile=long as that profile says.
_PROFILE = hypothesis.settings()
TestEngineMachine.settings = (
    hypothesis.settings(
        _PROFILE, max_examples=25, stateful_step_count=20, suppress_health_check=list(hypothesis.HealthCheck)
    )
    if _PROFILE.derandomize
    else _PROFILE
)
