"""The kernels before 6.1, one story each: what they refuse, what they show, and what they leave on the media."""

import errno
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.pfn import PfnInfoBlock, PfnMode
from nvdimmfs.mm.kernel import EMULATED_KERNELS, KERNELS
from nvdimmfs.mm.units import GIB, KIB, MIB
from nvdimmfs.platforms.machine import Machine

BUS = "devices/platform/e820_pmem/ndbus0"
OWN = "00000001-aaaa-bbbb-cccc-000000000001"
OTHER = "00000002-aaaa-bbbb-cccc-000000000002"
PARENT = uuid.UUID("0000cafe-0000-0000-0000-000000000000")


class Host:
    """A machine with a shell's view of it."""

    def __init__(self, kernel, memmap, media):
        self.machine = Machine.legacy(memmap, 8 * GIB, media, KERNELS[kernel])
        self.sys = self.machine.system.sys
        self.running = True

    def close(self):
        if self.running:
            self.machine.close()
        self.running = False

    def read(self, path):
        return self.sys.find(path).show().decode().removesuffix("\n")

    def write(self, path, text):
        return self.sys.find(path).store(text.encode("latin-1"))

    def names(self, path):
        return set(self.sys.find(path).children)

    def has(self, path):
        directory, _, name = path.rpartition("/")
        return name in self.names(directory)

    def permissions(self, path):
        return self.sys.find(path).mode & 0o777

    def unbind(self, name):
        self.write("bus/nd/drivers/nd_pmem/unbind", name)

    def bind(self, name):
        self.write("bus/nd/drivers/nd_pmem/bind", name)

    def reason(self, name):
        """The errno behind the one that `bind` gives."""
        with pytest.raises(KernelError) as refusal:
            self.bind(name)
        cause = refusal.value.__cause__
        assert isinstance(cause, KernelError)
        return errno.errorcode[refusal.value.errno], errno.errorcode[cause.errno]

    def prepare(self, mode="ram", identity=OWN, pfn="pfn0.0", namespace="namespace0.0"):
        """Configure a pfn device over a namespace that is raw."""
        region = f"{BUS}/region{namespace[9]}"
        if self.has(f"{region}/{namespace}/driver"):
            self.unbind(namespace)
        self.write(f"{region}/{pfn}/uuid", identity)
        if mode:
            self.write(f"{region}/{pfn}/mode", mode)
        self.write(f"{region}/{pfn}/namespace", namespace)
        return f"{region}/{pfn}"

    def rebind_region(self):
        self.write("bus/nd/drivers/nd_region/unbind", "region0")
        self.write("bus/nd/drivers/nd_region/bind", "region0")

    @property
    def media(self):
        return self.machine.storage.media(*self.ranges[0])

    @property
    def ranges(self):
        return [(r.start, r.size) for r in self.machine.memory.iomem.children if r.name == "Persistent Memory (legacy)"]

    @property
    def block(self):
        """The info block on the first range."""
        return PfnInfoBlock.from_bytes(self.media.read(4096, 4096))

    def put_block(self, **fields):
        """Leave a 6.1 block on the first range, with a few fields of one's own."""
        given = {
            "uuid": uuid.UUID(OWN),
            "dataoff": 2 * MIB,
            "npfns": 1,
            "mode": PfnMode.RAM,
            "align": 2 * MIB,
            **fields,
        }
        self.media.write(4096, PfnInfoBlock(**given).to_bytes())

    def unmapped(self):
        """/proc/iomem without any driver."""
        self.write("bus/nd/drivers/nd_region/unbind", "region0")
        return self.machine.memory.iomem_text()

    def disks(self):
        return set(self.machine.system.dev.children)


@pytest.fixture
def boot():
    running = []

    def boot(kernel, memmap="512M!4G", media=None):
        host = Host(kernel, memmap, media)
        running.append(host)
        return host

    yield boot
    for host in running:
        host.close()


def refusal_of(call, *arguments):
    with pytest.raises(KernelError) as refusal:
        call(*arguments)
    return errno.errorcode[refusal.value.errno]


# The RFC


def test_the_rfc_binds_mode_pmem_and_leaves_nothing_on_the_media(boot):
    host = boot("rfc")
    pfn = host.prepare("pmem")
    host.bind("pfn0.0")
    assert host.read(f"{pfn}/mode") == "pmem"
    assert host.disks() == {"pmem0m"}
    assert host.read(f"{BUS}/region0/namespace0.0/block/pmem0m/size") == str((512 - 10) * MIB // 512)
    assert host.media.read(4096, 4096) == bytes(4096)
    host.rebind_region()
    assert host.read(f"{BUS}/region0/namespace0.0/holder") == ""


def test_the_rfc_never_binds_mode_ram_for_its_own_check_fails(boot):
    host = boot("rfc")
    host.prepare("ram")
    assert host.reason("pfn0.0") == ("ENODEV", "EINVAL")


@pytest.mark.parametrize("memmap", ["64M!16G", "512M!16448M"])
@pytest.mark.parametrize(("kernel", "mode"), [("rfc", "pmem"), ("4.3", "ram")])
def test_before_4_5_it_takes_128_mib_at_a_multiple_of_128_mib(boot, kernel, mode, memmap):
    host = boot(kernel, memmap)
    host.prepare(mode)
    assert host.reason("pfn0.0") == ("ENODEV", "ENODEV")
    later = boot("4.5", memmap)
    later.prepare("ram")
    later.bind("pfn0.0")


def test_the_rfc_reports_any_failure_to_register_as_enomem(boot):
    host = boot("rfc")
    host.prepare("pmem")
    host.machine.memory.fail_next_registration(errno.EEXIST)
    assert host.reason("pfn0.0") == ("ENODEV", "ENOMEM")
    host.bind("pfn0.0")


def test_the_rfc_does_not_map_raw_namespaces(boot):
    host = boot("rfc")
    assert host.disks() == {"pmem0"}
    assert not host.machine.memory.pagemaps


def test_the_rfc_makes_a_device_for_a_block_but_not_its_mode(boot):
    host = boot("rfc", "512M!4G")
    host.unbind("namespace0.0")
    host.put_block(mode=PfnMode.PMEM, dataoff=128 * MIB)
    host.write("bus/nd/drivers_probe", "namespace0.0")
    assert host.read(f"{BUS}/region0/namespace0.0/holder") == "pfn0.1"
    assert host.read(f"{BUS}/region0/pfn0.1/mode") == "none"
    assert host.reason("pfn0.1") == ("ENODEV", "ENXIO")


# 4.3


def test_4_3_refuses_mode_pmem_with_enotty_and_keeps_the_mode(boot):
    host = boot("4.3")
    pfn = host.prepare("ram")
    assert refusal_of(host.write, f"{pfn}/mode", "pmem\n") == "ENOTTY"
    assert refusal_of(host.write, f"{pfn}/mode", "\n") == "ENOTTY"  # any single byte means pmem
    assert host.read(f"{pfn}/mode") == "ram"


def test_4_3_maps_in_ram_8_kib_behind_the_start(boot):
    host = boot("4.3")
    host.prepare("ram")
    host.bind("pfn0.0")
    block = host.block
    assert (block.version_minor, block.dataoff, block.mode) == (0, 8 * KIB, PfnMode.RAM)
    assert host.read(f"{BUS}/region0/pfn0.0/block/pmem0m/size") == str((512 * MIB - 8 * KIB) // 512)


def test_4_3_writes_a_block_of_zeros_but_for_what_it_knows(boot):
    host = boot("4.3")
    host.prepare("ram")
    host.bind("pfn0.0")
    raw = host.media.read(4096, 4096)
    assert raw[32:48] == bytes(16)  # parent_uuid
    assert raw[76:4088] == bytes(4012)


def test_4_3_looks_at_no_parent(boot):
    host = boot("4.3")
    host.put_block(parent_uuid=PARENT, dataoff=8 * KIB)
    host.prepare("ram")
    host.bind("pfn0.0")
    assert host.block.parent_uuid == PARENT


def test_4_3_never_replaces_the_pfn_seed_and_the_btt_seed_always(boot):
    host = boot("4.3")
    host.prepare("ram")
    host.bind("pfn0.0")
    assert host.read(f"{BUS}/region0/pfn_seed") == "pfn0.0"
    host.unbind("pfn0.0")
    host.write(f"{BUS}/region0/pfn0.0/namespace", "\n")
    assert host.has(f"{BUS}/region0/pfn0.0"), "a seed is reset, not removed"
    host.write(f"{BUS}/region0/btt0.0/sector_size", "4096")
    host.write(f"{BUS}/region0/btt0.0/uuid", OTHER)
    host.write(f"{BUS}/region0/btt0.0/namespace", "namespace0.0")
    host.bind("btt0.0")
    assert host.read(f"{BUS}/region0/btt_seed") == "btt0.1"


def test_4_3_does_not_recognise_a_block_in_mode_pmem_and_writes_over_it(boot, tmp_path):
    newer = boot("6.1", media=tmp_path)
    newer.prepare("pmem")
    newer.bind("pfn0.0")
    newer.close()
    older = boot("4.3", media=tmp_path)
    assert older.disks() == {"pmem0m"}, "a raw disk"
    older.prepare("ram")
    older.bind("pfn0.0")
    assert (older.block.mode, older.block.version_minor) == (PfnMode.RAM, 0)


def test_4_3_writes_over_a_block_with_another_uuid(boot):
    host = boot("4.3")
    host.put_block(uuid=uuid.UUID(OTHER), dataoff=8 * KIB)
    host.prepare("ram")
    host.bind("pfn0.0")
    assert str(host.block.uuid) == OWN


def test_4_3_finds_its_own_block_again(boot):
    host = boot("4.3")
    host.prepare("ram")
    host.bind("pfn0.0")
    host.rebind_region()
    assert host.read(f"{BUS}/region0/namespace0.0/holder") == "pfn0.0"
    assert host.read(f"{BUS}/region0/pfn0.0/mode") == "ram"
    assert host.disks() == {"pmem0m"}


def test_4_3_keeps_a_misaligned_namespace_from_its_own_block(boot):
    host = boot("4.3", "512M!4160M")
    host.put_block(dataoff=8 * KIB)
    host.prepare("ram")
    assert host.reason("pfn0.0") == ("ENODEV", "EBUSY")


# 4.5


def test_4_5_prints_align_in_hexadecimal(boot):
    host = boot("4.5")
    assert host.read(f"{BUS}/region0/pfn0.0/align") == "200000"
    host.write(f"{BUS}/region0/pfn0.0/align", "1073741824")
    assert host.read(f"{BUS}/region0/pfn0.0/align") == "40000000"


def test_4_5_takes_any_power_of_two_up_to_a_gibibyte(boot):
    align = f"{BUS}/region0/pfn0.0/align"
    host = boot("4.5")
    host.write(align, "8192")
    assert host.read(align) == "2000"
    for refused in ("0", "2048", "12288", "2147483648", "2M"):
        assert refusal_of(host.write, align, refused) == "EINVAL"
    assert refusal_of(boot("6.1").write, align, "8192") == "EINVAL"


def test_4_5_looks_at_the_alignment_before_it_looks_at_the_driver(boot):
    older, newer = boot("4.5"), boot("6.1")
    for host in (older, newer):
        host.prepare("ram")
        host.bind("pfn0.0")
    align = f"{BUS}/region0/pfn0.0/align"
    assert (refusal_of(older.write, align, "3"), refusal_of(newer.write, align, "3")) == ("EINVAL", "EBUSY")
    assert refusal_of(older.write, align, "4096") == "EBUSY"


@pytest.mark.parametrize(("mode", "dataoff"), [("ram", 2 * MIB), ("pmem", 10 * MIB)])
def test_4_5_aligns_the_offset_and_writes_minor_0(boot, mode, dataoff):
    host = boot("4.5")
    host.prepare(mode)
    host.bind("pfn0.0")
    block = host.block
    assert (block.version_minor, block.dataoff, block.align, block.page_size) == (0, dataoff, 0, 0)
    assert block.npfns == (512 * MIB - dataoff) // 4096
    assert host.read(f"{BUS}/region0/pfn_seed") == "pfn0.1"


def test_4_5_keeps_to_a_block_with_another_uuid(boot):
    host = boot("4.5")
    host.put_block(uuid=uuid.UUID(OTHER))
    host.prepare("ram")
    assert host.reason("pfn0.0") == ("ENODEV", "EINVAL")
    assert str(host.block.uuid) == OTHER


def test_4_5_writes_over_a_block_with_another_parent(boot):
    host = boot("4.5")
    host.put_block(parent_uuid=PARENT)
    host.prepare("ram")
    host.bind("pfn0.0")
    assert host.block.parent_uuid == uuid.UUID(int=0)


def test_4_5_refuses_its_own_block_when_the_offset_is_no_power_of_two(boot):
    host = boot("4.5")
    pfn = host.prepare("pmem")
    host.bind("pfn0.0")
    host.unbind("pfn0.0")
    assert host.reason("pfn0.0") == ("ENODEV", "ENXIO")
    assert host.read(f"{pfn}/align") == "800000", "the largest power of two in 10 MiB"


def test_4_5_takes_mode_and_align_from_a_good_block(boot):
    host = boot("4.5", "128M!4G")
    host.put_block(mode=PfnMode.PMEM, dataoff=4 * MIB)
    pfn = host.prepare("ram")
    host.bind("pfn0.0")
    assert (host.read(f"{pfn}/mode"), host.read(f"{pfn}/align")) == ("pmem", "400000")


def test_4_5_has_no_room_in_its_memmap_for_a_part_of_a_section(boot):
    host = boot("4.5", "600M!16G")  # no RAM shares its last section
    host.prepare("pmem")
    assert host.reason("pfn0.0") == ("ENODEV", "ENOMEM")
    assert not host.machine.memory.pagemaps


@pytest.mark.parametrize("memmap", ["64M!4G", "512M!4160M"])
def test_4_5_maps_nothing_that_shares_a_section_with_ram(boot, memmap):
    host = boot("4.5", memmap)
    assert host.disks() == set()
    assert host.reason("namespace0.0") == ("ENODEV", "ENXIO")
    pfn = host.prepare()
    for mode in ("ram", "pmem"):
        host.write(f"{pfn}/mode", mode)
        host.media.write(4096, bytes(4096))
        assert host.reason("pfn0.0") == ("ENODEV", "ENXIO")
    assert boot("4.3", memmap).disks() == {"pmem0m"}


def test_4_5_with_no_room_for_data_is_refused(boot):
    host = boot("4.5", "512M!4G")
    host.write(f"{BUS}/region0/pfn0.0/align", "0x40000000")
    host.prepare("ram")
    assert host.reason("pfn0.0") == ("ENODEV", "ENXIO")


# All but 6.1


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
    "6.1": {"mode", "namespace", "uuid", "align", "resource", "size", "supported_alignments"},
}
EVERY_ND_DEVICE = {"modalias", "devtype", "numa_node", "uevent", "subsystem"}
SINCE_5_7 = {"target_node"}


@pytest.mark.parametrize("kernel", EMULATED_KERNELS)
def test_the_attributes_of_a_pfn_device(boot, kernel):
    common = EVERY_ND_DEVICE | (SINCE_5_7 if kernel == "6.1" else {"power"})
    assert boot(kernel).names(f"{BUS}/region0/pfn0.0") == PFN[kernel] | common


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


def test_an_address_was_no_secret(boot):
    path = f"{BUS}/region0/namespace0.0/resource"
    assert (boot("4.5").permissions(path), boot("6.1").permissions(path)) == (0o444, 0o400)


@pytest.mark.parametrize("kernel", ["rfc", "4.3", "4.5"])
def test_older_kernels_know_no_dax_devices(boot, kernel):
    host = boot(kernel)
    assert host.names("bus") == {"acpi", "nd", "platform"}
    assert not host.names("module") & {"dax_pmem", "device_dax"}
    assert not host.has(f"{BUS}/region0/dax0.0")
    assert not host.has("bus/nd/drivers/dax_pmem")


def test_no_uevent_told_of_a_bind(boot):
    told = {}
    for kernel in ("4.5", "6.1"):
        host = boot(kernel)
        events = told[kernel] = []
        listener = type("Listener", (), {"uevent": lambda self, event, events=events: events.append(event)})
        host.machine.system.listen(listener())
        host.unbind("namespace0.0")
        host.bind("namespace0.0")
    assert [event.action.value for event in told["6.1"]] == ["remove", "remove", "unbind", "add", "add", "bind"]
    assert [event.action.value for event in told["4.5"]] == ["remove", "remove", "add", "add"]
    assert not any(key == "DISKSEQ" for event in told["4.5"] for key, _ in event.variables)


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
@settings(max_examples=60, deadline=None)
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
