"""Whatever is bound and unbound in whatever order through sysfs, the page engine keeps its books."""

import errno
from itertools import pairwise, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from poke import DEBUG, ND, Hands

from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.mm.intervals import IntervalSet
from nvdimmfs.mm.sparse import Memmap, Place
from nvdimmfs.units import GIB, KIB, MIB, PAGE_SHIFT, PAGES_PER_SECTION, align_down, align_up, pages

#: Neighbours within sections, of each other and of RAM; ranges apart from everything; one that RAM cannot describe.
RANGES = "64M!4G,64M!4160M,96M!4224M,256M!5G,130M!5400M,2G!8G,2050M!16G,6T!1T"
REGIONS = 8

#: What a step may be answered.  Anything else is a bug.
REFUSALS = {
    *(errno.EBUSY, errno.EEXIST, errno.EINVAL, errno.ENODEV, errno.ENOMEM, errno.ENOTTY, errno.ENXIO, errno.EOPNOTSUPP)
}

ALIGNMENTS = (4 * KIB, 2 * MIB, GIB)

WAYS = [
    *(
        (kind, {"mode": mode, "align": align})
        for kind, mode, align in product(("pfn", "dax"), ("pmem", "ram"), ALIGNMENTS)
    ),
    ("raw", {}),
    ("force_raw", {}),
    ("btt", {"sector_size": 512}),
]

#: Kernels before 4.9 have no dax devices, and those before 4.5 no align.
WAYS_WITHOUT_DAX = [way for way in WAYS if way[0] != "dax"]
WAYS_WITHOUT_ALIGN = [("pfn", {"mode": mode}) for mode in ("pmem", "ram")] + WAYS[-3:]

regions = st.integers(0, REGIONS - 1)
machines = st.sampled_from([512 * MIB, 4 * GIB])


def steps(ways):
    """Stories of a few steps."""
    uses = st.tuples(st.just("use"), regions, st.sampled_from(ways))
    others = (
        st.tuples(st.just("unbind"), regions, st.none()),
        st.tuples(st.just("region"), regions, st.none()),
        st.tuples(st.just("fail"), st.sampled_from(["fail_registration", "fail_altmap"]), st.none()),
    )
    return st.lists(st.one_of(uses, uses, uses, *others), min_size=4, max_size=12)


@settings(max_examples=60)
@given(steps(WAYS), machines)
def test_the_books_are_kept_whatever_is_bound_and_unbound(chosen, ram):
    keep_books(Hands.on(RANGES, ram), chosen)


@settings(max_examples=30)
@given(steps(WAYS_WITHOUT_DAX), machines)
@example([("unbind", 0, None), ("use", 0, ("pfn", {"mode": "pmem", "align": GIB}))], 512 * MIB)  # a memmap past the end
def test_4_5_keeps_its_books(chosen, ram):
    keep_books(Hands.on(RANGES, ram, "4.5"), chosen)


@pytest.mark.parametrize("kernel", ["rfc", "4.3"])
@settings(max_examples=30)
@given(steps(WAYS_WITHOUT_ALIGN), machines)
def test_kernels_without_align_keep_their_books(kernel, chosen, ram):
    keep_books(Hands.on(RANGES, ram, kernel), chosen)


def keep_books(hands, chosen):
    """Take the steps, and check after each; in the end nothing is left."""
    before = hands.memory.ram_free + ram_left(hands)
    books = Books()
    check(hands, books)
    for verb, what, way in chosen:
        try:
            take(hands, verb, what, way)
        except KernelError as refusal:
            if refusal.errno not in REFUSALS:
                raise
        hands.machine.system.clock.advance(SECOND)
        check(hands, books)
    for number in range(REGIONS):
        if hands.driver_of(f"region{number}"):
            hands.write(f"{ND}/drivers/nd_region/unbind", f"region{number}")
    check(hands, books)
    assert not hands.memory.pagemaps
    assert hands.facts("ram")["memmap_devices"] == "0"
    assert hands.memory.ram_free + ram_left(hands) >= before


def ram_left(hands):
    """Bytes of RAM that registrations which failed half-way have taken."""
    return int(hands.facts("ram")["memmap_left"])


class Books:
    """What must be populated and spanned, by the kernel's own rules.

    By 6.1 that is what is mapped, and the zone never shrinks.  Kernels that know whole sections only widen a range to
    them, leave existing ones to the range that added them, and remove them with it.
    """

    def __init__(self):
        self.everything = IntervalSet()
        self.brought = {}

    def update(self, memory):
        """Compare with what was there before: who has gone took its sections along."""
        ranges = {pagemap: widened(memory.kernel, pagemap) for pagemap in memory.pagemaps}
        for pagemap in self.brought.keys() - ranges.keys():
            del self.brought[pagemap]
        taken = set().union(
            *self.brought.values(), sections((run.first_pfn, run.end_pfn) for run in memory.sparse.boot.runs)
        )
        for pagemap, span in ranges.items():
            self.everything.add(*span)
            if pagemap not in self.brought:
                self.brought[pagemap] = sections([span]) - taken
                taken |= self.brought[pagemap]
        populated = IntervalSet((pfn, pfn + PAGES_PER_SECTION) for pfns in self.brought.values() for pfn in pfns)
        return (populated, IntervalSet(ranges.values())) if memory.kernel.rounds_out else (None, self.everything)


def widened(kernel, pagemap):
    """First and end pfn of what a kernel adds for a range."""
    unit = pages(kernel.granularity)
    return align_down(pagemap.range.first_pfn, unit), align_up(pagemap.range.end_pfn, unit)


def sections(intervals):
    """The first pfns of all sections in some intervals."""
    return {pfn for first, end in intervals for pfn in range(first, end, PAGES_PER_SECTION)}


def take(hands, verb, what, way):
    if verb == "fail":
        hands.write(f"{DEBUG}/{what}", "1" if what == "fail_altmap" else "ENOMEM")
    elif verb == "region":
        bound = hands.driver_of(f"region{what}")
        hands.write(f"{ND}/drivers/nd_region/{'unbind' if bound else 'bind'}", f"region{what}")
    elif verb == "unbind":
        release(hands, what)
    elif hands.driver_of(f"region{what}"):
        release(hands, what)
        use(hands, what, *way)


def use(hands, number, kind, config):
    namespace = f"namespace{number}.0"
    if kind not in ("raw", "force_raw"):
        hands.bring_up(number, kind, **config)
        return
    hands.write(f"{hands.device(namespace)}/force_raw", str(int(kind == "force_raw")))
    hands.bind(namespace)


def release(hands, number):
    """Unbind what uses the namespace, and have it let go of it."""
    for kind in ("btt", "pfn", "dax"):
        for name in hands.names(f"{kind}{number}."):
            if name in hands.names(name):  # it may be gone by now: letting go removes devices
                hands.unbind(name)
                hands.write(f"{hands.device(name)}/namespace", "\n")
    for name in hands.names(f"namespace{number}."):
        hands.unbind(name)


def check(hands, books):
    memory = hands.memory
    check_ranges(memory, books)
    check_struct_pages(memory)
    check_altmaps(memory)
    check_ram(hands)
    check_translations(memory)
    check_layout(hands)


def check_ranges(memory, books):
    """A page belongs to one page map at most; what is mapped, or left by a failure, is what is populated."""
    ranges = sorted((r.first_pfn, r.end_pfn, pagemap) for pagemap in memory.pagemaps for r in pagemap.ranges)
    assert all(end <= start for (_, end, _), (start, _, _) in pairwise(ranges))
    populated, spanned = books.update(memory)
    if populated is None:
        populated = IntervalSet((first, end) for first, end, _ in ranges)
    for run in memory.sparse.left:
        populated.add(run.first_pfn, run.end_pfn)
    assert populated == memory.sparse.hot
    for first, end, pagemap in ranges:
        assert memory.find_pagemap(first) is memory.find_pagemap(end - 1) is pagemap
        assert not memory.is_ram(first)
    zone = memory.device_zone()
    assert (zone.start_pfn, zone.end_pfn) == (spanned.span or (0, 0))
    assert (zone.present, zone.managed) == (0, 0)


def check_struct_pages(memory):
    """No address holds two struct pages, or a struct page and something else that is in use."""
    pieces = [piece for run in (*memory.sparse.boot.runs, *memory.sparse.left) for piece in run.pieces]
    for pagemap in memory.pagemaps:
        for run in pagemap.memmaps[0].runs:
            pieces += run.pieces
            assert sum(piece.size for piece in run.pieces) >= needed(run)
            if run.place is Place.PMEM:
                reserve = 8 * KIB if memory.kernel.altmap_skips_reserve else 0
                low, high = pagemap.range.start + reserve, pagemap.pfn_first() << PAGE_SHIFT
                assert all(low <= piece.start < piece.end <= high for piece in run.pieces)
            else:
                assert all(memory.is_ram(pages(piece.start)) for piece in run.pieces)
    taken = IntervalSet((piece.start, piece.end) for piece in pieces)
    assert taken.count == sum(piece.size for piece in pieces)


def needed(run):
    if run.place is Place.BOOT:
        return 0
    count = run.end_pfn - run.first_pfn
    return 2 * 4096 * count // run.compound if run.compound else 64 * count


def check_altmaps(memory):
    """What was set aside was given out, lost to alignment, or is there."""
    for pagemap in memory.pagemaps:
        altmap = pagemap.altmap
        if altmap is None:
            continue
        given = sum(memmap.altmap_pfns for memmap in pagemap.memmaps)
        assert altmap.alloc == given
        assert altmap.reserve + altmap.alloc + altmap.align + altmap.available == altmap.offset
        assert pagemap.pfn_first() == altmap.base_pfn + altmap.offset


def check_ram(hands):
    """RAM is free, or holds struct pages, or was never there to be had."""
    facts = {name: int(number) for name, number in hands.facts("ram").items()}
    memory = hands.memory
    drawn = sum(
        piece.size
        for pagemap in memory.pagemaps
        for run in pagemap.memmaps[0].runs
        if run.place is Place.RAM
        for piece in run.pieces
    )
    assert facts["memmap_devices"] == drawn
    assert facts["memmap_left"] == Memmap(tuple(memory.sparse.left)).ram_bytes
    used = drawn + facts["memmap_left"] + facts["memmap_ram"] + facts["reserved"]
    assert facts["free"] + used == facts["total"] == memory.ram_bytes
    assert 40 * MIB < facts["reserved"] < 48 * MIB  # the kernel's image


def check_translations(memory):
    """At both ends of everything, each way leads back."""
    translate = memory.pages
    ends = {end for pagemap in memory.pagemaps for end in (pagemap.range.first_pfn, pagemap.range.end_pfn)}
    ends |= {pagemap.pfn_first() for pagemap in memory.pagemaps}
    for pfn in {end + step for end in ends for step in (-1, 0, 1)}:
        found = translate.describe(pfn)
        assert translate.page_to_pfn(found.page) == pfn
        assert translate.virt_to_page(found.virtual) == found.page
        assert translate.page_address(found.page) == found.virtual
        assert found.initialised <= found.valid == (found.struct_page is not None)
        in_use = memory.is_ram(pfn) or bool(found.pagemap and found.pagemap.pfn_valid(pfn))
        assert found.initialised == (found.valid and in_use)
        assert not (found.online and found.pagemap)


def check_layout(hands):
    """Parts fill their namespaces, and have the sizes that sysfs shows."""
    for region in hands.layout()["regions"]:
        position = region["start"]
        ranges = [*region["namespaces"], *region["free"]]
        for each in sorted(ranges, key=lambda each: each["start"]):
            assert each["start"] == position
            position += each["size"]
        assert position == region["start"] + region["size"]
        for namespace in region["namespaces"]:
            check_parts(hands, namespace)


def check_parts(hands, namespace):
    position = namespace["start"]
    sizes = dict.fromkeys(("data", "memmap"), 0)
    for part in namespace["parts"]:
        assert part["start"] == position
        assert part["size"] > 0
        position += part["size"]
        sizes[part["kind"]] = sizes.get(part["kind"], 0) + part["size"]
    assert position == namespace["start"] + namespace["size"]
    assert sizes["memmap"] == (namespace["struct_pages"] or {"pmem": 0})["pmem"]
    device = namespace["device"] or ""
    if device.startswith(("pfn", "dax")) and "size" in hands.sysfs.names(hands.device(device)):
        assert sizes["data"] == int(hands.read(f"{hands.device(device)}/size"))
