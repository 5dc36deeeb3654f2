"""Machines of random shapes."""

import pytest

from nvdimmfs.lab.hardware import hardware_of
from nvdimmfs.lab.shapes import Shape, shaped
from nvdimmfs.machine_file.reader import read_machine
from nvdimmfs.machine_file.selection import selected
from nvdimmfs.machine_file.words import PersonalityKind
from nvdimmfs.machine_file.writer import machine_text
from nvdimmfs.units import MIB

SEEDS = range(100)


@pytest.mark.parametrize("shape", Shape)
def test_qemu_can_give_each(shape):
    for seed in SEEDS:
        machine = shaped(shape, seed)
        assert hardware_of(selected(machine)).machine.ranges or machine.memmap


@pytest.mark.parametrize("shape", Shape)
def test_a_seed_has_a_machine_of_its_own(shape):
    texts = [machine_text(shaped(shape, seed)) for seed in SEEDS]
    assert len(set(texts)) == len(SEEDS)
    assert texts == [machine_text(shaped(shape, seed)) for seed in SEEDS]
    assert read_machine(texts[0]) == shaped(shape, 0)


def test_shapes_have_what_usual_machines_do_not():
    dimms = [dimm for seed in SEEDS for bus in shaped(Shape.NFIT, seed).buses for dimm in bus.dimms]
    assert {dimm.label.initialised for dimm in dimms} == {"", "1.1", "1.2"}
    assert any(dimm.flags for dimm in dimms)
    assert len({dimm.label.size for dimm in dimms}) > 3
    machines = [shaped(Shape.NFIT, seed) for seed in SEEDS]
    namespaces = [each for machine in machines for range_ in machine.ranges for each in range_.namespaces]
    assert {each.sector_size for each in namespaces} == {0, 512, 4096}
    assert any(each.size % (16 * MIB) for each in namespaces)
    assert {each.kind for machine in machines for each in machine.personalities} == {*PersonalityKind}
    assert any(range_.target_node > 1 for seed in SEEDS for range_ in shaped(Shape.NFIT, seed).ranges)
