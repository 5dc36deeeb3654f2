"""Replays in which races end as they did in a guest."""

from collections import Counter

import attrs
import pytest

from nvdimmfs.formats.dimm_functions import IntelFunction
from nvdimmfs.formats.ndctl import DIMM_FAMILY_INTEL, Package
from nvdimmfs.kernels.races import (
    BOUND_REGION,
    FIRST_OF_MORE_IS_DISK,
    FOUND_MEMMAP,
    FOUND_NUMBERS,
    FOUND_ORDER,
    LATER_AFTER_BTT,
    LATER_AFTER_DISK,
    LATER_NAMESPACE,
    NEW_REGION,
    First,
    FirstNamespace,
    Found,
    Memmap,
)
from nvdimmfs.lab.emulated import emulated
from nvdimmfs.lab.recording import Step
from nvdimmfs.lab.verdicts import matched
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine_file.selection import selected
from nvdimmfs.units import GIB, MIB

SETTLE = 0.05


def machine(referee, name="nfit_test"):
    return emulated(load_machine(name), referee=referee)


def write(path, data):
    return {"op": "write", "path": f"bus/nd/{path}", "data": data}


def bind_again(region):
    return [write(f"drivers/nd_region/{act}", region) for act in ("unbind", "bind")]


def btt_on(number):
    seed = f"btt{number}.0"
    return [
        write("drivers/nd_pmem/unbind", f"namespace{number}.0"),
        write(f"devices/{seed}/uuid", f"0000000{number}-1111-2222-3333-000000000000"),
        write(f"devices/{seed}/sector_size", "4096"),
        write(f"devices/{seed}/namespace", f"namespace{number}.0"),
        write("drivers/nd_pmem/bind", seed),
    ]


LOOK = {"op": "dump", "path": "bus/nd/devices/region0/", "depth": 1}
STORY = [
    *btt_on(0),
    LOOK,
    *bind_again("region0"),
    LOOK,
    *btt_on(1),
    *bind_again("region1"),
    *bind_again("region0"),
    LOOK,
]


@attrs.define
class Others:
    """A kernel that ends the race of some numbers otherwise, of those about the region that is bound again."""

    numbers: set[int]
    count: int = 0

    def decide(self, race, usual):
        if race is not BOUND_REGION:
            return usual
        self.count += 1
        return next(other for other in type(usual) if other is not usual) if self.count in self.numbers else usual


def answers(referee):
    with machine(referee) as tree:
        return [Step(call, answer) for call, answer in zip(STORY, tree.ask(STORY), strict=True)]


@pytest.mark.parametrize("numbers", [set(), {1}, {3}, {1, 3}])
def test_the_outcomes_of_races_are_found(numbers):
    found = matched(answers(Others(numbers)), SETTLE, machine)
    assert not found.report.differences
    assert found.races == (BOUND_REGION.question,) * len(numbers)
    assert found.report.total > 100


def firmware(function, inputs, outputs):
    """A CALL of a function of the first DIMM."""
    package = Package(DIMM_FAMILY_INTEL, function, inputs, outputs).to_bytes() + bytes(inputs + outputs)
    return {"op": "ioctl", "dev": "nmem0", "request": 0xC0404E0A, "hex": package.hex()}


def test_a_read_that_asks_the_firmware_is_repeated():
    """`frozen` has what the last read of `security` found."""
    security, frozen = ({"op": "read", "path": f"bus/nd/devices/nmem0/{name}"} for name in ("security", "frozen"))
    freezing = [firmware(IntelFunction.SET_PASSPHRASE, 64, 4), security, firmware(IntelFunction.FREEZE_LOCK, 0, 4)]
    story = [*btt_on(0), *freezing, frozen, security, *bind_again("region0"), frozen, LOOK]
    with machine(Others({1})) as tree:
        steps = [Step(call, answer) for call, answer in zip(story, tree.ask(story), strict=True)]
    assert [step.answer["data"] for step in steps if step.call == frozen] == ["0\n", "1\n"]
    found = matched(steps, SETTLE, machine)
    assert not found.report.differences
    assert found.races == (BOUND_REGION.question,)


def test_a_difference_that_no_race_explains_remains():
    """Also after a race."""
    *steps, last = answers(Others({1}))
    wrong = attrs.evolve(last, answer={"rows": [{**row, "mode": "-"} for row in last.answer["rows"]]})
    found = matched([*steps, wrong], SETTLE, machine)
    assert {difference.number for difference in found.report.differences} == {len(STORY)}
    assert found.races == (BOUND_REGION.question,)


def test_a_machine_without_races_is_replayed_once():
    asked = []

    def counted(referee):
        asked.append(referee)
        return emulated(completed(MachineDescription(ram=4 * GIB)), referee=referee)

    wrong = [Step({"op": "ls", "path": "bus"}, {"names": []})]
    assert len(matched(wrong, SETTLE, counted).report.differences) == 1
    assert len(asked) == 2  # once up to the difference, and once for the report


def test_races_at_boot_are_decided_too():
    run = []

    class Listener:
        def decide(self, race, usual):
            run.append(race)
            return usual

    with two_ranges(Listener()) as tree:
        assert run.count(NEW_REGION) == 2
        tree.answer({"op": "reboot"})
    assert run.count(NEW_REGION) == 4


def numbered(*disks, links):
    """Steps that look at the backing devices of disks, and find these numbers."""
    return [
        Step({"op": "dump", "path": f"block/{disk}/bdi"}, {"rows": [bdi_row(disk, link)]})
        for disk, link in zip(disks, links, strict=True)
    ]


def bdi_row(disk, number):
    return {"path": f"block/{disk}/bdi", "mode": "lrwxrwxrwx", "link": f"{'../' * 7}virtual/bdi/259:{number}"}


def two_ranges(referee):
    return emulated(selected(None, memmap="64M!4G,64M!5G", ram="4G"), referee=referee)


@pytest.mark.parametrize(("links", "races"), [((0, 1), 0), ((1, 0), 1)])
def test_disks_that_are_found_at_a_time_may_have_any_device_numbers(links, races):
    found = matched(numbered("pmem0", "pmem1", links=links), SETTLE, two_ranges)
    assert not found.report.differences
    assert found.races == (FOUND_NUMBERS.question,) * races


def test_device_numbers_are_compared_again_when_the_machine_has_booted_again():
    steps = [
        *numbered("pmem0", "pmem1", links=(1, 0)),
        Step({"op": "reboot"}, {}),
        *numbered("pmem0", links=(0,)),
        *numbered("pmem1", links=(7,)),
    ]
    found = matched(steps, SETTLE, two_ranges)
    assert not found.report.differences
    assert found.races == (FOUND_NUMBERS.question,) * 2


SETTINGS = {"pfn": {"mode": "ram", "align": "4096"}, "btt": {"sector_size": "4096"}}


def three(kind):
    """Personalities of a kind on three namespaces of region0."""
    return [
        call
        for number in range(3)
        for call in [
            write(f"devices/namespace0.{number}/uuid", f"0000000{number}-1111-2222-3333-000000000000"),
            write(f"devices/namespace0.{number}/size", str(64 * MIB)),
            *(write(f"devices/{kind}0.{number}/{name}", value) for name, value in SETTINGS[kind].items()),
            write(f"devices/{kind}0.{number}/uuid", f"000000a{number}-1111-2222-3333-000000000000"),
            write(f"devices/{kind}0.{number}/namespace", f"namespace0.{number}"),
            write("drivers/nd_pmem/bind", f"{kind}0.{number}"),
        ]
    ]


DAX = {"mode": "pmem", "uuid": "00000001-1111-2222-3333-000000000000", "namespace": "namespace0.0"}


@attrs.define
class Chosen:
    """Some outcomes, by their race: each is that of one more time, and the last that of all later times."""

    outcomes: dict
    times: Counter = attrs.field(factory=Counter)

    def decide(self, race, usual):
        chosen = self.outcomes.get(race, (usual,))
        self.times[race] += 1
        return chosen[min(self.times[race], len(chosen)) - 1]


SEEDS_FIRST = {BOUND_REGION: (First.SEEDS,)}


def look_at_three(kind):
    """Questions about the numbers of the holders of three namespaces, and about the seed."""
    holders = [f"bus/nd/devices/namespace0.{number}/holder" for number in range(3)]
    return [{"op": "read", "path": path} for path in (*holders, f"bus/nd/devices/region0/{kind}_seed")]


@pytest.mark.parametrize(
    ("kind", "outcomes", "numbers"),
    [
        ("pfn", {}, "0123"),
        ("pfn", {LATER_NAMESPACE: (First.SEEDS,)}, "0231"),
        ("pfn", SEEDS_FIRST, "1230"),
        ("pfn", {**SEEDS_FIRST, FOUND_ORDER: (Found.LAST, Found.IN_ORDER)}, "3120"),
        ("pfn", {**SEEDS_FIRST, FOUND_ORDER: (Found.IN_ORDER, Found.LAST)}, "1320"),
        ("pfn", {**SEEDS_FIRST, FOUND_ORDER: (Found.LAST,)}, "3210"),
        ("btt", {}, "0123"),
        ("btt", {LATER_AFTER_BTT: (First.SEEDS,)}, "0231"),
        ("btt", {LATER_AFTER_BTT: (First.SEEDS,), FOUND_ORDER: (Found.LAST,)}, "0321"),
    ],
)
def test_personalities_of_a_region_have_the_numbers_that_kernels_were_seen_to_give(kind, outcomes, numbers):
    """Of three namespaces and the seed; each was seen on a guest, of three namespaces or of more."""
    with machine(Chosen(outcomes), "qemu-nfit-labelled") as tree:
        *_, first, second, third, seed = tree.ask([*three(kind), *bind_again("region0"), *look_at_three(kind)])
    assert [answer["data"] for answer in (first, second, third, seed)] == [f"{kind}0.{number}\n" for number in numbers]


def btt_behind_disks(disks):
    """Plain disks, and behind them a BTT, on a region that is bound again."""
    btt = f"namespace0.{disks}"
    return [
        *(
            call
            for number in range(disks + 1)
            for call in (
                write(f"devices/namespace0.{number}/uuid", f"0000000{number}-1111-2222-3333-000000000000"),
                write(f"devices/namespace0.{number}/size", str(64 * MIB)),
                *([write("drivers/nd_pmem/bind", f"namespace0.{number}")] if number < disks else []),
            )
        ),
        write("devices/btt0.0/sector_size", "4096"),
        write("devices/btt0.0/uuid", "000000a0-1111-2222-3333-000000000000"),
        write("devices/btt0.0/namespace", btt),
        write("drivers/nd_pmem/bind", "btt0.0"),
        *bind_again("region0"),
        {"op": "read", "path": f"bus/nd/devices/{btt}/holder"},
        {"op": "read", "path": "bus/nd/devices/region0/namespace_seed"},
    ]


@pytest.mark.parametrize(
    ("disks", "outcomes", "holder", "seed"),
    [
        (1, {}, "btt0.0", "namespace0.0"),
        (1, {LATER_AFTER_DISK: (First.SEEDS,)}, "btt0.1", "namespace0.0"),
        (1, SEEDS_FIRST, "btt0.1", "namespace0.2"),
        (2, {}, "btt0.0", "namespace0.3"),
        (2, {FIRST_OF_MORE_IS_DISK: (FirstNamespace.UP,)}, "btt0.0", "namespace0.0"),
        (
            2,
            {FIRST_OF_MORE_IS_DISK: (FirstNamespace.UP,), LATER_AFTER_DISK: (First.WORKER, First.SEEDS)},
            "btt0.1",
            "namespace0.0",
        ),
    ],
)
def test_the_seeds_can_be_first_behind_a_disk_that_stays_the_seed(disks, outcomes, holder, seed):
    """Each was seen on a guest with Linux 6.1."""
    with machine(Chosen(outcomes), "qemu-nfit-labelled") as tree:
        *_, held, declared = tree.ask(btt_behind_disks(disks))
    assert (held["data"], declared["data"]) == (f"{holder}\n", f"{seed}\n")


def test_races_of_several_steps_that_one_answer_shows_are_found_one_by_one():
    """Two regions are bound again, and one dump has both: each race makes it agree in more rows."""
    with machine(Others(set())) as tree:
        bus = tree.readlink("bus/nd/devices/ndbus0").removeprefix("../../../")
    look = {"op": "dump", "path": bus, "depth": 2, "skip": ["/nmem", "/power"]}
    story = [*btt_on(0), *btt_on(1), *bind_again("region0"), *bind_again("region1"), look]
    with machine(Others({1, 2})) as tree:
        steps = [Step(call, answer) for call, answer in zip(story, tree.ask(story), strict=True)]
    found = matched(steps, SETTLE, machine)
    assert not found.report.differences
    assert found.races == (BOUND_REGION.question,) * 2


def test_an_outcome_is_kept_when_a_race_of_an_earlier_step_ends_otherwise():
    """Where the seeds are first for a region with three namespaces, its bind runs fewer races than usual."""
    outcomes = {BOUND_REGION: (First.SEEDS, First.WORKER, First.SEEDS)}
    seeds = [{"op": "read", "path": f"bus/nd/devices/region{number}/pfn_seed"} for number in (1, 0)]
    one_on_region1 = [{**call, **_on_region1(call)} for call in three("pfn")[:7]]
    binds = [*bind_again("region0"), *bind_again("region1"), *bind_again("region1")]
    story = [*three("pfn"), *one_on_region1, *binds, *seeds]

    def labelled(referee):
        return machine(referee, "qemu-nfit-labelled")

    with labelled(Chosen(outcomes)) as tree:
        steps = [Step(call, answer) for call, answer in zip(story, tree.ask(story), strict=True)]
    assert [step.answer["data"] for step in steps[-2:]] == ["pfn1.0\n", "pfn0.0\n"]
    found = matched(steps, SETTLE, labelled)
    assert not found.report.differences
    assert found.races == (BOUND_REGION.question,) * 2


def _on_region1(call):
    """The same question about region1, with other UUIDs."""
    texts = {key: value for key, value in call.items() if key in ("path", "data")}
    return {key: text.replace("0.", "1.").replace("-3333-", "-3334-") for key, text in texts.items()}


@pytest.mark.parametrize(
    ("outcomes", "races"),
    [
        (
            {LATER_NAMESPACE: (First.SEEDS,), FOUND_ORDER: (Found.LAST,)},
            (LATER_NAMESPACE, FOUND_ORDER),
        ),
        (
            {**SEEDS_FIRST, FOUND_ORDER: (Found.LAST,)},
            (BOUND_REGION, FOUND_ORDER, FOUND_ORDER),
        ),
    ],
    ids=["two", "three"],
)
def test_several_races_of_one_step_are_found_together(outcomes, races):
    """One answer has all numbers, which no single one of these races explains."""

    def labelled(referee):
        return machine(referee, "qemu-nfit-labelled")

    with labelled(Chosen(outcomes)) as tree:
        region = tree.readlink("bus/nd/devices/region0").removeprefix("../../../")
        story = [*three("pfn"), *bind_again("region0"), {"op": "dump", "path": region, "depth": 2}]
        steps = [Step(call, answer) for call, answer in zip(story, tree.ask(story), strict=True)]
    found = matched(steps, SETTLE, labelled)
    assert not found.report.differences
    assert found.races == tuple(race.question for race in races)


@pytest.mark.parametrize(("size", "is_race"), [(256, True), (208, False)])
def test_whether_the_mapping_of_a_found_dax_device_is_there_is_a_race_for_a_large_one(size, is_race):
    """The guest had it at once."""
    seed = "devices/dax0.0"
    story = [
        write("drivers/nd_pmem/unbind", "namespace0.0"),
        *(write(f"{seed}/{name}", data) for name, data in DAX.items()),
        write("drivers/dax_pmem/bind", "dax0.0"),
        write("drivers/dax_pmem/unbind", "dax0.0"),
        write(f"{seed}/namespace", "\n"),
        write("drivers/nd_pmem/bind", "namespace0.0"),
        {"op": "ls", "path": "bus/dax/devices/dax0.0/"},
    ]

    def small_machine(referee):
        return emulated(selected(None, memmap=f"{size}M!4G", ram="4G"), referee=referee)

    with small_machine(Chosen({FOUND_MEMMAP: (Memmap.READY,)})) as tree:
        steps = [Step(call, answer) for call, answer in zip(story, tree.ask(story), strict=True)]
    assert "mapping0" in steps[-1].answer["names"]
    found = matched(steps, SETTLE, small_machine)
    assert not found.report.differences
    assert found.races == (FOUND_MEMMAP.question,) * is_race
