"""Random walks over emulated machines, and the stories of those that show a difference."""

import contextlib
from collections import Counter

import pytest

from nvdimmfs.lab import fuzz
from nvdimmfs.lab.emulated import emulated
from nvdimmfs.lab.errors import GuestEndedError
from nvdimmfs.lab.fuzz import Fuzzer
from nvdimmfs.lab.guest import GuestPlan
from nvdimmfs.lab.hotplug import is_plug
from nvdimmfs.lab.walk import Walk
from nvdimmfs.machine_file.files import load_machine

MACHINES = ["e820", "qemu-nfit-labelled", "virtio-pmem", "nfit_test"]


@contextlib.contextmanager
def tree_of(name):
    with emulated(load_machine(name)) as tree:
        yield tree


def walked(name, seed, moves=60):
    with tree_of(name) as tree:
        walk = Walk(tree, seed)
        walk.go(moves)
        return walk.moves


@pytest.mark.parametrize("name", MACHINES)
def test_a_seed_makes_the_same_walk_each_time(name):
    assert walked(name, 3) == walked(name, 3)
    assert walked(name, 3) != walked(name, 4)


@pytest.mark.parametrize("name", MACHINES)
def test_walks_are_sense_and_nonsense_mixed(name):
    """About every kind of write is accepted somewhere, and refused elsewhere."""
    calls = [call for seed in range(5) for move in walked(name, seed) for call in move]
    writes = Counter(call["path"].rpartition("/")[2] for call in calls if call["op"] == "write")
    assert {"bind", "unbind", "uuid", "mode", "align", "sector_size", "namespace"} <= writes.keys()
    assert {"pread", "pwrite", "read", "ls", "dump"} <= {call["op"] for call in calls}
    accepted = Counter()
    for seed in range(5):
        with tree_of(name) as tree:
            walk = [call for move in walked(name, seed) for call in move]
            accepted.update(
                "wrote" in answer for call, answer in zip(walk, tree.ask(walk), strict=True) if call["op"] == "write"
            )
    assert min(accepted[True], accepted[False]) > 100


def test_a_machine_that_boots_again_has_what_is_in_its_memory():
    write = {"op": "pwrite", "dev": "pmem0", "offset": 0, "hex": "ab" * 512}
    unbind = {"op": "write", "path": "bus/nd/drivers/nd_pmem/unbind", "data": "namespace1.0"}
    with tree_of("e820") as tree:
        *_, disks, content = tree.ask(
            [
                write,
                unbind,
                {"op": "reboot"},
                {"op": "ls", "path": "class/block"},
                {**write, "op": "pread", "length": 512},
            ]
        )
    assert disks["names"] == ["pmem0", "pmem1"]
    assert content["hex"] == "ab" * 512


def test_walks_boot_again_but_not_on_the_test_platform():
    def reboots(name):
        return sum(call["op"] == "reboot" for seed in range(5) for move in walked(name, seed, 200) for call in move)

    assert reboots("e820") > 0
    assert reboots("nfit_test") == 0


def test_no_walk_boots_again_with_dimms_that_were_plugged_in():
    """A firmware that boots may have them between others in its table."""
    orders = [
        [call["op"] == "reboot" for call in calls if call["op"] == "reboot" or is_plug(call)]
        for calls in ([call for move in walked("qemu-nfit", seed, 200) for call in move] for seed in range(5))
    ]
    assert any(True in order for order in orders)
    assert any(False in order for order in orders)
    assert all(order == sorted(order, reverse=True) for order in orders)


def test_a_scrub_is_read_when_time_does_not_matter():
    """The state of a scrub depends on when it is read: walks do that when it has just begun, and much later."""
    moves = (move for seed in range(5) for move in walked("nfit_test", seed, 200))
    calls = [call for move in moves for call in move if call["op"] != "uevents"]
    states = [call for call in calls if call.get("path", "").endswith("nfit/scrub")]
    assert {call["op"] for call in states} == {"read", "write"}
    for number, call in enumerate(calls):
        if call in states and call["op"] == "write":
            around = [each["op"] for each in calls[number - 1 : number + 4]]
            assert around == ["sleep", "write", "read", "sleep", "read"]


class Kernel:
    """A kernel that answers as the emulated machine does, apart from one attribute after one write."""

    def __init__(self, tree, speed):
        self._tree, self._speed = tree, speed

    def ask(self, calls, settle, together):
        is_wrong = False
        for call, answer in zip(calls, self._tree.ask(calls, settle), strict=True):
            is_wrong |= call["op"] == "write" and call["path"].endswith("bind") and call["data"].strip() == self.trigger
            yield self.changed(answer) if is_wrong and call["op"] == "ls" else answer

    trigger = "namespace0.0"

    def changed(self, answer):
        return {"names": [*answer["names"], "wrong"]}


class RacingKernel(Kernel):
    """One whose answer depends on its speed."""

    def changed(self, answer):
        return {"names": [*answer["names"], f"wrong{self._speed}"]}


@pytest.fixture
def fuzzer(monkeypatch):
    """A fuzzer whose guests are kernels of a class."""

    def made(kernel):
        @contextlib.contextmanager
        def resumed(plan, timeout):
            with tree_of("e820") as tree:
                yield kernel(tree, plan.speed)

        monkeypatch.setattr(fuzz, "resumed", resumed)
        machine = load_machine("e820")
        return Fuzzer(machine, GuestPlan(None, None, None, "tcg"), moves=40, settle=0.05, attempts=200)

    return made


def test_a_difference_becomes_the_shortest_story(fuzzer):
    walked = fuzzer(Kernel).walk(1)
    assert walked.found is not None
    write, ls = walked.found.steps
    assert write.call["data"].strip() == Kernel.trigger
    assert ls.call == {"op": "ls", "path": "bus/nd/devices"}
    assert "wrong" in ls.answer["names"]
    assert "wrong" not in walked.found.comparison.here["names"]


def test_a_walk_without_differences(fuzzer):
    class Right(Kernel):
        trigger = "no such device"

    walked = fuzzer(Right).walk(1)
    assert (walked.found, walked.ended) == (None, 0)
    assert walked.compared > 100


def test_a_race_that_ends_otherwise_at_the_usual_speed_is_no_difference(fuzzer):
    class RightAtAnotherSpeed(RacingKernel):
        def changed(self, answer):
            return answer if self._speed == 3 else super().changed(answer)

    walked = fuzzer(RightAtAnotherSpeed).walk(1)
    assert (walked.found, walked.ended) == (None, 0)


def test_a_difference_behind_a_race_is_found(fuzzer):
    """Two speeds agree on the answer that differs, and on all before it."""

    class RacingAndWrong(RacingKernel):
        def changed(self, answer):
            return super().changed(answer) if self._speed == 1 else Kernel.changed(self, answer)

    walked = fuzzer(RacingAndWrong).walk(1)
    assert walked.found is not None
    assert walked.ended == 0


def test_a_write_that_the_kernel_does_not_survive_is_left_out(fuzzer):
    class Mortal(Kernel):
        def ask(self, calls, settle, together):
            for call, answer in zip(calls, self._tree.ask(calls, settle), strict=True):
                if call == deadly:
                    raise GuestEndedError("panic")
                yield answer

    mortal = fuzzer(Mortal)
    *_, deadly = (call for call in mortal._chosen(1) if call["op"] == "write")
    walked = mortal.walk(1)
    assert set(map(str, walked.fatal)) == {str(deadly)}
    assert (walked.found, walked.ended) == (None, 0)


def test_a_kernel_that_panics_once_is_asked_again(fuzzer):
    class OnceMortal(Kernel):
        trigger = "no such device"
        panics = iter([True])

        def ask(self, calls, settle, together):
            if next(self.panics, False):
                raise GuestEndedError("panic")
            return super().ask(calls, settle, together)

    walked = fuzzer(OnceMortal).walk(1)
    assert (walked.found, walked.ended, walked.fatal) == (None, 0, ())
    assert walked.compared > 100


def test_a_walk_ends_where_a_race_ends_differently(fuzzer):
    walked = fuzzer(RacingKernel).walk(1)
    assert walked.found is None
    assert walked.ended > 0
