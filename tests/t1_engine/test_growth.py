"""What a machine keeps of things that are gone: nothing."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from uuid import UUID

import pytest
from poke import ND, Hands
from replay import InProcess

from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine

MODULES = "kernel/debug/nvdimmfs/modules"

#: Cycles before the first count, which fill the slots of a label area and the free lists, and between the two.
WARM_UP, CYCLES = 40, 60


def weight() -> int:
    """The objects that the process holds, and the elements of their containers."""
    gc.collect()
    objects = gc.get_objects()
    return len(objects) + sum(len(thing) for thing in objects if type(thing) in (dict, list, set, frozenset, deque))


def machine(name: str) -> Hands:
    booted = Machine.described(load_machine(name), clock="steps")
    return Hands(booted, InProcess.of(booted.system))


def create_and_destroy(hands: Hands, number: int) -> None:
    """A labelled namespace with a uuid that no other had."""
    seed = hands.read(f"{hands.device('region0')}/namespace_seed").strip()
    hands.write(f"{hands.device(seed)}/uuid", str(UUID(int=number)))
    hands.write(f"{hands.device(seed)}/alt_name", f"number {number}")
    hands.write(f"{hands.device(seed)}/size", str(32 << 20))
    hands.write(f"{hands.device(seed)}/uuid", str(UUID(int=number << 64)))
    hands.write(f"{hands.device(seed)}/size", "0")


def claim_and_release(kind: str) -> Callable[[Hands, int], None]:
    def cycle(hands: Hands, number: int) -> None:
        """A new personality, which writes an info block; then the namespace is empty and free again."""
        seed = hands.read(f"{hands.device('region0')}/{kind}_seed").strip()
        hands.unbind("namespace0.0")
        own = {"sector_size": "512"} if kind == "btt" else {"mode": "pmem"}
        for name, value in (own | {"uuid": str(UUID(int=number)), "namespace": "namespace0.0"}).items():
            hands.write(f"{hands.device(seed)}/{name}", value)
        hands.bind(seed)
        hands.unbind(seed)
        hands.write(f"{hands.device(seed)}/namespace", "\n")
        hands.write(f"{hands.device('namespace0.0')}/force_raw", "1")
        hands.bind("namespace0.0")
        hands.machine.tree.root.find("dev/pmem0").data.write(0, bytes(16384))
        hands.unbind("namespace0.0")
        hands.write(f"{hands.device('namespace0.0')}/force_raw", "0")

    return cycle


def bind_a_region(hands: Hands, _number: int) -> None:
    hands.write(f"{ND}/drivers/nd_region/unbind", "region0")
    hands.write(f"{ND}/drivers/nd_region/bind", "region0")


def bind_a_dimm(hands: Hands, _number: int) -> None:
    hands.write(f"{ND}/drivers/nd_region/unbind", "region0")
    hands.write(f"{ND}/drivers/nvdimm/unbind", "nmem0")
    hands.write(f"{ND}/drivers/nvdimm/bind", "nmem0")
    hands.write(f"{ND}/drivers/nd_region/bind", "region0")


def load_a_module(name: str) -> Callable[[Hands, int], None]:
    def cycle(hands: Hands, _number: int) -> None:
        for region in hands.names("region"):
            hands.unbind(region)
        hands.write(MODULES, f"unload {name}")
        hands.write(MODULES, f"load {name}")

    return cycle


@pytest.mark.parametrize(
    ("name", "cycle"),
    [
        ("one-dimm", create_and_destroy),
        ("e820", claim_and_release("pfn")),
        ("e820", claim_and_release("dax")),
        ("e820", claim_and_release("btt")),
        ("one-dimm", bind_a_region),
        ("one-dimm", bind_a_dimm),
        ("e820", load_a_module("nd_e820")),
        ("one-dimm", load_a_module("nfit")),
        ("nfit_test", load_a_module("nfit_test")),
    ],
    ids=["namespace", "pfn", "dax", "btt", "region", "dimm", "nd_e820", "nfit", "nfit_test"],
)
def test_cycles_leave_nothing_behind(name: str, cycle: Callable[[Hands, int], None]) -> None:
    hands = machine(name)
    for number in range(1, WARM_UP):
        cycle(hands, number)
    before = weight()
    for number in range(WARM_UP, WARM_UP + CYCLES):
        cycle(hands, number)
    assert weight() - before < CYCLES
