"""`nvdimmfs plan`: its table, its numbers, its refusals; and how the command line writes sizes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.cli.main import main
from nvdimmfs.cli.plan import cost_of
from nvdimmfs.cli.sizes import exact_size, rough_size, short_size
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.pfn import PfnMode
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.memremap import DevPagemap
from nvdimmfs.mm.pfn_layout import altmap_for, lay_out
from nvdimmfs.units import GIB, KIB, MIB, PAGE_SIZE, PIB, TIB


def plan(capsys, *arguments):
    assert main(["plan", *arguments]) == 0
    done = capsys.readouterr()
    assert done.err == ""
    return done.out


def test_the_point_of_the_series(capsys):
    assert plan(capsys, "--size", "128G", "--size", "6T", "--ram", "1G") == (
        "Struct pages of persistent memory from 4G on, align 2M, beside 1 GiB of RAM:\n"
        "\n"
        "                  ---- mode ram ----  --- mode pmem ----\n"
        "capacity  memmap  RAM left  for data  RAM left  for data\n"
        " 128 GiB   2 GiB   no room         -  1008 MiB   126 GiB\n"
        "   6 TiB  96 GiB   no room         -  1008 MiB  5.91 TiB\n"
    )


def test_the_table_without_arguments_goes_from_what_fits_to_what_never_will(capsys):
    rows = [line.split("  ") for line in plan(capsys).splitlines()[4:]]
    capacities = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert [row[0] for row in capacities] == ["128 GiB", "512 GiB", "1 TiB", "6 TiB", "64 TiB", "1 PiB"]
    assert capacities[0][2] != "no room"
    assert capacities[-1][2] == "no room"
    assert max(map(len, plan(capsys).splitlines())) <= 80


def test_json_has_every_byte(capsys):
    assert json.loads(plan(capsys, "--size", "16G", "--ram", "4G", "--json")) == [
        {
            "size": 16 * GIB,
            "memmap": 256 * MIB,
            "mode_ram": {
                "memmap_ram": 256 * MIB,
                "memmap_pmem": 0,
                "data": 0x3FFE00000,
                "ram_left": 4 * GIB - 64 * MIB - 256 * MIB,
            },
            "mode_pmem": {
                "memmap_ram": 0,
                "memmap_pmem": 0x10200000 - 8 * KIB,
                "data": 0x3EFE00000,
                "ram_left": 4 * GIB - 64 * MIB,
            },
        }
    ]


def test_parts_of_sections_cost_ram_in_mode_pmem_too(capsys):
    (found,) = json.loads(plan(capsys, "--size", "130M", "--start", "5G", "--json"))
    assert found["mode_pmem"]["memmap_ram"] == 2 * MIB // PAGE_SIZE * 64
    (found,) = json.loads(plan(capsys, "--size", "100M", "--start", "4128M", "--json"))
    assert found["mode_pmem"]["memmap_ram"] == 100 * MIB // PAGE_SIZE * 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "6X"), "--size 6X: must be a size"),
        (("--size", "0"), "must be a size"),
        (("--size", ""), "argument --size: it is empty"),
        (("--start", "x"), "--start x: must be a size"),
        (("--ram", "-1"), "--ram"),
        (("--align", "8K"), "must be 4K, 2M or 1G"),
        (("--start", "64E"), "--start 64E: physical addresses end at 4 PiB"),
        (("--ram", "64E"), "--ram 64E: too large; the maximum is 4194302 GiB"),
        (("--size", "4P"), "--size 4P: physical addresses end at 4 PiB"),
        (("--size", "6T", "frobnicate"), "frobnicate"),
    ],
)
def test_misuse_is_one_line(capsys, arguments, message):
    assert main(["plan", *arguments]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "1M"), "--size 1M: the kernel would refuse to bind it: ENXIO"),
        (("--size", "1"), "no space for data: it would begin at offset 2097152, and the size is 1"),
        (("--size", "1G", "--start", "4097M"), "EINVAL"),
        (("--size", "512M", "--align", "1G"), "ENXIO"),
    ],
)
def test_a_plan_that_the_kernel_would_refuse_is_refused(capsys, arguments, message):
    assert main(["plan", *arguments]) == 1
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1


places = st.integers(0, 200).map(lambda n: TIB + n * 2 * MIB)
capacities = st.one_of(st.integers(2, 400).map(lambda n: n * 2 * MIB), st.sampled_from([64 * GIB, TIB, 6 * TIB]))


@settings(max_examples=60)
@given(places, capacities, st.sampled_from([PfnMode.RAM, PfnMode.PMEM]))
def test_the_plan_is_what_the_engine_then_draws(start, size, mode):
    memory = Memory.boot("", ram=2 * GIB)
    layout = lay_out(start, size, 2 * MIB, mode)
    planned = cost_of(layout, memory.ram_bytes)
    before = memory.ram_free
    device = DevPagemap((layout.range,), altmap=altmap_for(layout))
    try:
        memory.memremap_pages(device)
    except KernelError:
        assert planned.memmap_ram > before
        return
    assert before - memory.ram_free == planned.memmap_ram
    assert planned.ram_left is not None
    assert planned.memmap_pmem >= sum(memmap.altmap_pfns for memmap in device.memmaps) * PAGE_SIZE


@pytest.mark.parametrize(
    ("size", "exact", "rough", "short"),
    [
        (0, "0 B", "0 B", "0 B"),
        (1, "1 B", "1 B", "1 B"),
        (1023, "1023 B", "1023 B", "1023 B"),
        (8 * KIB, "8 KiB", "8 KiB", "8 KiB"),
        (2 * MIB - 8 * KIB, "2040 KiB", "1.99 MiB", "2040 KiB"),
        (502 * MIB, "502 MiB", "502 MiB", "502 MiB"),
        (6 * TIB - 96 * GIB, "6048 GiB", "5.91 TiB", "6048 GiB"),
        (255 * MIB + 4 * KIB, "261124 KiB", "255 MiB", "about 255 MiB"),
        (PIB, "1 PiB", "1 PiB", "1 PiB"),
        (63 * GIB // 4, "16128 MiB", "15.8 GiB", "about 15.8 GiB"),
    ],
)
def test_sizes_are_written_exactly_or_for_people(size, exact, rough, short):
    assert (exact_size(size), rough_size(size), short_size(size)) == (exact, rough, short)
