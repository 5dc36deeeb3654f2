"""What all kernels before 6.1 do otherwise, and what is there in each."""

from __future__ import annotations

import contextlib

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from older import BUS, OTHER, OWN, Host, refusal_of

from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.kernel import EMULATED_KERNELS, KERNELS
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.defaults import legacy_entries
from nvdimmfs.machine_file.files import load_machine, machines
from nvdimmfs.units import KIB, MIB


@pytest.mark.parametrize("kernel", ["rfc", "4.3", "4.5"])
def test_an_older_bind_says_enodev_whatever_the_reason(boot, kernel):
    host = boot(kernel)
    host.write(f"{BUS}/region0/pfn0.0/uuid", OWN)
    host.write(f"{BUS}/region0/pfn0.0/namespace", "namespace0.0")
    assert host.reason("pfn0.0") == ("ENODEV", "EBUSY")  # the namespace is bound
    host.unbind("namespace0.0")
    assert host.reason("namespace0.0") == ("ENODEV", "ENXIO")  # it is claimed
    assert refusal_of(host.bind, "pfn9.9") == "ENODEV"
    assert host.write("bus/nd/drivers_probe", "namespace0.0") == 12


def test_the_newer_bind_says_what_the_matter_is(boot):
    host = boot("6.1")
    assert refusal_of(host.bind, "namespace0.0") == "EBUSY"
    assert refusal_of(boot("4.5").bind, "namespace0.0") == "ENODEV"


@pytest.mark.parametrize(
    ("kernel", "raw", "claimed"),
    [("rfc", "pmem0", "pmem0m"), ("4.3", "pmem0m", "pmem0m"), ("4.5", "pmem0", "pmem0"), ("6.1", "pmem0", "pmem0")],
)
def test_the_name_of_a_disk_tells_of_struct_pages_before_4_5(boot, kernel, raw, claimed):
    host = boot(kernel)
    assert host.disks() == {raw}
    host.prepare("pmem" if kernel != "4.3" else "ram")
    host.bind("pfn0.0")
    assert host.disks() == {claimed}


def test_a_btt_is_called_s_in_every_kernel(boot):
    for kernel in EMULATED_KERNELS:
        host = boot(kernel)
        host.unbind("namespace0.0")
        host.write(f"{BUS}/region0/btt0.0/sector_size", "4096")
        host.write(f"{BUS}/region0/btt0.0/uuid", OWN)
        host.write(f"{BUS}/region0/btt0.0/namespace", "namespace0.0")
        host.bind("btt0.0")
        assert host.disks() == {"pmem0s"}


@pytest.mark.parametrize(
    ("kernel", "text", "taken"),
    [
        ("4.5", "00000001aaaabbbbcccc000000000001", True),
        ("4.5", "00:00:00:01-aaaa-bbbb-cccc-0000-0000-0001 and more", True),
        ("4.5", "00000001--aaaa-bbbb-cccc-000000000001", False),
        ("4.5", OWN[:-1], False),
        ("6.1", "00000001aaaabbbbcccc000000000001", False),
        ("6.1", OWN + " and more", True),
    ],
)
def test_the_form_of_a_uuid(boot, kernel, text, taken):
    host = boot(kernel)
    path = f"{BUS}/region0/pfn0.0/uuid"
    if taken:
        host.write(path, text)
        assert host.read(path) == OWN
    else:
        assert refusal_of(host.write, path, text) == "EINVAL"


# What is there

PFN = {
    "rfc": {"mode", "namespace", "uuid"},
    "4.3": {"mode", "namespace", "uuid"},
    "4.5": {"mode", "namespace", "uuid", "align"},
}
OF_NEWER = {"mode", "namespace", "uuid", "align", "resource", "size", "supported_alignments"}
EVERY_ND_DEVICE = {"modalias", "devtype", "numa_node", "uevent", "subsystem"}
SINCE_5_7 = {"target_node"}


@pytest.mark.parametrize("kernel", EMULATED_KERNELS)
def test_the_attributes_of_a_pfn_device(boot, kernel):
    emulated = KERNELS[kernel]
    common = EVERY_ND_DEVICE | (SINCE_5_7 if emulated.has("5.7") else set())
    power = {"power"} if emulated.devices.power_directories else set()
    assert boot(kernel).names(f"{BUS}/region0/pfn0.0") == PFN.get(kernel, OF_NEWER) | common | power


@pytest.mark.parametrize("kernel", ["rfc", "4.3", "4.5"])
def test_the_attributes_of_an_older_region(boot, kernel):
    assert boot(kernel).names(f"{BUS}/region0") == {
        *("size", "nstype", "mappings", "btt_seed", "pfn_seed", "read_only", "namespace_seed", "init_namespaces"),
        *("modalias", "devtype", "uevent", "subsystem", "driver", "power"),
        *("namespace0.0", "btt0.0", "pfn0.0"),
    }


def test_the_attributes_of_a_namespace(boot):
    there = {kernel: boot(kernel).names(f"{BUS}/region0/namespace0.0") for kernel in EMULATED_KERNELS}
    assert "mode" not in there["rfc"] | there["4.3"]
    assert "mode" in there["4.5"] & there["6.1"]
    assert "holder_class" not in there["rfc"] | there["4.3"] | there["4.5"]
    assert {"holder_class", "resource", "force_raw", "holder"} <= there["6.1"]


@pytest.mark.parametrize(("kernel", "there"), [("5.15", False), ("6.6", True), ("6.8", False), ("6.12", True)])
def test_a_fix_of_a_stable_series_may_be_missing_in_the_next_one(boot, kernel, there):
    assert ("partscan" in boot(kernel).names(f"{BUS}/region0/namespace0.0/block/pmem0")) == there


def test_a_kernel_between_others_has_what_had_come_by_then(boot):
    queue = {
        kernel: boot(kernel).names(f"{BUS}/region0/namespace0.0/block/pmem0/queue")
        for kernel in ("5.10", "5.15", "6.1", "6.6", "6.12")
    }
    assert queue["5.15"] - queue["5.10"] == {"virt_boundary_mask"}
    assert queue["6.1"] - queue["5.15"] == {"dma_alignment"}
    assert queue["6.1"] - queue["6.6"] == {"rq_affinity", "scheduler", "wbt_lat_usec", "nr_requests"}
    assert {name.partition("_")[0] for name in queue["6.12"] - queue["6.6"]} == {"atomic"}


def test_an_address_was_no_secret(boot):
    path = f"{BUS}/region0/namespace0.0/resource"
    assert (boot("4.5").permissions(path), boot("6.1").permissions(path)) == (0o444, 0o400)


@pytest.mark.parametrize("kernel", ["rfc", "4.3", "4.5"])
def test_older_kernels_know_no_dax_devices(boot, kernel):
    host = boot(kernel)
    assert "nd" in host.names("bus")
    assert "dax" not in host.names("bus")
    assert not host.names("module") & {"dax_pmem", "device_dax"}
    assert not host.has(f"{BUS}/region0/dax0.0")
    assert not host.has("bus/nd/drivers/dax_pmem")


@pytest.mark.parametrize("kernel", sorted(set(EMULATED_KERNELS) - {"6.1", "6.12"}))
@pytest.mark.parametrize("name", machines())
def test_every_kernel_boots_on_every_machine(kernel, name):
    description = attrs.evolve(load_machine(name), kernel=kernel)
    ranges = sum(len(bus.ranges) for bus in description.buses) + len(list(legacy_entries(description)))
    with contextlib.closing(Machine.described(description, clock="steps")) as machine:
        devices = machine.system.sys.find("bus/nd/devices").children
        assert sum(device.startswith("region") for device in devices) == ranges


def test_no_uevent_told_of_a_bind(boot):
    emitted = {}
    for kernel in ("4.5", "6.1"):
        host = boot(kernel)
        events = emitted[kernel] = []
        listener = type("Listener", (), {"uevent": lambda self, event, events=events: events.append(event)})
        host.machine.system.listen(listener())
        host.unbind("namespace0.0")
        host.bind("namespace0.0")
    assert [event.action.value for event in emitted["6.1"]] == ["remove", "remove", "unbind", "add", "add", "bind"]
    assert [event.action.value for event in emitted["4.5"]] == ["remove", "remove", "add", "add"]
    assert not any(key == "DISKSEQ" for event in emitted["4.5"] for key, _ in event.variables)


@pytest.mark.parametrize(("kernel", "node"), [("rfc", "-1"), ("4.3", "-1"), ("4.5", "0"), ("6.1", "0")])
def test_the_node_of_legacy_memory(boot, kernel, node):
    assert boot(kernel).read(f"{BUS}/region0/namespace0.0/numa_node") == node


@pytest.mark.parametrize(
    ("kernel", "owner"), [("rfc", "pfn0.0"), ("4.3", "pfn0.0"), ("4.5", "pfn0.0"), ("6.1", "namespace0.0")]
)
def test_whose_name_memory_bears(boot, kernel, owner):
    host = boot(kernel)
    host.prepare("pmem" if kernel != "4.3" else "ram")
    host.bind("pfn0.0")
    assert f"  100000000-11fffffff : {owner}\n" in host.machine.memory.iomem_text()


def test_an_older_kernel_has_a_bus_without_ranges(boot):
    assert boot("4.3", "").names(BUS) >= {"provider", "commands"}
    assert "ndbus0" not in boot("6.1", "").names("bus/nd/devices")


def test_a_namespace_below_4_mib_was_too_small(boot):
    assert boot("4.5", "2M!4G").disks() == set()
    assert boot("6.1", "2M!4G").disks() == {"pmem0"}


def test_a_misaligned_raw_namespace_was_mapped(boot):
    assert boot("4.5", "65M!16G").disks() == {"pmem0"}
    assert boot("6.1", "65M!16G").disks() == set()


def test_an_older_disk_does_not_follow_its_region(boot):
    for kernel, shown in (("4.5", "0"), ("6.1", "1")):
        host = boot(kernel)
        host.write(f"{BUS}/region0/read_only", "1")
        name = next(iter(host.disks()))
        assert host.read(f"{BUS}/region0/namespace0.0/block/{name}/ro") == shown


def test_a_newer_kernel_reads_what_an_older_one_wrote(boot, tmp_path):
    older = boot("4.3", media=tmp_path)
    older.prepare("ram")
    older.bind("pfn0.0")
    older.close()
    newer = boot("6.1", media=tmp_path)
    pfn = f"{BUS}/region0/{newer.read(f'{BUS}/region0/namespace0.0/holder')}"
    assert newer.read(f"{pfn}/mode") == "ram"
    assert newer.read(f"{pfn}/align") == "8192", "an old block records none: what the offset is a multiple of"
    assert newer.read(f"{pfn}/size") == str(512 * MIB - 8 * KIB)


NAMES = ("namespace0.0", "pfn0.0", "pfn0.1", "btt0.0", "region0")
VALUES = {
    "mode": ("ram", "pmem", "none", "x"),
    "align": ("4096", "8192", "2097152", "1073741824", "0"),
    "uuid": (OWN, OTHER, "0"),
    "namespace": ("namespace0.0", "\n"),
    "force_raw": ("0", "1"),
    "read_only": ("0", "1"),
    "sector_size": ("512", "4096"),
}
WRITES = st.one_of(
    st.tuples(st.sampled_from(["bind", "unbind"]), st.sampled_from(NAMES)),
    st.sampled_from([(name, value) for name, values in VALUES.items() for value in values]),
)


def poke(host, device, name, value):
    """Write to a device or to its driver; the kernel may refuse."""
    if name in ("bind", "unbind"):
        driver = "nd_region" if value.startswith("region") else "nd_pmem"
        path = f"bus/nd/drivers/{driver}/{name}"
    else:
        path = f"{BUS}/region0/{name}" if device == "region0" else f"{BUS}/region0/{device}/{name}"
    try:
        host.write(path, value)
    except KernelError:
        return


@pytest.mark.parametrize("kernel", ["rfc", "4.3", "4.5"])
@settings(max_examples=60)
@given(
    memmap=st.sampled_from(["512M!4G", "96M!4G", "600M!16G", "128M!4160M", "8M!4G"]),
    steps=st.lists(st.tuples(st.sampled_from(NAMES), WRITES), max_size=40),
)
def test_nothing_a_user_writes_is_more_than_refused(kernel, memmap, steps):
    host = Host(kernel, memmap, None)
    for device, (name, value) in steps:
        poke(host, device, name, value)
    poke(host, "", "unbind", "region0")
    memory = host.machine.memory
    assert not memory.pagemaps
    assert memory.iomem_text() == Host(kernel, memmap, None).unmapped()
    host.close()


@pytest.mark.parametrize("kernel", EMULATED_KERNELS)
def test_everything_is_given_back(boot, kernel):
    host = boot(kernel, "512M!4G,256M!5G")
    memory = host.machine.memory
    host.unbind("namespace0.0")
    host.unbind("namespace1.0")
    free, text = memory.ram_free, memory.iomem_text()
    host.prepare("pmem" if kernel != "4.3" else "ram")
    host.bind("pfn0.0")
    assert len(memory.pagemaps) == 1
    host.unbind("pfn0.0")
    assert not memory.pagemaps
    assert (memory.ram_free, memory.iomem_text()) == (free, text)
