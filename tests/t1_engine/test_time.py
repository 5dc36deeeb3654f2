"""What takes time on a machine: scrubs, memmaps, and the file that shows and moves the clock."""

import errno

import attrs
import pytest
from poke import ND, Hands

from nvdimmfs.core.clock import ClockMode
from nvdimmfs.kernels.durations import BOOT, MILLISECOND, READ, SECOND, WRITE
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine, parse_machine

CLOCK = "kernel/debug/nvdimmfs/clock"
SCRUBS = tuple(f"devices/platform/nfit_test.{number}/ndbus{number}/nfit/scrub" for number in (0, 1))

#: A bus of the test platform with one DIMM and as many ranges as are put in.
MANY_RANGES = """
[[bus]]
provider = "nfit_test.0"
parent = "devices/platform/nfit_test.0"
commands = ["ars_cap", "ars_start", "ars_status", "clear_error", "cmd_call"]
scrubbing = true
test_dimms = ["0x0"]

[[bus.dimm]]
name = "0x0"
handle = 0
size = "4G"
"""
RANGE = '\n[[bus.range]]\nsize = "32M"\ndimms = ["0x0"]\n'


@pytest.fixture
def tested():
    """The kernel's test platform, with a clock that only `advance` moves."""
    machine = Machine.described(load_machine("nfit_test"), clock="manual")
    yield Hands.of(machine)
    machine.close()


def scrubs(hands):
    return [hands.read(path).strip() for path in SCRUBS]


def advance(hands, seconds):
    hands.machine.system.clock.advance(round(seconds * SECOND))


# Scrubs


def test_the_first_scrub_is_a_short_and_a_long_pass(tested):
    """Busy for a second, so asked again after two; then two passes over two ranges, and over one, a second each."""
    assert scrubs(tested) == ["0+", "0+"]
    advance(tested, 4 - BOOT.nanoseconds / SECOND - 0.001)
    assert scrubs(tested) == ["0+", "0+"]
    advance(tested, 0.001)
    assert scrubs(tested) == ["0+", "1"]
    advance(tested, 2 - 0.001)
    assert scrubs(tested) == ["0+", "1"]
    advance(tested, 0.001)
    assert scrubs(tested) == ["1", "1"]


def test_a_scrub_that_is_asked_for_is_one_pass(tested):
    advance(tested, 6)
    tested.write(SCRUBS[0], "1")
    advance(tested, 2 - 0.001)
    assert scrubs(tested) == ["1+", "1"]
    advance(tested, 0.001)
    assert scrubs(tested) == ["2", "1"]


@pytest.mark.parametrize("ranges", [16, 17, 40])
def test_a_bus_of_many_ranges_ends_its_scrub(ranges):
    machine = Machine.described(parse_machine(MANY_RANGES + ranges * RANGE, "many.toml"), clock="manual")
    hands = Hands.of(machine)
    advance(hands, 2 + 2 * ranges - 1)
    assert hands.read(SCRUBS[0]) == "0+\n"
    advance(hands, 1)
    assert hands.read(SCRUBS[0]) == "1\n"
    machine.close()


def test_steps_take_time_whatever_the_host_does():
    machine = Machine.described(load_machine("nfit_test"), clock="steps")
    hands = Hands.of(machine)
    end = 6 * SECOND
    while machine.system.clock.now < end:
        assert hands.read(SCRUBS[0]) == "0+\n"
    assert hands.read(SCRUBS[0]) == "1\n"
    machine.close()


# Memmaps


def test_a_mapping_found_on_media_appears_later():
    hands = Hands.on("512M!4G")
    hands.bring_up(0, "dax", mode="pmem")
    mapping = "bus/dax/devices/dax0.0/mapping0"
    assert "mapping0" in hands.sysfs.names("bus/dax/devices/dax0.0")
    hands.unbind("region0")
    hands.machine.system.clock.mode = ClockMode.MANUAL
    hands.write(f"{ND}/drivers/nd_region/bind", "region0")
    assert "mapping0" not in hands.sysfs.names("bus/dax/devices/dax0.0")
    advance(hands, 0.12)
    assert hands.read(f"{mapping}/page_offset") == "0x0\n"


def test_a_device_that_goes_meanwhile_gets_no_mapping():
    hands = Hands.on("512M!4G")
    hands.bring_up(0, "dax", mode="pmem")
    hands.unbind("region0")
    hands.machine.system.clock.mode = ClockMode.MANUAL
    hands.write(f"{ND}/drivers/nd_region/bind", "region0")
    hands.unbind("region0")
    advance(hands, 1)
    assert hands.sysfs.names("bus/dax/devices") == []


# Races


def test_reading_decides_no_race():
    """Which number the next seed gets, bound after another region: the same however much is read between."""
    seeds = {btt_seed_after(reads) for reads in (0, 1, 5, 30)}
    assert seeds == {"btt0.0\n"}


def btt_seed_after(reads):
    hands = Hands.on("512M!4G,256M!6G")
    hands.bring_up(0, "btt", sector_size=4096)
    for region in (0, 1):
        hands.unbind(f"region{region}")
    hands.write(f"{ND}/drivers/nd_region/bind", "region1")
    for _ in range(reads):
        hands.read("devices/platform/e820_pmem/ndbus0/provider")
    hands.write(f"{ND}/drivers/nd_region/bind", "region0")
    return hands.read(hands.device("region0") + "/btt_seed")


# The clock's file


def test_the_clock_shows_its_mode_the_time_and_what_is_due(tested):
    assert tested.read(CLOCK).splitlines() == [
        "mode: manual",
        "now: 0.200000000 s",
        "due 2.000000000 s: ndbus0: poll the state of a scrub",
        "due 2.000000000 s: ndbus1: poll the state of a scrub",
    ]
    tested.write(CLOCK, "advance 1500ms\n")
    assert tested.read(CLOCK).splitlines()[1] == "now: 1.700000000 s"


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("advance 30s", 30 * SECOND),
        ("advance 1 min", 60 * SECOND),
        ("advance 250ms", 250 * MILLISECOND),
        ("advance 7us\n", 7_000),
        ("advance 0.5s", SECOND // 2),
        ("advance 0s", 0),
    ],
)
def test_time_passes_when_somebody_says_so(tested, text, nanoseconds):
    before = tested.machine.system.clock.now
    tested.write(CLOCK, text)
    assert tested.machine.system.clock.now == before + nanoseconds


@pytest.mark.parametrize(
    "text", ["x", "advance", "advance 30", "advance -1s", "30s", "advance 1h", "advance 1e3s", "advance 999999999s"]
)
def test_a_text_that_is_no_time_is_refused(tested, text):
    before = tested.machine.system.clock.now
    assert tested.refused(CLOCK, text) == errno.EINVAL
    assert tested.machine.system.clock.now == before


def test_the_clock_in_steps():
    hands = Hands.on("512M!4G")
    clock = hands.machine.system.clock
    before = clock.now
    hands.read(f"{ND}/devices/region0/size")
    assert clock.now - before == READ.nanoseconds
    hands.write(f"{ND}/devices/namespace0.0/force_raw", "1")
    assert clock.now - before == READ.nanoseconds + WRITE.nanoseconds
    assert hands.refused(f"{ND}/devices/namespace0.0/force_raw", "x") == errno.EINVAL
    assert clock.now - before == READ.nanoseconds + 2 * WRITE.nanoseconds


@pytest.mark.parametrize("mode", ClockMode)
def test_a_machine_file_says_what_moves_the_clock(mode):
    description = parse_machine(f'memmap = "512M!4G"\nclock = "{mode.value}"\n', "machine.toml")
    with_clock = Machine.described(description)
    assert with_clock.system.clock.mode is mode
    with_clock.close()
    overruled = Machine.described(attrs.evolve(description, clock=ClockMode.REAL), clock=mode.value)
    assert overruled.system.clock.mode is mode
    overruled.close()


def test_a_host_whose_clock_jumps_by_centuries_finds_its_work_done(monkeypatch):
    """As after a long stop of the daemon, or of the virtual machine that it runs in."""
    host = [0]
    hands = Hands.described("nfit_test", clock="real")
    clock = hands.machine.system.clock
    monkeypatch.setattr(clock, "_host", lambda: host[0])
    clock.start()
    assert scrubs(hands) == ["0+", "0+"]
    for _ in range(3):
        host[0] += 100 * 365 * 86400 * SECOND
        clock.run_due()
    assert scrubs(hands) == ["1", "1"]
    assert clock.pending == ()
    hands.write(SCRUBS[0], "1")
    assert scrubs(hands) == ["1+", "1"]
    host[0] += 10 * SECOND
    clock.run_due()
    assert scrubs(hands) == ["2", "1"]
    hands.machine.close()
