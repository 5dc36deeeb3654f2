"""What QEMU is asked for to make the machine of a machine file, and what it cannot give."""

import contextlib
from pathlib import Path

import pytest

from nvdimmfs.lab import snapshots
from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.first_contents import make_backends
from nvdimmfs.lab.guest import GuestPlan
from nvdimmfs.lab.hardware import Hardware, Place, hardware_of
from nvdimmfs.lab.kernels import GuestKernel
from nvdimmfs.lab.qemu_machine import require_possible, with_qemu_numbers
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.files import load_as_written
from nvdimmfs.machine_file.reader import read_machine
from nvdimmfs.units import GIB, KIB, MIB

RECORDED = Path(__file__).parent.parent / "recordings"

#: A DIMM of QEMU, to which tests add keys.
DIMM = """
[[bus]]
{bus}
[[bus.dimm]]
{dimm}
size = "512M"
[[bus.range]]
size = "510M"
{range}
dimms = ["0x1"]
"""


def described(text):
    return completed(with_qemu_numbers(read_machine(text)))


def of_file(name):
    return hardware_of(completed(with_qemu_numbers(load_as_written(name))))


def with_dimm(*, bus="", dimm="", range_="", top=""):
    return described(top + DIMM.format(bus=bus, dimm=dimm, range=range_))


def devices(hardware: Hardware):
    """The devices of persistent memory."""
    return [device for device in values(hardware, "-device") if "memdev=" in device]


def values(hardware: Hardware, option: str):
    return values_in(hardware.options, option)


def values_in(words, option):
    return [words[index + 1] for index, word in enumerate(words) if word == option]


def test_a_guest_has_a_display_a_network_card_and_a_drive_as_any_pc_of_qemu():
    hardware = of_file("e820")
    assert values(hardware, "-vga") == ["std"]
    assert values(hardware, "-nic") == ["user,model=e1000e,restrict=on"]
    assert values(hardware, "-device") == ["ide-cd,bus=ide.2"]


def test_legacy_ranges_are_a_parameter_of_the_kernel():
    hardware = of_file("e820")
    assert hardware.memmap == "512M!4G,256M!6G"
    assert hardware.platform_modules == ("nd_e820",)
    assert [(each.name, each.size) for each in hardware.backends] == [("ram0", 4 * GIB)]
    assert hardware.places == (
        Place("ram0", 0, 2 * GIB, start=0),
        Place("ram0", 2 * GIB, 2 * GIB, start=4 * GIB),
    )
    assert devices(hardware) == []


def test_soft_reserved_memory_has_its_driver():
    machine = completed(
        read_machine('memmap = "1G%4G-1+0xefffffff"\n[[bus]]\nplatform = "virtio-pmem"\n[[bus.range]]\nsize = "1G"')
    )
    hardware = hardware_of(machine)
    assert hardware.drivers[-1] == "dax_hmem"
    assert hardware.platform_modules == ("virtio_pci", "virtio_pmem")


def test_the_ranges_of_an_nfit_are_dimms_with_their_labels_at_the_end():
    hardware = of_file("qemu-nfit-labelled")
    first, second = devices(hardware)
    assert ",memdev=dimm2,slot=1,addr=0x19fe00000,label-size=131072" in first
    assert ",memdev=dimm1,slot=0,addr=0x180000000,label-size=131072" in second
    assert {each.name: each.size for each in hardware.backends}["dimm2"] == 254 * MIB + 128 * KIB
    assert Place("dimm2", 254 * MIB, 128 * KIB, label_area="ACPI.NFIT-2") in hardware.places


def test_the_test_platform_is_a_module_of_the_guest():
    hardware = of_file("nfit_test")
    assert hardware.has_test_platform
    assert hardware.platform_modules == ("nfit_test",)
    assert devices(hardware) == []
    assert [each.name for each in hardware.backends] == ["ram0"]
    assert not of_file("qemu-nfit").has_test_platform


def test_the_test_platform_is_as_the_module_makes_it():
    text = '[[bus]]\nprovider = "nfit_test.{number}"\nparent = "devices/platform/nfit_test.{number}"\n{keys}'
    for keys, problem in (
        ({"number": 2, "keys": ""}, "bus[0].provider: the module nfit_test makes nfit_test.0 and nfit_test.1"),
        ({"number": 0, "keys": "revision = 1"}, "bus[0].revision: 1; it is 0 always"),
    ):
        with pytest.raises(LabError) as refused:
            require_possible(described(text.format(**keys)))
        assert str(refused.value) == f"QEMU cannot give this machine: {problem}"


def test_nodes_follow_each_other():
    options = " ".join(of_file(RECORDED / "nfit/qemu-nodes.toml").options)
    assert "-numa node,nodeid=0,cpus=0-0,memdev=ram0 -numa node,nodeid=1,memdev=ram1 -numa node,nodeid=2 " in options
    assert "-numa dist,src=0,dst=2,val=17" in options
    assert ",node=2" in options


def test_the_firmware_states_how_fast_nodes_are():
    hardware = of_file(RECORDED / "nfit/qemu-speeds.toml")
    options = " ".join(hardware.options)
    assert "-numa node,nodeid=2,initiator=0" in options
    assert "-numa hmat-lb,initiator=0,target=2,hierarchy=memory,data-type=access-latency,latency=50" in options
    assert "target=1,hierarchy=memory,data-type=read-bandwidth,bandwidth=100M" in options
    assert "write-bandwidth" not in options


def test_a_node_may_have_ram_on_both_sides_of_the_hole_for_devices():
    hardware = of_file(RECORDED / "e820/e820-nodes.toml")
    assert [(each.name, each.size) for each in hardware.backends] == [("ram0", 3136 * MIB), ("ram1", 1984 * MIB)]
    assert [place.start for place in hardware.places] == [0, 4 * GIB, 4 * GIB + 1088 * MIB]


def test_virtio_devices_are_in_the_slots_of_the_machine_file():
    first, second = devices(of_file(RECORDED / "virtio/virtio-two.toml"))
    assert first == "virtio-pmem-pci,memdev=virtio0,memaddr=0x180000000,addr=0x3"
    assert second == "virtio-pmem-pci,memdev=virtio1,memaddr=0x1a0000000,addr=0x4"


def test_less_than_4_gib_of_ram_is_at_the_addresses_of_the_emulated_machine():
    assert "max-ram-below-4g=2048M" in hardware_of(described('ram = "2560M"\nmemmap = "256M!1G"')).options[1]


def test_properties_of_a_dimm_that_qemu_can_give():
    machine = with_dimm(bus='persistence_domain = "cpu_cache"', dimm='flags = ["not_armed"]')
    hardware = hardware_of(machine)
    assert hardware.options[1].endswith(",nvdimm-persistence=cpu")
    assert devices(hardware)[0].endswith(",unarmed=on")


def test_files_of_the_host_may_have_a_comma_in_their_name():
    words = of_file("e820").arguments(Path("/tmp/a,b"), shared=False)
    assert ",mem-path=/tmp/a,,b/ram0,share=off," in words[1]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"dimm": "serial = 1"}, "bus[0].dimm[0].serial: 0x1; it is 0x56341200 always"),
        ({"dimm": 'health = { state = "ok" }'}, "bus[0].dimm[0].health.state: "),
        ({"dimm": 'label = { size = "64K" }'}, "bus[0].dimm[0].label.size: must be 0, or at least 128 KiB"),
        ({"dimm": "handle = 0x1001\nname = '0x1'"}, "bus[0].dimm[0].handle: 0x1001 is not the number of a slot"),
        ({"range_": "range_index = 1"}, "bus[0].range[0].range_index: 1; it is 2 always"),
        ({"range_": 'start = "5G"', "top": 'ram = "2G"\n'}, None),
        ({"range_": 'start = "5G"'}, "bus[0].range[0].start: 0x140000000 lies below the end of RAM"),
        ({"range_": "start = 0x180001000"}, "bus[0].range[0]: start and size must be multiples of 2 MiB"),
        ({"range_": 'start = "1023G"'}, None),
        ({"range_": "start = 0xfff0000000"}, "bus[0].range[0].size: the range ends beyond the last address"),
        ({"range_": "badblocks = [{ sector = 1 }]"}, "bus[0].range[0].badblocks: "),
        ({"range_": "target_node = 1"}, None),
        ({"range_": "numa_node = 1"}, "bus[0].range[0].numa_node: "),
        ({"top": 'ram = "256M"\n'}, "ram: a guest of the lab needs 512 MiB"),
        ({"top": '[[acpi_table]]\nsignature = "PCAT"\n'}, "acpi_table: "),
        ({"top": '[[unreadable]]\npath = "bus/nd/devices/nmem0/size"\nerrno = "EIO"\n'}, "unreadable: "),
    ],
)
def test_a_key_that_qemu_cannot_give_is_named(keys, problem):
    machine = with_dimm(**keys)
    if problem is None:
        require_possible(machine)
        return
    with pytest.raises(LabError) as refused:
        require_possible(machine)
    assert str(refused.value).startswith(f"QEMU cannot give this machine: {problem}")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("two-socket-6way", "bus[0].range[0].dimms: a range has one DIMM: QEMU does not interleave"),
        ("of-pmem", "bus[0].platform: a PC has no device tree"),
    ],
)
def test_machines_that_are_no_guests(name, problem):
    with pytest.raises(LabError) as refused:
        of_file(name)
    assert str(refused.value) == f"QEMU cannot give this machine: {problem}"


def test_the_memory_of_a_new_machine_has_its_labels(tmp_path):
    hardware = of_file("qemu-nfit-labelled")
    make_backends(hardware, tmp_path)
    with (tmp_path / "dimm2").open("rb") as file:
        file.seek(254 * MIB)
        assert file.read(16) == b"NAMESPACE_INDEX\0"
    assert (tmp_path / "ram0").stat().st_blocks == 0


def test_the_memory_of_a_new_machine_has_its_info_blocks(tmp_path):
    text = """
    memmap = "512M!4G"
    [[personality]]
    namespace = "namespace0.0"
    kind = "pfn"
    uuid = "00000000-0000-0000-0000-000000000001"
    """
    make_backends(hardware_of(described(text)), tmp_path)
    with (tmp_path / "ram0").open("rb") as file:
        file.seek(2 * GIB + 4 * KIB)
        assert file.read(16) == b"NVDIMM_PFN_INFO\0"


def test_a_guest_with_virtio_devices_boots_each_time(monkeypatch):
    """QEMU does not complete the first flush that a resumed one asks for."""

    @contextlib.contextmanager
    def booted(plan, timeout):
        yield "booted"

    monkeypatch.setattr(snapshots, "booted", booted)
    plan = GuestPlan(GuestKernel("6.1", Path(), Path()), Path(), of_file("virtio-pmem"), "tcg")
    with snapshots.resumed(plan) as guest:
        assert guest == "booted"


@pytest.mark.parametrize(("machine", "sleep"), [("e820", "off"), ("qemu-nfit", "off"), ("virtio-pmem", "on")])
def test_an_idle_guest_waits_for_the_host_where_the_host_completes_its_requests(machine, sleep):
    """Its clock would be minutes ahead when a flush is done, and its kernel would report a task that waits too long."""
    plan = GuestPlan(GuestKernel("6.1", Path(), Path()), Path(), of_file(machine), "tcg")
    assert values_in(plan.arguments(Path(), shared=True), "-icount") == [f"shift=1,sleep={sleep}"]


def test_a_kernel_that_goes_wrong_panics_which_ends_the_guest():
    plan = GuestPlan(GuestKernel("6.1", Path(), Path()), Path(), of_file("e820"), "tcg")
    (parameters,) = values_in(plan.arguments(Path(), shared=True), "-append")
    assert {"panic=-1", "oops=panic", "hung_task_panic=1", "softlockup_panic=1"} <= {*parameters.split()}
