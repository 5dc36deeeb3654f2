import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.mm.e820 import E820Entry, E820Table, E820Type, KernelPanic, memparse, parse_entry
from nvdimmfs.mm.iomem import iomem_text
from nvdimmfs.mm.memmap_option import MemmapError, check_memmap
from nvdimmfs.mm.pc_memory_map import MINIMUM_RAM, boot_table, build_iomem
from nvdimmfs.mm.resource import ResourceDescriptor, ResourceFlag
from nvdimmfs.units import GIB, MIB, PIB, TIB

RAM, RESERVED, PRAM = E820Type.RAM, E820Type.RESERVED, E820Type.PRAM

# The memory map that the firmware of a q35 machine with 4 GiB passes to Linux.
FIRMWARE = [
    (0x0, 0x9FC00, RAM),
    (0x9FC00, 0xA0000, RESERVED),
    (0xF0000, 0x100000, RESERVED),
    (0x100000, 0x7FFDE000, RAM),
    (0x7FFDE000, 0x80000000, RESERVED),
    (0xB0000000, 0xC0000000, RESERVED),
    (0xFFFC0000, 0x100000000, RESERVED),
    (0x100000000, 0x180000000, RAM),
    (0xFD00000000, 0x10000000000, RESERVED),
]

# "user-defined physical RAM map" of a real 6.1 kernel on that machine, from 1 MiB on.
USER_DEFINED = {
    "1G!4G,junk": [
        (0x100000, 0x7FFDE000, RAM),
        (0x7FFDE000, 0x80000000, RESERVED),
        (0xB0000000, 0xC0000000, RESERVED),
        (0xFFFC0000, 0x100000000, RESERVED),
        (0x100000000, 0x140000000, PRAM),
        (0x140000000, 0x180000000, RAM),
        (0xFD00000000, 0x10000000000, RESERVED),
    ],
    "1G!5632M": [  # which reaches past the end of RAM
        (0x100000, 0x7FFDE000, RAM),
        (0x7FFDE000, 0x80000000, RESERVED),
        (0xB0000000, 0xC0000000, RESERVED),
        (0xFFFC0000, 0x100000000, RESERVED),
        (0x100000000, 0x160000000, RAM),
        (0x160000000, 0x180000000, PRAM),
        (0x180000000, 0x1A0000000, PRAM),
        (0xFD00000000, 0x10000000000, RESERVED),
    ],
    "1G!4G,1G!4608M,64M!1G": [  # two overlap
        (0x100000, 0x40000000, RAM),
        (0x40000000, 0x44000000, PRAM),
        (0x44000000, 0x7FFDE000, RAM),
        (0x7FFDE000, 0x80000000, RESERVED),
        (0xB0000000, 0xC0000000, RESERVED),
        (0xFFFC0000, 0x100000000, RESERVED),
        (0x100000000, 0x120000000, PRAM),
        (0x120000000, 0x140000000, PRAM),
        (0x140000000, 0x160000000, PRAM),
        (0x160000000, 0x180000000, RAM),
        (0xFD00000000, 0x10000000000, RESERVED),
    ],
    "64M!4G,64M!4160M,96M!4224M": [  # one touches the next
        (0x100000, 0x7FFDE000, RAM),
        (0x7FFDE000, 0x80000000, RESERVED),
        (0xB0000000, 0xC0000000, RESERVED),
        (0xFFFC0000, 0x100000000, RESERVED),
        (0x100000000, 0x104000000, PRAM),
        (0x104000000, 0x108000000, PRAM),
        (0x108000000, 0x10E000000, PRAM),
        (0x10E000000, 0x180000000, RAM),
        (0xFD00000000, 0x10000000000, RESERVED),
    ],
    "130M!4200M,3M!5G,258M!5400M,1023K!5800M": [  # whatever the alignment
        (0x100000, 0x7FFDE000, RAM),
        (0x7FFDE000, 0x80000000, RESERVED),
        (0xB0000000, 0xC0000000, RESERVED),
        (0xFFFC0000, 0x100000000, RESERVED),
        (0x100000000, 0x106800000, RAM),
        (0x106800000, 0x10EA00000, PRAM),
        (0x10EA00000, 0x140000000, RAM),
        (0x140000000, 0x140300000, PRAM),
        (0x140300000, 0x151800000, RAM),
        (0x151800000, 0x161A00000, PRAM),
        (0x161A00000, 0x16A800000, RAM),
        (0x16A800000, 0x16A8FFC00, PRAM),
        (0x16A8FFC00, 0x180000000, RAM),
        (0xFD00000000, 0x10000000000, RESERVED),
    ],
}


def table(entries):
    return E820Table([E820Entry(start, end - start, kind) for start, end, kind in entries])


def shown(e820):
    return [(entry.start, entry.end, entry.type) for entry in e820.entries]


@pytest.mark.parametrize("memmap", USER_DEFINED)
def test_the_map_is_what_a_real_kernel_made_of_it(memmap):
    e820 = table(FIRMWARE)
    e820.apply(memmap)
    assert shown(e820)[3:] == USER_DEFINED[memmap]


@pytest.mark.parametrize(
    ("text", "value", "rest"),
    [
        ("512M!4G", 512 << 20, "!4G"),
        ("1k", 1024, ""),
        ("2t", 2 << 40, ""),
        ("1p1", 1 << 50, "1"),
        ("1E", 1 << 60, ""),
        ("16E", 0, ""),
        ("0x10", 16, ""),
        ("0X1Fg", 0x1F << 30, ""),
        ("0x", 0, "x"),
        ("010", 8, ""),
        ("08", 0, "8"),
        ("18446744073709551617", 1, ""),
        ("G!4G", 0, "!4G"),
        ("junk", 0, "junk"),
        ("-1", 0, "-1"),
        ("", 0, ""),
    ],
)
def test_numbers_are_read_as_memparse_reads_them(text, value, rest):
    assert memparse(text) == (value, rest)


@pytest.mark.parametrize(
    ("memmap", "added"),
    [
        ("1G!4G", [(4 * GIB, GIB, PRAM)]),
        ("1G!4G!", [(4 * GIB, GIB, PRAM)]),  # the garbage is noticed too late
        ("1G!4GB,2G@8G", [(4 * GIB, GIB, PRAM), (8 * GIB, 2 * GIB, RAM)]),
        ("64K#1M", [(MIB, 64 << 10, E820Type.ACPI)]),
        ("64K$1M", [(MIB, 64 << 10, RESERVED)]),
        ("1G!", [(0, GIB, PRAM)]),
        ("1G%4G+7", [(4 * GIB, GIB, E820Type.PMEM)]),
        ("1G%4G+7x", []),
        ("!4G", []),
        ("0x!4G", []),
        (",,", []),
        (" 1G!4G", []),
    ],
)
def test_each_entry_adds_what_the_kernel_adds(memmap, added):
    e820 = E820Table()
    for entry in map(parse_entry, memmap.split(",")):
        entry.apply(e820) if entry.understood else None
    assert [(e.start, e.size, e.type) for e in e820.entries] == added


def test_a_size_alone_limits_ram():
    e820 = table(FIRMWARE)
    e820.apply("1G")
    assert e820.total(RAM) == 0x9FC00 + GIB - MIB
    assert e820.total(RESERVED) == table(FIRMWARE).total(RESERVED)


def test_conversions_take_old_and_new_kinds():
    e820 = table(FIRMWARE)
    e820.apply("1G%4G-1+12")
    assert (4 * GIB, 5 * GIB, PRAM) in shown(e820)
    e820.apply("512M%4G-12+2")
    assert (0xFFFC0000, 4 * GIB + 512 * MIB, RESERVED) in shown(e820)  # with the firmware's, which it touches
    e820.apply("3G%4G")
    assert not any(4 * GIB <= start < 7 * GIB for start, _, _ in shown(e820))


def test_exactmap_forgets_the_firmware():
    e820 = table(FIRMWARE)
    e820.apply("exactmap,640K@0,1G@1M,256M!4G")
    assert shown(e820) == [
        (0, 0xA0000, RAM),
        (MIB, GIB + MIB, RAM),
        (4 * GIB, 4 * GIB + 256 * MIB, PRAM),
    ]


@pytest.mark.parametrize("memmap", ["exactmap", "exactmap,1G@0", "16383P!1P", "1!18446744073709551615"])
def test_the_kernel_panics_over_what_it_cannot_sanitise(memmap):
    with pytest.raises(KernelPanic, match="Invalid user supplied memory map"):
        table(FIRMWARE).apply(memmap)


def test_junk_alone_does_not_even_sanitise():
    e820 = table(list(reversed(FIRMWARE)))
    e820.apply("junk,!,")
    assert shown(e820) == list(reversed(FIRMWARE))


def test_a_full_table_ignores_the_rest():
    e820 = E820Table(limit=3)
    for number in range(5):
        e820.add(number * GIB, GIB, RAM)
    assert len(e820.entries) == 3


kinds = st.sampled_from([1, 2, 3, 7, 12, 128, 0xEFFFFFFF])
entry_lists = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12), kinds), min_size=2, max_size=10)


@settings(max_examples=150)
@given(entry_lists)
def test_the_highest_type_wins_every_byte_and_persistent_ranges_split_at_every_boundary(entries):
    e820 = E820Table([E820Entry(*entry) for entry in entries])
    assert e820.sanitise()
    for byte in range(60):
        wanted = max((kind for start, size, kind in entries if start <= byte < start + size), default=None)
        found = [entry.type for entry in e820.entries if entry.start <= byte < entry.end]
        assert found == ([] if wanted is None else [wanted])
    boundaries = {edge for start, size, _ in entries if size for edge in (start, start + size)}
    for entry in e820.entries:
        if entry.type in (12, 0xEFFFFFFF):
            assert not any(entry.start < edge < entry.end for edge in boundaries)
    for one, other in zip(e820.entries, e820.entries[1:], strict=False):
        assert one.end <= other.start
        assert (one.end, one.type) != (other.start, other.type) or one.type in (12, 0xEFFFFFFF)


def ram_of(memmap, ram):
    return boot_table(memmap, ram).total(RAM)


def test_persistent_ranges_are_taken_from_the_installed_memory():
    plain = ram_of("", 4 * GIB)
    assert 4 * GIB - MIB < plain < 4 * GIB
    taken = {
        "512M!4G,256M!6G": 512 * MIB,
        "1G!1G": GIB,
        "1G!4G,1G!4608M": 1536 * MIB,
        "2560M!4G": 2 * GIB,
        "1G!100G": 0,
    }
    for memmap, size in taken.items():
        assert abs(plain - ram_of(memmap, 4 * GIB) - size) < MIB, memmap
    assert ram_of("6T!4G", GIB) == ram_of("", GIB)


def test_a_machine_too_small_for_a_kernel_is_refused():
    with pytest.raises(ValueError, match="RAM"):
        boot_table("", MINIMUM_RAM - 1)


def test_iomem_is_that_of_a_plain_pc():
    text = iomem_text(build_iomem("512M!4G,256M!6G"))
    assert text.startswith(
        "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n0009fc00-0009ffff : Reserved\n"
    )
    assert "000f0000-000fffff : Reserved\n  000f0000-000fffff : System ROM\n00100000-7ffddfff : System RAM\n" in text
    assert text.endswith(
        "fffc0000-ffffffff : Reserved\n"
        "100000000-11fffffff : Persistent Memory (legacy)\n"
        "120000000-17fffffff : System RAM\n"
        "180000000-18fffffff : Persistent Memory (legacy)\n"
    )


def test_the_end_of_odd_ram_is_padded():
    assert "RAM buffer" not in iomem_text(build_iomem("", 4 * GIB))
    assert iomem_text(build_iomem("", 4 * GIB + 5 * MIB)).endswith(
        "100000000-1804fffff : System RAM\n180500000-183ffffff : RAM buffer\n"
    )


def test_persistent_memory_is_left_to_drivers_and_ram_is_not():
    root = build_iomem("512M!4G")
    (legacy,) = root.matching(ResourceFlag.MEM, ResourceDescriptor.PERSISTENT_MEMORY_LEGACY)
    assert not legacy.busy
    assert all(ram.busy for ram in root.matching(ResourceFlag.SYSTEM_RAM))


def test_other_kinds_have_their_names():
    text = iomem_text(build_iomem("64M#1G,1G%8G+7,1G%16G+99,1G%32G+5"))
    for line in (
        "40000000-43ffffff : ACPI Tables",
        "200000000-23fffffff : Persistent Memory\n",
        "400000000-43fffffff : Unknown E820 type",
        "800000000-83fffffff : Unusable memory",
    ):
        assert line in text


@pytest.mark.parametrize(
    "memmap",
    [
        "",
        "512M!4G,256M!6G",
        "1g!4g",
        "0x40000000!0x100000000",
        "010M!4G",
        "3M!4097M",
        "1023K!5800M",
        "64M!4G,64M!4160M",
        "1G!4G,1G!4608M",
        "1P!4G",
        "64K!0",
        "1G!1M",
        "64M$1G",
        "1G@8G",
        "1G%4G-1+12",
        "exactmap,640K@0,1G@1M,256M!4G",
    ],
)
def test_a_memmap_that_the_kernel_honours_is_accepted(memmap):
    check_memmap(memmap)


@pytest.mark.parametrize(
    ("memmap", "message"),
    [
        ("1G!4G,junk", r"entry 2 'junk' \(column 7\): it does not begin with a size; write SIZE!START, for example"),
        ("!4G", "does not begin with a size"),
        ("M!4G", "does not begin with a size"),
        ("-1G!4G", "does not begin with a size"),
        ("1G!4G, 1G!6G", r"entry 2 ' 1G!6G' \(column 7\): it does not begin with a size"),
        ("\u00b2G!4G", "does not begin with a size"),
        ("1G", "the start is missing; a size alone would remove all RAM above it"),
        ("1G4G", "unexpected '4' after the size; expected one of @ # [$] ! %"),
        ("512MB!4G", "unexpected 'B' after the size"),
        ("08M!4G", "unexpected '8' .a number that begins with 0 is octal. after the size"),
        ("1G!", "the start is missing after '!'"),
        ("1G!x", "the start is missing after '!'"),
        ("1G!4Gx", "unexpected 'x' after the start"),
        ("1G!4G\n", r"unexpected '\\n' after the start"),
        ("1G!4G 1G!6G", "unexpected ' ' after the start"),
        ("1G!4G,", r"entry 2 '' \(column 7\): it is empty"),
        ("1G!4G,,1G!6G", "it is empty"),
        ("0!4G", "0 bytes long"),
        ("16E!4G", "physical addresses end at 0x10000000000000"),
        ("1G!5P", "physical addresses end at"),
        ("99999999999999999999!4G", "physical addresses end at"),
        ("exactmap", "would panic .Invalid user supplied memory map."),
        ("exactmapx,1G@0", "unexpected 'x' after exactmap"),
        ("1G!4G,exactmap", "discards the entries before it"),
        ("exactmap,1G!4G,1G!6G", "leaves 0 MiB of System RAM, but a kernel needs 64"),
        ("2G!1M,2G!4G", "leaves 0 MiB of System RAM"),
        ("640K!0", "leaves no RAM below 1 MiB"),  # a real kernel did not come up
        ("1G!0", "leaves no RAM below 1 MiB"),
        ("1G%4G-", "the type is missing after '-'"),
        ("1G%4G+", "the type is missing after '[+]'"),
        ("1G%4G-1+12x", "unexpected 'x' after the start"),
        ("1G%4G-1+4294967296", "does not fit into 32 bits"),
        ("1G@0", "a part of the range has type 2, which overrides type 1"),
        ("1M@4G,1M!4G", "a part of the range has type 12, which overrides type 1"),
        (",".join(["1M!4G"] * 400), "command line ends at 2048"),
    ],
)
def test_a_memmap_that_the_kernel_would_not_honour_is_refused_with_one_line(memmap, message):
    with pytest.raises(MemmapError, match=message) as caught:
        check_memmap(memmap)
    assert "\n" not in str(caught.value)


def refusal_of(memmap):
    try:
        check_memmap(memmap)
    except MemmapError as error:
        return str(error)
    return ""


def amounts(least, most):
    return st.builds("{}{}".format, st.integers(least, most), st.sampled_from("kMG"))


memmaps = st.lists(
    st.builds("{}{}{}".format, amounts(1, 40), st.sampled_from("!!!@#$"), amounts(0, 40)), max_size=5
).map(",".join)


@settings(max_examples=200)
@given(memmaps.filter(lambda memmap: not refusal_of(memmap)))
def test_an_accepted_memmap_has_every_persistent_byte_that_it_asks_for(memmap):
    persistent = [entry for entry in boot_table(memmap).entries if entry.type == PRAM]
    for wanted in map(parse_entry, memmap.split(",") if memmap else []):
        assert not wanted.rest
        if wanted.operator == "!":
            end = wanted.start + wanted.size
            shares = [min(end, entry.end) - max(wanted.start, entry.start) for entry in persistent]
            assert sum(share for share in shares if share > 0) == wanted.size


@given(st.text(alphabet="0123456789xKMGTPEkmg!@#$%+-,ac ", max_size=24))
def test_any_text_is_accepted_or_refused_with_one_line(memmap):
    assert len(refusal_of(memmap).splitlines()) <= 1


def test_a_petabyte_is_as_quick_to_boot_as_a_gigabyte():
    assert boot_table("1P!4G").total(PRAM) == PIB
    assert len(boot_table("1P!4G").entries) <= len(boot_table("1G!4G").entries)
    assert boot_table("6T!4G", GIB).total(PRAM) == 6 * TIB
