"""The debug folder: its contents, and the failures that it can inject."""

import errno
import json
import re
import stat

import pytest
from poke import DEBUG, ND, Hands

from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.kernel import KERNELS
from nvdimmfs.machine.layout import layout_json
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.mm.describe import memmap_text, sections_text, zones_text
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.memremap import DevPagemap
from nvdimmfs.units import GIB, KIB, MIB, PIB, TIB, Range

MODULES = f"{DEBUG}/modules"
BTT_FOLDER = "btt"

FILES = {
    "zones": 0o444,
    "sections": 0o444,
    "memmap": 0o444,
    "resources": 0o444,
    "ram": 0o444,
    "layout": 0o444,
    "dump": 0o444,
    "translate": 0o644,
    "fail_registration": 0o644,
    "power_cut": 0o644,
    "clock": 0o644,
    "modules": 0o644,
    "plug": 0o644,
    "checkpoint": 0o644,
    "fail_altmap": 0o644,
    "faults": 0o644,
}


@pytest.fixture
def hands():
    return Hands.on("512M!4G,256M!6G")


def test_the_folder_is_for_its_owner_and_has_every_file(hands):
    root = hands.machine.system.sys
    assert stat.S_IMODE(root.find("kernel/debug").mode) == 0o700
    assert {node.name: stat.S_IMODE(node.mode) for node in root.find(DEBUG)} == {
        **FILES,
        "control": 0o600,
        "saved": 0o400,
        "trace": 0o600,
        "trace.jsonl": 0o600,
    }


def test_looking_changes_nothing_and_takes_no_time(hands):
    hands.bring_up(0, "pfn", mode="pmem")
    before = hands.snapshot()
    now = hands.machine.system.clock.now
    for name in FILES:
        assert hands.debug(name).endswith("\n") or name == "faults"  # which is empty
    assert hands.machine.system.clock.now == now
    assert hands.snapshot() == before


@pytest.mark.parametrize("name", [name for name, mode in FILES.items() if mode == 0o444])
def test_a_read_only_file_cannot_be_written(hands, name):
    assert hands.refused(f"{DEBUG}/{name}", "1") == errno.EACCES
    with pytest.raises(KernelError) as caught:
        hands.machine.system.sys.find(f"{DEBUG}/{name}").store(b"1")
    assert caught.value.errno == errno.EIO


# Zones


def test_zones_are_those_of_zoneinfo(hands):
    zoneinfo = hands.machine.tree.root.find("proc/zoneinfo").show().decode()
    wanted = [
        tuple(re.search(rf"{key} +(\d+)", text)[1] for key in ("spanned", "present", "managed"))
        for text in re.split(r"^Node", zoneinfo, flags=re.MULTILINE)[1:]
    ]
    lines = [line.split() for line in hands.debug("zones").splitlines()[1:]]
    assert [tuple(line[-3:]) for line in lines] == wanted
    assert [line[1] for line in lines] == ["DMA", "DMA32", "Normal", "Movable", "Device"]


def device_zone(text):
    return text.splitlines()[-1].split()[2:]


def test_the_device_zone_grows_with_what_is_mapped():
    hands = Hands.on("512M!4G,2M!6147M")
    assert device_zone(hands.debug("zones")) == ["0x100000-0x11ffff", "0x100000000-0x11fffffff", "131072", "0", "0"]
    hands.write(f"{ND}/drivers/nd_pmem/unbind", "namespace0.0")
    assert device_zone(hands.debug("zones"))[0] == "0x100000-0x11ffff"  # by 6.1 it never shrinks


def test_the_device_zone_of_older_kernels_shrinks_to_nothing():
    memory = Memory.boot("512M!4G", kernel=KERNELS["5.2"])
    device = DevPagemap((Range.sized(4 * GIB, 512 * MIB),))
    memory.memremap_pages(device)
    assert device_zone(zones_text(memory))[0] == "0x100000-0x11ffff"
    memory.memunmap_pages(device)
    assert device_zone(zones_text(memory)) == ["-", "-", "0", "0", "0"]


# Sections and memmaps


def test_sections_are_runs_whole_or_in_part():
    hands = Hands.on("64M!4G,130M!5400M,1P!64T", ram=32 * TIB)
    hands.bring_up(2, "pfn", mode="pmem")
    assert hands.debug("sections") == (
        "pfns                      sections        populated             struct pages     owner\n"
        "0x100000-0x103fff         32              32 of 64 subsections  ram, since boot  namespace0.0\n"
        "0x151800-0x157fff         42              52 of 64 subsections  ram, since boot  namespace1.0\n"
        "0x158000-0x1599ff         43              13 of 64 subsections  ram, since boot  namespace1.0\n"
        "0x400000000-0x43ffffffff  524288-8912895  8388608 sections      pmem             pfn2.0\n"
    )


def test_sections_of_a_failed_registration_have_no_owner():
    hands = Hands.on("1T!64T", ram=4 * GIB)
    assert hands.driver_of("namespace0.0") is None
    *_, left = hands.debug("sections").splitlines()
    assert re.fullmatch(r"0x400000000-0x[0-9a-f]+  524288-\d+  \d+ sections  ram +-", left)
    ram = {name: int(value) for name, value in hands.facts("ram").items()}
    assert ram["free"] < 2 * MIB < ram["memmap_left"]
    assert ram.pop("total") == sum(ram.values())
    hands.configure(0, "pfn", mode="pmem")
    assert hands.refused(f"{ND}/drivers/nd_pmem/bind", "pfn0.0") == errno.EEXIST


def test_a_pfn_device_in_mode_pmem_is_one_line(hands):
    hands.bring_up(0, "pfn", mode="pmem")
    first, second = hands.debug("memmap").splitlines()
    assert first == (
        "pfns=0x100000-0x11ffff owner=pfn0.0 type=fs_dax node=0 state=live refs=128513 compound=1 first_page=0x100a00"
        " memmap=pmem:0x100200000-0x1009fffff altmap=base:0x100000,reserve:2,free:2558,align:510,alloc:2048"
    )
    assert second == (
        "pfns=0x180000-0x18ffff owner=namespace1.0 type=fs_dax node=0 state=live refs=65537 compound=1"
        " first_page=0x180000 memmap=ram:0x17bc00000-0x17bffffff altmap=-"
    )


def test_a_dax_device_has_compound_pages():
    hands = Hands.on("2G!8G")
    hands.bring_up(0, "dax", mode="ram", align=2 * MIB)
    (line,) = hands.debug("memmap").splitlines()
    facts = dict(fact.split("=", 1) for fact in line.split())
    assert (facts["owner"], facts["type"], facts["compound"]) == ("dax0.0", "generic", "512")
    assert hands.facts("ram")["memmap_devices"] == str(8 * MIB)  # two pages for each 2 MiB


def test_struct_pages_since_boot_have_their_place_too():
    hands = Hands.on("96M!4224M")
    (line,) = hands.debug("memmap").splitlines()
    place = re.search(r"memmap=boot:(0x[0-9a-f]+)-(0x[0-9a-f]+)", line)
    first = hands.ask("pfn 0x108000")
    last = hands.ask(f"pfn {0x108000 + 96 * MIB // 4096 - 1}")
    assert int(place[1], 16) == int(first["struct_page_physical"], 16)
    assert int(place[2], 16) == int(last["struct_page_physical"], 16) + 63


def test_nothing_is_mapped_and_nothing_is_said():
    hands = Hands.on("1M!4G")  # not aligned to 2 MiB, so not bound
    assert hands.debug("memmap") == ""
    assert hands.debug("sections") == "pfns  sections  populated  struct pages  owner\n"
    memory = Memory.boot("")
    assert (memmap_text(memory), sections_text(memory).count("\n")) == ("", 1)


def test_resources_show_what_iomem_does_not(hands):
    hands.bring_up(0, "dax", mode="pmem")
    lines = hands.debug("resources").splitlines()
    assert "100000000-11fffffff : Persistent Memory (legacy) (mem desc=persistent_memory_legacy)" in lines
    assert "  100000000-1009fffff : namespace0.0 (mem busy desc=persistent_memory_legacy)" in lines
    assert "  100a00000-11fffffff : dax0.0 (mem busy desc=persistent_memory_legacy)" in lines
    assert "00001000-0009fbff : System RAM (mem sysram busy)" in lines
    plain = [re.sub(r" \([^()]*\)$", "", line) for line in lines]
    assert plain == hands.machine.tree.root.find("proc/iomem").show().decode().splitlines()


def test_ram_adds_up_and_comes_back(hands):
    def ram():
        facts = {name: int(number) for name, number in hands.facts("ram").items()}
        assert facts["total"] == sum(number for name, number in facts.items() if name != "total")
        return facts

    start = ram()
    assert (start["total"], start["memmap_devices"]) == (hands.memory.ram_bytes, 12 * MIB)
    hands.bring_up(0, "pfn", mode="pmem")
    assert ram() == start | {"memmap_devices": 4 * MIB, "free": start["free"] + 8 * MIB}
    hands.unbind("namespace1.0")
    assert ram()["free"] == start["free"] + 12 * MIB


# One page


def test_everything_about_a_page_of_data(hands):
    hands.bring_up(0, "pfn", mode="pmem")
    hands.write(f"{DEBUG}/translate", "pfn 0x100a00\n")
    assert hands.debug("translate") == (
        "query: pfn 0x100a00\n"
        "pfn: 0x100a00\n"
        "physical: 0x100a00000\n"
        "virtual: 0xffff888100a00000\n"
        "page: 0xffffea0004028000\n"
        "offset: 0x0\n"
        "pfn_valid: 1\n"
        "pfn_to_online_page: -\n"
        "initialised: 1\n"
        "zone: Device\n"
        "node: 0\n"
        "device: pfn0.0\n"
        "resource: namespace0.0\n"
        "struct_page_in: pmem\n"
        "struct_page_physical: 0x100228000\n"
        "pfn_t: DEV MAP\n"
        "pfn_t_value: 0x3000000000100a00\n"
    )


@pytest.mark.parametrize(
    ("question", "understood", "offset"),
    [
        ("pfn 0x100a00", "pfn 0x100a00", "0x0"),
        ("pfn 1051136", "pfn 0x100a00", "0x0"),
        ("phys 0x100a00123", "phys 0x100a00123", "0x123"),
        ("  virt   0xFFFF888100A00FFF ", "virt 0xffff888100a00fff", "0xfff"),
        ("page 0xffffea0004028000", "page 0xffffea0004028000", "0x0"),
        ("0x100a00000", "phys 0x100a00000", "0x0"),
        ("4305453056", "phys 0x100a00000", "0x0"),
        ("0xffff888100a00000", "virt 0xffff888100a00000", "0x0"),
        ("0xffffea0004028000", "page 0xffffea0004028000", "0x0"),
    ],
)
def test_a_page_has_many_names(hands, question, understood, offset):
    facts = hands.ask(question)
    assert (facts["query"], facts["pfn"], facts["offset"]) == (understood, "0x100a00", offset)


@pytest.mark.parametrize(
    ("pfn", "wanted"),
    [
        (0xFFFFF, {"pfn_valid": "0", "zone": "-", "device": "-", "struct_page_in": "-", "pfn_t": "-"}),
        (0x100000, {"pfn_valid": "1", "initialised": "0", "zone": "-", "device": "pfn0.0", "pfn_t": "DEV"}),
        (0x1009FF, {"initialised": "0", "resource": "namespace0.0", "struct_page_in": "pmem", "pfn_t": "DEV"}),
        (0x100A00, {"initialised": "1", "zone": "Device", "node": "0", "pfn_t": "DEV MAP"}),
        (0x11FFFF, {"initialised": "1", "zone": "Device", "struct_page_physical": "0x1009fffc0"}),
        (0x120000, {"zone": "Normal", "device": "-", "struct_page_in": "ram", "pfn_t": "-", "resource": "System RAM"}),
    ],
)
def test_the_pages_at_each_boundary(hands, pfn, wanted):
    hands.bring_up(0, "pfn", mode="pmem")
    facts = hands.ask(f"pfn {pfn:#x}")
    assert facts.items() >= wanted.items()
    assert facts["pfn_to_online_page"] == (facts["page"] if wanted.get("zone") == "Normal" else "-")


def test_persistent_memory_without_struct_pages_is_dev_alone():
    hands = Hands.on("512M!4G")
    assert hands.ask("phys 0x100000000")["pfn_t"] == "DEV MAP"
    hands.unbind("namespace0.0")
    facts = hands.ask("phys 0x100000000")
    assert (facts["pfn_t"], facts["pfn_valid"], facts["resource"]) == ("DEV", "0", "Persistent Memory (legacy)")


def test_the_last_question_is_answered_anew_at_each_read(hands):
    hands.bring_up(0, "pfn", mode="ram")
    assert hands.ask("phys 0x110000000")["struct_page_in"] == "ram"
    hands.unbind("pfn0.0")
    assert hands.facts("translate")["struct_page_in"] == "-"
    hands.write(f"{ND}/devices/pfn0.0/namespace", "\n")
    hands.bring_up(0, "pfn", mode="pmem")
    assert hands.facts("translate") | {"device": ""} == hands.ask("phys 0x110000000") | {"device": ""}
    assert hands.facts("translate")["struct_page_in"] == "pmem"


@pytest.mark.parametrize(
    ("question", "number"),
    [
        ("", errno.EINVAL),
        ("\n", errno.EINVAL),
        ("pfn", errno.EINVAL),
        ("pfn -1", errno.EINVAL),
        ("pfn 0x", errno.EINVAL),
        ("pfn 1 2", errno.EINVAL),
        ("frame 1", errno.EINVAL),
        ("pfn1", errno.EINVAL),
        ("100a00", errno.EINVAL),
        ("phys 0x10000000000000000", errno.EINVAL),
        ("pfn 0x400000000", errno.ENXIO),
        ("phys 0x400000000000", errno.ENXIO),
        ("virt 0x1000", errno.ENXIO),
        ("virt 0xffffea0004028000", errno.ENXIO),
        ("page 0xffffea0004028001", errno.ENXIO),
        ("page 0", errno.ENXIO),
        ("0xffffffffffffffff", errno.ENXIO),
        ("0xffffea0004028001", errno.ENXIO),
    ],
)
def test_a_question_about_no_page_is_refused_and_the_last_one_stays(hands, question, number):
    before = hands.ask("pfn 1")
    if question:
        assert hands.refused(f"{DEBUG}/translate", question) == number
    assert hands.facts("translate") == before


def test_before_the_first_question_it_says_how_to_ask(hands):
    assert hands.debug("translate").startswith("query: none")


# Failures on order

WAYS = {
    "raw": lambda hands: (hands.unbind("namespace0.0"), "namespace0.0")[1],
    "pfn in mode ram": lambda hands: hands.configure(0, "pfn", mode="ram"),
    "pfn in mode pmem": lambda hands: hands.configure(0, "pfn", mode="pmem"),
}


@pytest.mark.parametrize(
    ("written", "name", "number"),
    [
        ("ENOMEM", "ENOMEM", errno.ENOMEM),
        ("12\n", "ENOMEM", errno.ENOMEM),
        ("-12", "ENOMEM", errno.ENOMEM),
        ("EEXIST\n", "EEXIST", errno.EEXIST),
        ("EOPNOTSUPP", "EOPNOTSUPP", errno.EOPNOTSUPP),
        ("EAGAIN", "EAGAIN", errno.EAGAIN),
    ],
)
def test_the_next_registration_fails_as_ordered(hands, written, name, number):
    device = WAYS["raw"](hands)
    hands.write(f"{DEBUG}/fail_registration", written)
    assert hands.debug("fail_registration") == f"{name}\n"
    assert hands.refused(f"{ND}/drivers/nd_pmem/bind", device) == number
    assert hands.debug("fail_registration") == "none\n"
    hands.bind(device)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENXIO, errno.EEXIST])
def test_after_a_failed_registration_nothing_is_left_behind(hands, way, number):
    device = WAYS[way](hands)
    before = hands.snapshot()
    hands.write(f"{DEBUG}/fail_registration", str(number))
    assert hands.refused(f"{ND}/drivers/nd_pmem/bind", device) == number
    assert hands.snapshot() == before
    assert hands.driver_of(device) is None
    assert "pmem0" not in [node.name for node in hands.machine.system.dev]
    hands.bind(device)
    assert "pmem0" in [node.name for node in hands.machine.system.dev]


def test_a_failed_allocation_from_the_altmap_is_enomem_and_leaves_nothing_behind(hands):
    device = WAYS["pfn in mode pmem"](hands)
    before = hands.snapshot()
    hands.write(f"{DEBUG}/fail_altmap", "1\n")
    assert hands.debug("fail_altmap") == "1\n"
    assert hands.refused(f"{ND}/drivers/nd_pmem/bind", device) == errno.ENOMEM
    assert hands.snapshot() == before
    hands.bind(device)
    assert hands.driver_of(device) == "nd_pmem"


def test_the_altmap_fails_only_who_has_one(hands):
    hands.write(f"{DEBUG}/fail_altmap", "1")
    hands.bring_up(0, "pfn", mode="ram")
    assert hands.debug("fail_altmap") == "1\n"
    hands.write(f"{DEBUG}/fail_altmap", "0")
    hands.bring_up(1, "pfn", mode="pmem")


def test_a_dax_device_whose_pages_fail_waits_for_its_driver(hands):
    """dax_pmem has handed the data on when the registration fails, so its bind succeeds, as on a real kernel."""
    device = hands.configure(0, "dax", mode="pmem")
    free = hands.memory.ram_free
    hands.write(f"{DEBUG}/fail_registration", "ENOMEM")
    hands.bind(device)
    assert hands.driver_of(device) == "dax_pmem"
    child = "bus/dax/devices/dax0.0"
    with pytest.raises(KernelError):
        hands.sysfs.readlink(f"{child}/driver")
    assert "dax0.0" not in hands.debug("memmap")
    assert "100a00000" not in hands.debug("resources")
    assert hands.memory.ram_free == free
    hands.write("bus/dax/drivers/device_dax/bind", "dax0.0")
    assert "owner=dax0.0" in hands.debug("memmap")


def test_the_seed_of_a_refused_device_moves_on_for_eopnotsupp_alone(hands):
    for number, moves in ((errno.ENOMEM, False), (errno.EOPNOTSUPP, True)):
        device = hands.configure(0, "pfn", mode="ram")
        hands.write(f"{DEBUG}/fail_registration", str(number))
        assert hands.refused(f"{ND}/drivers/nd_pmem/bind", device) == number
        assert (hands.read(f"{ND}/devices/region0/pfn_seed").strip() != device) == moves
        hands.write(f"{ND}/devices/{device}/namespace", "\n")


@pytest.mark.parametrize("written", ["EHWPOISON", "133"])
def test_an_errno_that_old_pythons_do_not_name_has_its_name(hands, written):
    hands.write(f"{DEBUG}/fail_registration", written)
    assert hands.debug("fail_registration") == "EHWPOISON\n"


@pytest.mark.parametrize("written", ["none", "none\n", "0", "-0"])
def test_an_order_can_be_taken_back(hands, written):
    device = WAYS["raw"](hands)
    hands.write(f"{DEBUG}/fail_registration", "EIO")
    hands.write(f"{DEBUG}/fail_registration", written)
    assert hands.debug("fail_registration") == "none\n"
    hands.bind(device)
    assert hands.driver_of(device) is not None


@pytest.mark.parametrize("written", ["x", "\n", "EWHAT", "9999", "enomem", "1e3", "E", "-"])
def test_a_text_that_is_no_errno_is_refused(hands, written):
    hands.write(f"{DEBUG}/fail_registration", "EIO")
    assert hands.refused(f"{DEBUG}/fail_registration", written) == errno.EINVAL
    assert hands.debug("fail_registration") == "EIO\n"


def test_the_altmap_takes_truth_values_only(hands):
    assert hands.refused(f"{DEBUG}/fail_altmap", "perhaps") == errno.EINVAL


# The layout


def parts(hands, number=0):
    (namespace,) = hands.layout()["regions"][number]["namespaces"]
    return [(part["kind"], part["start"], part["size"]) for part in namespace["parts"]]


def test_the_parts_of_a_pfn_device(hands):
    hands.bring_up(0, "pfn", mode="pmem")
    assert parts(hands) == [
        ("info", 4 * GIB, 8 * KIB),
        ("padding", 4 * GIB + 8 * KIB, 2 * MIB - 8 * KIB),
        ("memmap", 4 * GIB + 2 * MIB, 8 * MIB),
        ("data", 4 * GIB + 10 * MIB, 502 * MIB),
    ]
    assert parts(hands, 1) == [("data", 6 * GIB, 256 * MIB)]


def test_bytes_lost_to_the_alignment_at_both_ends():
    hands = Hands.on("2050M!8G")
    hands.bring_up(0, "pfn", mode="pmem", align=GIB)
    assert parts(hands) == [
        ("info", 8 * GIB, 8 * KIB),
        ("padding", 8 * GIB + 8 * KIB, 2 * MIB - 8 * KIB),
        ("memmap", 8 * GIB + 2 * MIB, 32 * MIB),
        ("padding", 8 * GIB + 34 * MIB, 990 * MIB),
        ("data", 9 * GIB, GIB),
        ("end_trunc", 10 * GIB, 2 * MIB),
    ]


def test_who_uses_a_namespace_and_how(hands):
    hands.bring_up(0, "pfn", mode="ram", align=4 * KIB)
    hands.bring_up(1, "btt", sector_size=4096)
    first, second = (region["namespaces"][0] for region in hands.layout()["regions"])
    assert {key: first[key] for key in ("name", "device", "driver", "disk", "mode", "align", "struct_pages")} == {
        "name": "namespace0.0",
        "device": "pfn0.0",
        "driver": "nd_pmem",
        "disk": "pmem0",
        "mode": "ram",
        "align": 4 * KIB,
        "struct_pages": {"ram": 8 * MIB, "pmem": 0},
    }
    assert {key: second[key] for key in ("device", "disk", "sector_size", "struct_pages")} == {
        "device": "btt1.0",
        "disk": "pmem1s",
        "sector_size": 4096,
        "struct_pages": None,
    }
    assert [part["kind"] for part in second["parts"]] == ["unused", "info", "data", "map", "log", "info_copy"]
    assert second["parts"][1]["arena"] == 0


def test_raw_bytes_and_nobody_at_all(hands):
    hands.unbind("namespace0.0")
    assert parts(hands) == [("idle", 4 * GIB, 512 * MIB)]
    hands.write(f"{ND}/devices/namespace0.0/force_raw", "1")
    hands.bind("namespace0.0")
    assert parts(hands) == [("raw", 4 * GIB, 512 * MIB)]


def test_a_region_without_driver_has_no_namespace(hands):
    hands.write(f"{ND}/drivers/nd_region/unbind", "region0")
    region = hands.layout()["regions"][0]
    assert (region["namespaces"], region["free"]) == ([], [{"start": 4 * GIB, "size": 512 * MIB}])


def test_the_layout_has_the_ram_and_how_much_of_a_range_has_no_memory(hands):
    layout = hands.layout()
    assert [(ram["start"], ram["size"]) for ram in layout["system_ram"]][-1] == (4 * GIB + 512 * MIB, 1536 * MIB)
    assert sum(ram["size"] for ram in layout["system_ram"]) == layout["ram"]["total"]
    assert [region["without_memory"] for region in layout["regions"]] == [0, 256 * MIB]
    assert layout["soft_reserved"] == []


def test_the_layout_has_soft_reserved_ranges_and_their_devices():
    (range_,) = Hands.on("1G%5G-1+0xefffffff", ram=6 * GIB).layout()["soft_reserved"]
    assert range_ == {
        "name": "hmem.0",
        "start": 5 * GIB,
        "size": GIB,
        "devices": [{"name": "dax0.0", "start": 5 * GIB, "size": GIB}],
    }


def test_the_layout_has_what_regions_are_made_of():
    machine = Machine.described(load_machine("nfit_test"))
    layout = json.loads(layout_json(machine.memory, machine.nd_bus))
    region = next(region for region in layout["regions"] if region["name"] == "region1")
    assert region["mappings"] == [{"dimm": f"nmem{number}", "start": 16 * MIB, "size": 16 * MIB} for number in range(4)]
    assert [(region["volatile"], region["read_only"]) for region in layout["regions"]] == [
        (False, False),
        (False, False),
        (False, True),
        (True, False),
    ]
    assert [(dimm["name"], dimm["bus"], dimm["capacity"], dimm["enabled"]) for dimm in layout["dimms"]][-1] == (
        "nmem5",
        "ndbus1",
        32 * MIB,
        True,
    )


def test_the_arenas_of_a_large_btt():
    hands = Hands.on("2T!1T")
    hands.bring_up(0, "btt", sector_size=512)
    (namespace,) = hands.layout()["regions"][0]["namespaces"]
    arenas = [part["arena"] for part in namespace["parts"] if "arena" in part]
    assert arenas == [number for number in range(4) for _ in range(5)]
    position = TIB
    for part in namespace["parts"]:
        assert part["start"] == position
        position += part["size"]
    assert position == 3 * TIB


@pytest.mark.parametrize(
    ("kernel", "mode", "kinds", "disk"),
    [
        ("rfc", "pmem", ["memmap", "padding", "data"], "pmem0m"),  # its altmap began at the info block
        ("4.3", "ram", ["info", "data"], "pmem0m"),
        ("4.5", "pmem", ["info", "padding", "memmap", "data"], "pmem0"),
        ("6.1", "pmem", ["info", "padding", "memmap", "data"], "pmem0"),
    ],
)
def test_each_kernel_lays_out_in_its_way(kernel, mode, kinds, disk):
    hands = Hands.on("512M!4G", kernel=kernel)
    hands.bring_up(0, "pfn", mode=mode)
    assert [kind for kind, _, _ in parts(hands)] == kinds
    assert sum(size for _, _, size in parts(hands)) == 512 * MIB
    (namespace,) = hands.layout()["regions"][0]["namespaces"]
    assert (hands.layout()["kernel"], namespace["device"], namespace["disk"]) == (kernel, "pfn0.0", disk)
    assert hands.ask("phys 0x110000000")["struct_page_in"] == mode


def test_a_petabyte_is_a_few_lines():
    hands = Hands.on("1P!64T", ram=32 * TIB)
    hands.bring_up(0, "pfn", mode="pmem")
    assert sum(size for _, _, size in parts(hands)) == PIB
    assert all(len(hands.debug(name).splitlines()) < 40 for name in FILES if name != "dump")
    assert hands.ask(f"phys {PIB:#x}")["struct_page_in"] == "pmem"


class TestDebugfsOfBtts:
    """sys/kernel/debug/btt; recordings/e820/btt-debugfs has its contents."""

    def test_it_comes_and_goes_with_the_module(self):
        hands = Hands.on("64M!4G")
        assert BTT_FOLDER in hands.sysfs.names("kernel/debug")
        hands.unbind("namespace0.0")
        for name in ("dax_pmem", "nd_pmem", "nd_btt"):
            hands.write(MODULES, f"unload {name}\n")
        assert BTT_FOLDER not in hands.sysfs.names("kernel/debug")

    def test_new_arenas_tell_the_distance_and_found_ones_the_place_of_the_next(self):
        hands = Hands.on("1025G!4G", ram=2 * TIB)
        btt = hands.bring_up(0, "btt", sector_size=4096)
        assert self.next_arenas(hands, btt) == [512 * GIB, 512 * GIB, 0]
        hands.unbind(btt)
        hands.bind(btt)
        assert self.next_arenas(hands, btt) == [512 * GIB, 1024 * GIB, 0]

    def next_arenas(self, hands, btt):
        folder = f"kernel/debug/btt/{btt}"
        arenas = sorted(hands.sysfs.names(folder))
        return [int(hands.read(f"{folder}/{arena}/nextoff"), 16) for arena in arenas]

    def test_older_kernels_know_one_padding_only(self):
        hands = Hands.on("512M!4G", kernel="4.5")
        btt = hands.bring_up(0, "btt", sector_size=4096)
        files = hands.sysfs.names(f"kernel/debug/btt/{btt}/arena0")
        assert "logoff" in files
        assert not {"log_index_0", "log_index_1"} & {*files}
