"""The options that select a machine: overrides, and the defaults that depend on them."""

import argparse
import re

import pytest

from nvdimmfs.cli import machine_options
from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.main import complete_parser, main
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine_file.ram import installed_ram
from nvdimmfs.mm import e820, pc_memory_map
from nvdimmfs.mm.pc_memory_map import build_iomem, installed_memory
from nvdimmfs.units import GIB

#: A range with a start of its own, just above the default RAM.
PLACED = """
[[bus]]
[[bus.dimm]]
size = "1G"
[[bus.range]]
start = "6G"
dimms = ["0x1"]
"""


def selected(*words: str) -> MachineDescription:
    parser = argparse.ArgumentParser()
    machine_options.configure(parser)
    return machine_options.machine(parser.parse_args(words))


@pytest.mark.parametrize(("ram", "start"), [("2G", 4), ("4G", 6), ("8G", 10), ("1T", 1026)])
def test_a_range_without_a_start_begins_above_the_ram_of_the_options(ram, start):
    machine = selected("--machine", "one-dimm", "--ram", ram)
    assert machine.buses[0].ranges[0].start == start * GIB


def test_a_range_without_a_start_begins_above_the_memmap_of_the_options():
    assert selected("--machine", "one-dimm", "--memmap", "1G!20G").buses[0].ranges[0].start == 21 * GIB


def test_memmap_given_several_times_adds_up_as_on_the_command_line_of_a_kernel():
    several = selected("--ram", "12G", "--memmap", "2G!4G", "--memmap", "2G!6G,1G!9G", "--memmap", "1G!10G")
    assert several == selected("--ram", "12G", "--memmap", "2G!4G,2G!6G,1G!9G,1G!10G")


@pytest.mark.parametrize(
    "words",
    [
        ("mount", "--ram", "4G", "--ram", "8G", "x"),
        ("run", "--machine", "one-dimm", "--kernel", "6.1", "--machine", "nfit_test", "--", "true"),
        ("mount", "--media", "a", "--media=b", "x"),
        ("start", "--shell", "fish", "--shell", "sh"),
        ("dump", "-o", "a", "--output", "b", "x"),
        ("plan", "--ram", "1G", "--ram", "2G"),
    ],
)
def test_another_option_given_twice_is_refused_in_one_line(words, capsys):
    assert main(words) == MISUSED
    assert re.fullmatch(r"nvdimmfs: -\S+ is given twice, as .* and as .*\n", capsys.readouterr().err)


def test_an_option_of_the_command_of_run_is_its_own(tmp_path):
    arguments = complete_parser().parse_args(["run", "--ram", "4G", "--", "true", "--ram", "8G", "--ram", "1G"])
    assert arguments.command[-4:] == ["--ram", "8G", "--ram", "1G"]


def test_without_other_options_a_machine_is_as_its_file_describes_it():
    for name in ("one-dimm", "two-socket-6way", "nfit_test"):
        assert selected("--machine", name) == load_machine(name)


def test_ram_goes_on_behind_a_range_with_a_start(tmp_path):
    (tmp_path / "placed.toml").write_text(PLACED)
    machine = selected("--machine", str(tmp_path / "placed.toml"), "--ram", "8G")
    assert machine.ranges[0].start == 6 * GIB
    assert [(span.start, span.end) for span in installed_memory(installed_ram(machine))] == [
        (0, 2 * GIB),
        (4 * GIB, 6 * GIB),
        (7 * GIB, 11 * GIB),
    ]


def test_ram_of_the_options_contradicts_a_file_with_ram_ranges(tmp_path):
    (tmp_path / "placed.toml").write_text(f'ram_range = [{{ size = "8G" }}]\n{PLACED}')
    with pytest.raises(CommandError, match=r"--ram 4G: the machine file gives its RAM by \[\[ram_range\]\]"):
        selected("--machine", str(tmp_path / "placed.toml"), "--ram", "4G")


def test_memmap_is_parsed_once_for_defaults_checks_and_boot():
    e820.parse_entries.cache_clear()
    pc_memory_map._user_entries.cache_clear()
    machine = selected("--machine", "one-dimm", "--memmap", "1G!20G", "--ram", "8G")
    build_iomem(machine.memmap, machine.ram)
    assert e820.parse_entries.cache_info().misses == 1


@pytest.mark.parametrize(
    ("memmap", "warns"),
    [("512M@4G", True), ("1G$4G,512M#6G", True), ("512M!4G", False), ("1G@8G,512M!4G", False), ("1G%4G-1+12", False)],
)
def test_ranges_without_persistent_memory_are_warned_of(memmap, warns, capsys):
    selected("--memmap", memmap, "--ram", "16G")
    warning = (
        f"nvdimmfs: warning: --memmap {memmap} makes no persistent memory; for that, write SIZE!START, for example"
        " 512M!4G\n"
    )
    assert capsys.readouterr().err == (warning if warns else "")
