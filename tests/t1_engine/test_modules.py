"""The bus can be absent, come late and go: nd_e820 is a module."""

import errno

import pytest
from poke import DEBUG, ND, Hands
from replay import InProcess

from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.mm.units import MIB, PAGE_SHIFT
from nvdimmfs.platforms.machine import Machine

MODULES = f"{DEBUG}/modules"


def boot(*blacklist):
    machine = Machine.described(MachineDescription(memmap="512M!4G"), None, blacklist)
    return Hands(machine, InProcess(machine.system.sys, machine.system.dev, machine.system.rest))


def test_without_its_module_the_range_is_only_announced():
    hands = boot("nd_e820")
    assert hands.names("") == []
    assert "nd_e820" not in hands.sysfs.names("module")
    assert hands.sysfs.names("bus/platform/drivers") == []
    assert "Persistent Memory (legacy)" in hands.debug("resources")
    assert "namespace0.0" not in hands.debug("resources")
    assert not hands.memory.pagemaps


def test_a_module_that_is_loaded_late_finds_what_is_there():
    late, early = boot("nd_e820"), boot()
    late.write(MODULES, "load nd_e820\n")
    assert late.read(MODULES) == early.read(MODULES) == "nd_e820: loaded 1\n"
    assert set(late.snapshot()) == set(early.snapshot())


def test_a_module_in_use_stays():
    hands = boot()
    assert hands.refused(MODULES, "unload nd_e820") == errno.EAGAIN
    assert hands.driver_of("namespace0.0") == "nd_pmem"


def test_an_unloaded_module_leaves_nothing_but_the_range():
    hands = boot()
    never = boot("nd_e820")
    hands.write(f"{ND}/drivers/nd_region/unbind", "region0")
    hands.write(MODULES, "unload nd_e820\n")
    assert set(hands.snapshot()) == set(never.snapshot())
    assert not hands.memory.pagemaps
    hands.write(MODULES, "load nd_e820\n")
    assert [pagemap.range.size >> PAGE_SHIFT for pagemap in hands.memory.pagemaps] == [512 * MIB >> PAGE_SHIFT]
    assert hands.driver_of("namespace0.0") == "nd_pmem"


@pytest.mark.parametrize(
    ("text", "refusal"),
    [("load nd_e820", errno.EEXIST), ("load nd_pmem", errno.EINVAL), ("nd_e820", errno.EINVAL), ("", errno.EINVAL)],
)
def test_what_is_refused(text, refusal):
    assert boot().refused(MODULES, f"{text}\n") == refusal


def test_what_is_not_loaded_cannot_be_unloaded():
    assert boot("nd_e820").refused(MODULES, "unload nd_e820\n") == errno.ENOENT
