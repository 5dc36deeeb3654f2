"""The driver core on a small legacy machine: what the recordings leave unsaid."""

import errno

import pytest
from machines import boot

from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import SECOND

SYS = "devices/platform/e820_pmem"
REGION = f"{SYS}/ndbus0/region0"


@pytest.fixture
def machine(request):
    machine = boot({"memmap": getattr(request, "param", "64M!4G,32M!5G")})
    yield machine
    machine.close()


@pytest.fixture
def read(machine):
    def read(path):
        return machine.system.sys.find(path).show().decode()

    return read


@pytest.fixture
def write(machine):
    def write(path, text):
        return machine.system.sys.find(path).store(text.encode("latin-1"))

    return write


def refusal_of(call, *arguments):
    with pytest.raises(KernelError) as refusal:
        call(*arguments)
    return errno.errorcode[refusal.value.errno]


class Witness:
    def __init__(self):
        self.seen = []

    def uevent(self, event):
        self.seen.append((event.action.value, event.devpath.rpartition("/")[2]))


def test_uevents_tell_of_a_bind_in_the_kernels_order(machine, write):
    witness = Witness()
    write("bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    write(f"{REGION}/pfn0.0/uuid", "00000001-aaaa-bbbb-cccc-000000000001")
    write(f"{REGION}/pfn0.0/mode", "ram")
    write(f"{REGION}/pfn0.0/namespace", "namespace0.0")
    machine.system.listen(witness)
    write("bus/nd/drivers/nd_pmem/bind", "pfn0.0")
    assert witness.seen == [("add", "259:0"), ("add", "pmem0"), ("add", "pfn0.1"), ("bind", "pfn0.0")]


def test_uevents_are_counted_whether_anybody_listens():
    """A gap in SEQNUM shows a listener how many events it has missed."""
    received = []
    for missed in (0, 3):
        machine = boot({"memmap": "64M!4G"})
        numbers = []
        listener = type("Numbers", (), {"uevent": lambda self, event, numbers=numbers: numbers.append(event.sequence)})
        for step in range(4):
            if step == missed:
                machine.system.listen(listener())
            machine.system.sys.find(f"{REGION}/uevent").store(b"change")
        received.append(numbers)
    assert len(received[0]) == 4
    assert received[1] == received[0][3:]


def test_a_synthetic_uevent_carries_what_was_written(machine, write):
    events = []
    machine.system.listen(type("All", (), {"uevent": lambda self, event: events.append(event)})())
    write(f"{REGION}/uevent", "change fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed A=1")
    (event,) = events
    assert event.devpath == f"/{REGION}"
    assert event.subsystem == "nd"
    assert event.variables == (
        ("SYNTH_UUID", "fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed"),
        ("SYNTH_ARG_A", "1"),
        ("DEVTYPE", "nd_pmem"),
        ("DRIVER", "nd_region"),
        ("MODALIAS", "nd:t2"),
    )


def test_without_autoprobe_devices_wait_for_drivers_probe(machine, read, write):
    write("bus/nd/drivers_autoprobe", "0")
    write("bus/nd/drivers/nd_region/unbind", "region0")
    write("bus/nd/drivers/nd_region/bind", "region0")
    assert "block" not in machine.system.sys.find(f"{REGION}/namespace0.0").children
    write("bus/nd/drivers_probe", "namespace0.0")
    assert read(f"{REGION}/namespace0.0/block/pmem0/size") == "131072\n"


def test_drivers_probe_keeps_refusals_to_itself(machine, write):
    write("bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    assert write("bus/nd/drivers_probe", "pfn0.0") == 6
    assert machine.system.sys.find(f"{REGION}/pfn0.0").children.keys().isdisjoint({"driver", "block"})
    assert refusal_of(write, "bus/nd/drivers_probe", "pfn9.9") == "ENODEV"


def test_bind_says_why_not(write):
    bind = "bus/nd/drivers/nd_pmem/bind"
    assert refusal_of(write, bind, "namespace0.0") == "EBUSY"
    assert refusal_of(write, bind, "region0") == "ENODEV"
    assert refusal_of(write, bind, "nonsense") == "ENODEV"
    assert refusal_of(write, "bus/nd/drivers/dax_pmem/unbind", "namespace0.0") == "ENODEV"


def test_a_bound_region_pins_its_provider(read, write):
    assert read("module/nd_e820/refcnt") == "2\n"
    write("bus/nd/drivers/nd_region/unbind", "region1")
    assert read("module/nd_e820/refcnt") == "1\n"
    assert read("module/libnvdimm/refcnt") == "4\n"
    assert read("module/libnvdimm/parameters/key_revalidate") == "Y\n"


def test_unbinding_the_platform_takes_the_bus_away_and_binding_brings_it_back(machine, read, write):
    before = machine.memory.ram_free
    write("bus/platform/drivers/e820_pmem/unbind", "e820_pmem")
    assert not machine.system.sys.find("bus/nd/devices").children
    assert not machine.system.sys.find("class/nd").children
    assert set(machine.system.dev.children) == set()
    assert "ndbus0" not in machine.system.sys.find(SYS).children
    write("bus/platform/drivers/e820_pmem/bind", "e820_pmem")
    assert read(f"{REGION}/namespace0.0/mode") == "memory\n"
    assert set(machine.system.dev.children) == {"pmem0", "pmem1"}
    assert machine.memory.ram_free == before


def test_a_disk_follows_its_region(machine, read, write):
    disk = machine.system.dev.find("pmem0")
    write(f"{REGION}/read_only", "1")
    assert read(f"{REGION}/namespace0.0/block/pmem0/ro") == "1\n"
    assert refusal_of(disk.data.write, 0, b"x") == "EPERM"
    write(f"{REGION}/read_only", "0")
    disk.data.write(0, b"x")
    assert disk.data.read(0, 2) == b"x\0"


def test_bad_blocks_cannot_be_read_and_become_good_when_written(machine, read, write):
    disk = machine.system.dev.find("pmem0")
    attribute = f"{REGION}/namespace0.0/block/pmem0/badblocks"
    assert write(attribute, "8 2\n") == 4
    assert read(attribute) == "8 2\n"
    assert refusal_of(disk.data.read, 4096, 1) == "EIO"
    # A real 6.1 kernel refuses, too: the page cache would have to read the rest of the block.
    assert refusal_of(disk.data.write, 4096, bytes(512)) == "EIO"
    assert read(attribute) == "8 2\n"
    disk.data.write(4096, bytes(4096))
    assert read(attribute) == ""
    assert disk.data.read(4096, 512) == bytes(512)
    assert refusal_of(write, attribute, "8") == "EINVAL"


@pytest.mark.parametrize(("machine", "is_late"), [("256M!4G", True), ("16M!4G", False)], indirect=["machine"])
def test_the_mapping_of_a_found_dax_device_appears_when_its_memmap_is_initialised(machine, write, is_late):
    write("bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    write(f"{REGION}/dax0.0/uuid", "00000001-aaaa-bbbb-cccc-000000000001")
    write(f"{REGION}/dax0.0/mode", "pmem")
    write(f"{REGION}/dax0.0/namespace", "namespace0.0")
    write("bus/nd/drivers/dax_pmem/bind", "dax0.0")
    device = machine.system.sys.find(f"{REGION}/dax0.0/dax0.0")
    assert "mapping0" in device.children
    write("bus/nd/drivers/dax_pmem/unbind", "dax0.0")
    write(f"{REGION}/dax0.0/namespace", "\n")
    assert refusal_of(write, "bus/nd/drivers/nd_pmem/bind", "namespace0.0") == "ENXIO"
    device = machine.system.sys.find(f"{REGION}/dax0.0/dax0.0")
    assert ("mapping0" not in device.children) == is_late
    machine.system.clock.advance(SECOND)
    assert "mapping0" in device.children


def test_ids_are_used_again(machine, read, write):
    write("bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    write(f"{REGION}/btt0.0/uuid", "00000001-aaaa-bbbb-cccc-000000000001")
    write(f"{REGION}/btt0.0/sector_size", "4096")
    write(f"{REGION}/btt0.0/namespace", "namespace0.0")
    write("bus/nd/drivers/nd_pmem/bind", "btt0.0")
    assert read(f"{REGION}/btt_seed") == "btt0.1\n"
    write("bus/nd/drivers/nd_pmem/unbind", "btt0.0")
    write(f"{REGION}/btt0.0/namespace", "\n")
    assert "btt0.0" not in machine.system.sys.find(REGION).children
    assert refusal_of(write, "bus/nd/drivers/nd_pmem/bind", "namespace0.0") == "ENXIO"
    assert read(f"{REGION}/namespace0.0/holder") == "btt0.0\n"
