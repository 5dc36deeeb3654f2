"""After any changes to labelled namespaces through sysfs, no space is shared or lost, and the labels agree."""

import contextlib
import errno
import tempfile
from itertools import pairwise
from pathlib import Path

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from poke import ND, Hands

from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.nd.device import DeviceType
from nvdimmfs.units import MIB

DESCRIPTION = load_machine("qemu-nfit-labelled")
#: A namespace of all of it has a memmap of more than the first namespace's 16 MiB.
LARGE = """
[[bus]]
[[bus.dimm]]
size = "1300M"
label = { initialised = "1.1" }
[[bus.range]]
start = 0x180000000
size = "1298M"
dimms = ["0x1"]
"""
#: What namespaces can have of each region: whole multiples of 16 MiB.
REGIONS = {0: 240 * MIB, 1: 496 * MIB}


@attrs.frozen
class Namespace:
    """The contents of a label."""

    uuid: str
    alt_name: str
    sector_size: str
    size: int


def boot(folder: Path) -> Hands:
    return Hands.described(DESCRIPTION, folder)


def namespaces(hands: Hands, region: int) -> dict[str, Namespace]:
    """A region's configured namespaces, by name."""
    found = {}
    for name in hands.names(f"namespace{region}."):
        path = hands.device(name)
        size = int(hands.read(f"{path}/size"))
        if size:
            words = (hands.read(f"{path}/{word}").strip() for word in ("uuid", "alt_name", "sector_size"))
            found[name] = Namespace(*words, size)
    return found


def check(hands: Hands) -> None:
    for region, total in REGIONS.items():
        found = namespaces(hands, region)
        free = int(hands.read(f"{hands.device(f'region{region}')}/available_size"))
        assert free + sum(namespace.size for namespace in found.values()) == total
        resources = [int(hands.read(f"{hands.device(name)}/resource"), 0) for name in found]
        extents = sorted(zip(resources, (namespace.size for namespace in found.values()), strict=True))
        assert all(start + size <= following for (start, size), (following, _) in pairwise(extents))


def cycle(hands: Hands, region: int) -> None:
    """Unbind and bind the region: all is read back from the labels."""
    for verb in ("unbind", "bind"):
        hands.write(f"{ND}/drivers/nd_region/{verb}", f"region{region}")
    hands.machine.system.clock.advance(SECOND)


def create(hands: Hands, region: int, number: int, size: int) -> None:
    """Configure and bind the seed, so that there is a new one."""
    seed = hands.read(f"{hands.device(f'region{region}')}/namespace_seed").strip()
    path = hands.device(seed)
    hands.unbind(seed)
    hands.write(f"{path}/uuid", f"{number + 1:08x}-0000-4000-8000-000000000000\n")
    hands.write(f"{path}/size", f"{size}\n")
    hands.bind(seed)


def change(hands: Hands, region: int, number: int, attribute: str, value: object) -> None:
    """Write an attribute of one of the region's namespaces, unbound."""
    names = sorted(namespaces(hands, region)) or hands.names(f"namespace{region}.")
    name = names[number % len(names)]
    hands.unbind(name)
    hands.write(f"{hands.device(name)}/{attribute}", f"{value}\n")


sizes = st.integers(0, 160).map(lambda size: size * MIB)
regions = st.sampled_from(sorted(REGIONS))
numbers = st.integers(0, 30)
creations = st.tuples(st.just("create"), regions, numbers, sizes)
steps = st.one_of(
    creations,
    creations,
    st.tuples(st.just("size"), regions, numbers, sizes),
    st.tuples(st.just("alt_name"), regions, numbers, st.sampled_from(["", "scratch", "x" * 63])),
    st.tuples(st.just("sector_size"), regions, numbers, st.sampled_from([512, 4096, 520])),
    st.tuples(st.just("uuid"), regions, numbers, numbers.map(lambda number: f"{number + 1:032x}")),
    st.tuples(st.just("cycle"), regions, numbers, st.none()),
)


def take(hands: Hands, verb: str, region: int, number: int, value: object) -> None:
    if verb == "create":
        create(hands, region, number, int(str(value)))
    elif verb == "cycle":
        cycle(hands, region)
    else:
        change(hands, region, number, verb, value)


@settings(max_examples=40)
@given(st.lists(steps, min_size=4, max_size=14))
def test_namespaces_share_nothing_and_come_back_after_power_loss(chosen):
    with tempfile.TemporaryDirectory() as folder:
        hands = boot(Path(folder))
        for step in chosen:
            with contextlib.suppress(KernelError):
                take(hands, *step)
            check(hands)
        before = {region: sorted(map(attrs.astuple, namespaces(hands, region).values())) for region in REGIONS}
        for region in REGIONS:
            cycle(hands, region)
        check(hands)
        assert before == {r: sorted(map(attrs.astuple, namespaces(hands, r).values())) for r in REGIONS}
        hands.machine.close()
        hands = boot(Path(folder))
        check(hands)
        assert before == {r: sorted(map(attrs.astuple, namespaces(hands, r).values())) for r in REGIONS}
        hands.machine.close()


def test_a_namespace_is_gone_for_good_at_size_0(tmp_path):
    hands = boot(tmp_path)
    create(hands, 0, 1, 32 * MIB)
    assert [namespace.size for namespace in namespaces(hands, 0).values()] == [32 * MIB]
    change(hands, 0, 0, "size", 0)
    cycle(hands, 0)
    assert namespaces(hands, 0) == {}
    assert hands.read(f"{hands.device('region0')}/nstype") == f"{DeviceType.NAMESPACE_PMEM}\n"
    hands.machine.close()


def test_a_memmap_overwrites_the_info_block_of_a_former_namespace():
    """As in a kernel that was asked: the namespace made again at the old place, with the old uuid, is a plain one."""
    hands = Hands.described(LARGE)

    def pair() -> list[str]:
        for number, size in enumerate((16 * MIB, 32 * MIB)):
            create(hands, 0, number, size)
        return sorted(namespaces(hands, 0), key=lambda name: int(hands.read(f"{hands.device(name)}/resource"), 0))

    def let_go() -> None:
        for name in hands.names("pfn"):
            hands.unbind(name)
            hands.write(f"{hands.device(name)}/namespace", "\n")
        for name in namespaces(hands, 0):
            hands.unbind(name)
            hands.write(f"{hands.device(name)}/size", "0\n")

    _, second = pair()
    hands.bring_up(0, "pfn", namespace=second, mode="ram")
    let_go()
    with contextlib.suppress(KernelError):  # binding the namespace is refused in favour of a pfn device
        pair()
    _, second = namespaces(hands, 0)
    assert hands.read(f"{hands.device(second)}/mode") == "memory\n"
    let_go()
    create(hands, 0, 2, 1264 * MIB)
    (large,) = namespaces(hands, 0)
    hands.bring_up(0, "pfn", namespace=large, mode="pmem")
    let_go()
    _, second = pair()
    assert hands.read(f"{hands.device(second)}/mode") == "raw\n"


#: Two regions that share a DIMM, the first on higher addresses of it than the second.
SHARED = """
[[bus]]
[[bus.dimm]]
size = "1G"
label = { initialised = "1.2" }
[[bus.range]]
start = 0x200000000
dimms = [{ dimm = "0x1", dpa = "512M", size = "512M" }]
[[bus.range]]
dimms = [{ dimm = "0x1", dpa = 0, size = "512M" }]
"""


def test_a_uuid_that_two_regions_use_binds_nothing_outside_of_a_region():
    """The extents of an unbound region stay on its DIMM, and are found by their uuid."""
    hands = Hands.described(SHARED)
    uuid = "00000003-1111-2222-3333-444444444444"
    hands.write(f"{hands.device('namespace1.0')}/uuid", uuid)
    hands.write(f"{hands.device('namespace1.0')}/size", str(64 * MIB))
    hands.unbind("region1")
    hands.write(f"{hands.device('namespace0.0')}/uuid", uuid)
    hands.write(f"{hands.device('namespace0.0')}/size", str(128 * MIB))
    start = int(hands.read(f"{hands.device('namespace0.0')}/resource"), 16)
    region = int(hands.read(f"{hands.device('region0')}/resource"), 16)
    assert start == region - 512 * MIB
    assert hands.refused(f"{ND}/drivers/nd_pmem/bind", "namespace0.0") == errno.EBUSY


def test_a_seed_whose_name_is_taken_is_not_registered(log_watch):
    """The region was bound without labels, and gave its only namespace the number that the next seed takes."""
    hands = Hands.described("one-dimm")
    hands.unbind("region0")
    hands.unbind("nmem0")
    area = next(iter(hands.machine.storage._label_areas.values()))
    labels = area.read(0, area.size)
    area.zero(0, area.size)
    hands.write("bus/acpi/drivers/nfit/unbind", "ACPI0012:00")
    hands.write("bus/acpi/drivers/nfit/bind", "ACPI0012:00")
    hands.unbind("namespace0.0")
    hands.unbind("nmem0")
    area.write(0, labels)
    hands.write(f"{ND}/drivers/nvdimm/bind", "nmem0")
    assert hands.read(f"{hands.device('namespace0.0')}/nstype") == "5\n"
    log_watch.expect("namespace0.0 is not registered: EEXIST")
    hands.write(f"{ND}/drivers/nd_pmem/bind", "namespace0.0")
    assert hands.driver_of("namespace0.0") == "nd_pmem"
    hands.unbind("region0")
    hands.write(f"{ND}/drivers/nd_region/bind", "region0")
    assert hands.driver_of("region0") == "nd_region"


def test_a_region_of_three_disks_can_allocate_after_it_was_bound_again():
    hands = Hands.described("qemu-nfit-labelled")
    for _ in range(3):
        allocate(hands)
    for verb in ("unbind", "bind", "unbind", "bind"):
        hands.write(f"{ND}/drivers/nd_region/{verb}", "region1")
    assert sorted(hands.names("namespace1.")) == [f"namespace1.{number}" for number in range(4)]
    assert allocate(hands) == "namespace1.3"


def allocate(hands):
    """Make a raw namespace of 64 MiB from the region's seed, and bind it; its name."""
    seed = hands.read(hands.device("region1/namespace_seed")).strip()
    assert hands.read(hands.device(f"{seed}/size")) == "0\n"
    hands.write(hands.device(f"{seed}/uuid"), f"00000000-0000-0000-0000-{next(hands.uuids):012}")
    hands.write(hands.device(f"{seed}/size"), str(64 * MIB))
    hands.bind(seed)
    return seed
