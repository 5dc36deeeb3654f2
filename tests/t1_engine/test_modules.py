"""Modules come and go as on a real machine: what the recordings leave unsaid."""

import errno

import attrs
import pytest
from poke import DEBUG, ND, Hands

from nvdimmfs.core.clock import ClockMode
from nvdimmfs.core.module import ModuleDescription, Modules
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.kernels.kernel import KERNELS
from nvdimmfs.machine_file.files import load_machine, parse_machine
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.modules.module_files import BOOT_MODULES, STOCK_MODULES, TEST_MODULES
from nvdimmfs.units import MIB, PAGE_SHIFT

MODULES = f"{DEBUG}/modules"
LABELLED = """
[[bus]]
[[bus.dimm]]
size = "256M"
label = { initialised = "1.2" }
[[bus.range]]
dimms = ["0x1"]
[[bus.range.namespace]]
uuid = "11111111-2222-4333-8444-555555555555"
size = "32M"
alt_name = "first"
"""
LEGACY = MachineDescription(memmap="512M!4G")


def boot(*blacklist, machine=LEGACY, media=None):
    return Hands.described(machine, media, blacklist=blacklist)


def loaded(hands):
    """The loaded modules and their references."""
    lines = hands.machine.tree.root.find("proc/modules").show().decode().splitlines()
    return {line.split()[0]: int(line.split()[2]) for line in lines}


def disable_regions(hands):
    for region in hands.names("region"):
        hands.unbind(region)


def test_without_its_module_the_range_is_only_announced():
    hands = boot("nd_e820")
    assert hands.names("") == []
    assert "nd_e820" not in hands.sysfs.names("module")
    assert hands.sysfs.names("bus/platform/drivers") == []
    assert "Persistent Memory (legacy)" in hands.debug("resources")
    assert "namespace0.0" not in hands.debug("resources")
    assert not hands.memory.pagemaps


def test_a_module_that_is_loaded_late_finds_what_is_there():
    late, early = boot("nd_e820"), boot()
    late.write(MODULES, "load nd_e820\n")
    assert late.read(MODULES) == early.read(MODULES)
    assert "nd_e820: loaded 1\n" in late.read(MODULES)
    assert set(late.snapshot()) == set(early.snapshot())


def test_a_module_in_use_stays():
    hands = boot()
    assert hands.refused(MODULES, "unload nd_e820") == errno.EAGAIN
    assert hands.driver_of("namespace0.0") == "nd_pmem"


def test_an_unloaded_module_leaves_nothing_but_the_range():
    hands = boot()
    never = boot("nd_e820")
    hands.write(f"{ND}/drivers/nd_region/unbind", "region0")
    hands.write(MODULES, "unload nd_e820\n")
    assert set(hands.snapshot()) == set(never.snapshot())
    assert not hands.memory.pagemaps
    hands.write(MODULES, "load nd_e820\n")
    assert [pagemap.range.size >> PAGE_SHIFT for pagemap in hands.memory.pagemaps] == [512 * MIB >> PAGE_SHIFT]
    assert hands.driver_of("namespace0.0") == "nd_pmem"


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("load nd_e820", errno.EEXIST),
        ("load ext4", errno.ENOENT),
        ("unload ext4", errno.ENOENT),
        ("reload nd_e820", errno.EINVAL),
        ("nd_e820", errno.EINVAL),
        ("load", errno.EINVAL),
        ("unload ", errno.EINVAL),
        ("", errno.EINVAL),
    ],
)
def test_orders_that_are_refused(text, refusal):
    hands = boot()
    before = hands.snapshot()
    assert hands.refused(MODULES, f"{text}\n") == refusal
    assert hands.snapshot() == before


def test_a_module_that_is_not_loaded_cannot_be_unloaded():
    assert boot("nd_e820").refused(MODULES, "unload nd_e820\n") == errno.ENOENT


def test_a_machine_loads_what_its_devices_ask_for():
    legacy, nfit, test = boot(), boot(machine=load_machine("qemu-nfit")), boot(machine=load_machine("nfit_test"))
    common = {"libnvdimm", "nd_btt", "nd_pmem", "dax_pmem", "device_dax"}
    assert set(loaded(legacy)) == common | {"nd_e820"}
    assert set(loaded(nfit)) == common | {"nfit"}
    assert set(loaded(test)) == common | {"nfit", "nfit_test", "nfit_test_iomap"}


def test_both_kinds_of_memory_can_be_in_one_machine():
    description = attrs.evolve(load_machine("one-dimm"), memmap="512M!4G")
    assert {"nd_e820", "nfit"} <= set(loaded(boot(machine=description)))


def test_a_module_that_only_another_one_needs_is_loaded():
    hands = boot("nd_pmem", "dax_pmem", machine=load_machine("nfit_test"))
    assert {"nd_pmem", "dax_pmem"} <= set(loaded(hands))
    hands = boot("nfit_test", "nd_pmem", machine=load_machine("nfit_test"))
    assert "nd_btt" not in loaded(hands)
    assert hands.names("ndbus") == []
    assert "nfit_test.0" not in hands.sysfs.names("devices/platform")


@pytest.mark.parametrize("name", BOOT_MODULES)
def test_every_module_of_the_boot_can_be_left_out(name):
    own = {"nfit_test": "nfit_test", "virtio_pmem": "virtio-pmem", "of_pmem": "of-pmem"}
    machine = load_machine(own.get(name, "qemu-nfit"))
    hands = boot(*BOOT_MODULES, machine=attrs.evolve(machine, memmap="512M!16G"))
    assert loaded(hands) == {}
    assert json_layout(hands) == ([], [])
    for used in needs(hands, name):
        hands.write(MODULES, f"load {used}\n")
    assert name in loaded(hands)


def needs(hands, name):
    """A module after all that it needs, each once."""
    known = hands.machine.persistent_memory.modules.known
    order = {}
    for used in known[name].uses:
        order |= dict.fromkeys(needs(hands, used))
    return [*order, name]


def json_layout(hands):
    layout = hands.layout()
    return layout["regions"], layout["dimms"]


@pytest.mark.parametrize("machine", ["e820", "qemu-nfit", "nfit_test", "virtio-pmem", "of-pmem"])
def test_everything_can_be_unloaded_and_loaded_again(machine):
    """What comes back looks as it did, down to the last attribute that does not count something."""
    description = load_machine(machine)
    hands, fresh = boot(machine=description), boot(*BOOT_MODULES, machine=description)
    before, order = hands.snapshot(), list(reversed(loaded(hands)))
    disable_regions(hands)
    for name in reversed(order):
        hands.write(MODULES, f"unload {name}\n")
    assert loaded(hands) == {}
    assert set(hands.snapshot()) == set(fresh.snapshot())
    assert hands.machine.tree.root.find("proc/iomem").show() == fresh.machine.tree.root.find("proc/iomem").show()
    for name in order:
        hands.write(MODULES, f"load {name}\n")
    assert set(hands.snapshot()) == set(before)
    assert list(reversed(loaded(hands))) == order


def test_a_load_that_lacks_something_leaves_nothing_behind():
    hands = boot(*BOOT_MODULES)
    before = hands.snapshot()
    for name in ("nd_btt", "nd_pmem", "nd_e820", "dax_pmem", "nfit"):
        assert hands.refused(MODULES, f"load {name}\n") == errno.ENOENT
    assert hands.snapshot() == before


def test_a_module_that_refuses_to_start_takes_back_what_it_did():
    system = System()
    steps = []

    def init(module):
        module.at_exit(lambda: steps.append("first undone"))
        module.at_exit(lambda: steps.append("second undone"))
        raise KernelError(errno.ENODEV, "no hardware")

    known = [ModuleDescription("below", 4096, lambda _: None), ModuleDescription("above", 8192, init, ("below",))]
    modules = Modules(system, known)
    with pytest.raises(KernelError) as refusal:
        modules.probe("above")
    assert refusal.value.errno == errno.ENODEV
    assert steps == ["second undone", "first undone"]
    assert modules.proc_text() == "below 4096 0 - Live 0x0000000000000000\n"
    assert [node.name for node in system.sys.find("module")] == ["below"]


def test_the_work_of_a_module_that_refuses_to_start_is_done_when_its_load_returns():
    system = System(clock=ClockMode.STEPS)
    done = []

    def init(_module):
        system.queue_work(lambda: done.append("queued"))
        raise KernelError(errno.ENODEV, "no hardware")

    modules = Modules(system, [ModuleDescription("above", 8192, init)])
    before = system.clock.now
    with pytest.raises(KernelError):
        modules.load("above")
    assert done == ["queued"]
    assert system.clock.now > before


def test_an_nfit_that_goes_takes_its_resources_with_it_and_keeps_its_bytes():
    hands = boot(machine=load_machine("qemu-nfit-labelled"))
    hands.write(f"{ND}/devices/namespace0.0/uuid", "00000000-0000-0000-0000-000000000001\n")
    hands.write(f"{ND}/devices/namespace0.0/size", f"{16 * MIB}\n")
    assert "Persistent Memory" in hands.debug("resources")
    disable_regions(hands)
    hands.write(MODULES, "unload nfit\n")
    assert "Persistent Memory" not in hands.debug("resources")
    hands.write(MODULES, "load nfit\n")
    assert "Persistent Memory" in hands.debug("resources")
    assert hands.read(f"{ND}/devices/namespace0.0/size") == f"{16 * MIB}\n"


@pytest.mark.parametrize("in_files", [False, True])
def test_a_test_platform_loses_labels_and_bytes_with_its_module(tmp_path, in_files):
    hands = boot(machine=load_machine("nfit_test"), media=tmp_path if in_files else None)
    tables = hands.machine.persistent_memory.tables
    table = tables.by_device["nfit_test.0"]
    tables.label_areas(table)["0x0"].write(0, b"other")
    hands.sysfs.pwrite("pmem0", 4096, b"bytes")
    disable_regions(hands)
    hands.write(MODULES, "unload nfit_test\n")
    hands.write(MODULES, "load nfit_test\n")
    assert tables.label_areas(table)["0x0"].read(0, 7) == b"label0\0"
    assert hands.sysfs.pread("pmem0", 4096, 5) == bytes(5)
    hands.machine.close()


def test_a_test_platform_keeps_its_bytes_over_a_boot(tmp_path):
    hands = boot(machine=load_machine("nfit_test"), media=tmp_path)
    hands.sysfs.pwrite("pmem0", 4096, b"bytes")
    hands.machine.close()
    hands = boot(machine=load_machine("nfit_test"), media=tmp_path)
    assert hands.sysfs.pread("pmem0", 4096, 5) == b"bytes"
    hands.machine.close()


def test_labels_of_a_new_machine_are_written_once():
    hands = boot(machine=parse_machine(LABELLED, "labelled"))
    name = f"{ND}/devices/namespace0.0"
    assert hands.read(f"{name}/alt_name") == "first\n"
    hands.unbind("namespace0.0")
    hands.write(f"{name}/alt_name", "renamed\n")
    disable_regions(hands)
    hands.write(MODULES, "unload nfit\n")
    hands.write(MODULES, "load nfit\n")
    assert hands.read(f"{name}/alt_name") == "renamed\n"


def test_a_scrub_ends_with_its_bus():
    hands = boot(machine=load_machine("nfit_test"))
    assert hands.read(f"{ND}/devices/ndbus0/nfit/scrub").endswith("+\n")
    disable_regions(hands)
    hands.write(MODULES, "unload nfit_test\n")
    hands.machine.system.clock.advance(60 * SECOND)
    hands.write(MODULES, "load nfit_test\n")
    assert hands.read(f"{ND}/devices/ndbus0/nfit/scrub") == "0+\n"


class Witness:
    def __init__(self):
        self.seen = []

    def uevent(self, event):
        self.seen.append(f"{event.action.value}@{event.devpath} {event.subsystem}")


def uevents_of(hands, text):
    """The uevents of one load or unload."""
    witness = Witness()
    hands.machine.system.listen(witness)
    hands.write(MODULES, f"{text}\n")
    seen, witness.seen = witness.seen, []
    return seen


def test_uevents_of_modules_drivers_buses_and_classes_come_in_the_kernels_order():
    """As Linux 6.1 sent them to a listener while rmmod and modprobe ran."""
    hands = boot("nd_e820", "nd_pmem", "dax_pmem", "device_dax", machine=attrs.evolve(LEGACY, memmap="512M!4G"))
    assert uevents_of(hands, "load libnvdimm") == [
        "add@/bus/nd bus",
        "add@/class/nd class",
        "add@/bus/nd/drivers/nd_bus drivers",
        "add@/bus/nd/drivers/nvdimm drivers",
        "add@/bus/nd/drivers/nd_region drivers",
        "add@/module/libnvdimm module",
    ]
    assert uevents_of(hands, "load nd_btt") == ["add@/module/nd_btt module"]
    assert uevents_of(hands, "load nd_pmem") == ["add@/bus/nd/drivers/nd_pmem drivers", "add@/module/nd_pmem module"]
    assert uevents_of(hands, "unload nd_pmem") == [
        "remove@/bus/nd/drivers/nd_pmem drivers",
        "remove@/module/nd_pmem module",
    ]
    assert uevents_of(hands, "unload nd_btt") == ["remove@/module/nd_btt module"]
    hands.write(MODULES, "load nd_e820\n")
    disable_regions(hands)
    bus = "/devices/platform/e820_pmem/ndbus0"
    assert uevents_of(hands, "unload nd_e820") == [
        f"remove@{bus}/region0 nd",
        f"remove@{bus}/nd/ndctl0 nd",
        f"unbind@{bus} nd",
        f"remove@{bus} nd",
        "unbind@/devices/platform/e820_pmem platform",
        "remove@/bus/platform/drivers/e820_pmem drivers",
        "remove@/module/nd_e820 module",
    ]
    assert uevents_of(hands, "unload libnvdimm") == [
        "remove@/bus/nd/drivers/nd_region drivers",
        "remove@/bus/nd/drivers/nvdimm drivers",
        "remove@/bus/nd/drivers/nd_bus drivers",
        "remove@/class/nd class",
        "remove@/bus/nd bus",
        "remove@/module/libnvdimm module",
    ]


@pytest.mark.parametrize(
    ("path", "subsystem"), [("bus/nd/drivers/nd_pmem", "drivers"), ("bus/nd", "bus"), ("module/nd_pmem", "module")]
)
def test_a_synthetic_uevent_of_what_is_no_device(path, subsystem):
    hands = boot()
    witness = Witness()
    hands.machine.system.listen(witness)
    hands.write(f"{path}/uevent", "change")
    assert witness.seen == [f"change@/{path} {subsystem}"]
    assert hands.refused(f"{path}/uevent", "nonsense") == errno.EINVAL


def test_parameters_that_can_be_switched():
    hands = boot(machine=load_machine("qemu-nfit"))
    parameter = "module/nfit/parameters/no_init_ars"
    hands.write(parameter, "1\n")
    assert hands.read(parameter) == "Y\n"
    assert hands.refused(parameter, "maybe\n") == errno.EINVAL
    assert hands.refused("module/nfit/parameters/force_labels", "Y\n") == errno.EACCES
    disable_regions(hands)
    hands.write(MODULES, "unload nfit\n")
    hands.write(MODULES, "load nfit\n")
    assert hands.read(parameter) == "N\n"


def test_a_kernel_without_device_dax_has_no_modules_for_it():
    hands = boot(machine=attrs.evolve(LEGACY, kernel="4.3"))
    assert not KERNELS["4.3"].devices.has_dax
    assert "dax_pmem" not in hands.read(MODULES)
    assert hands.refused(MODULES, "load kmem\n") == errno.ENOENT


@pytest.mark.parametrize("files", [STOCK_MODULES, TEST_MODULES])
def test_the_files_know_whatever_they_need(files):
    names = [file.name for file in files]
    assert len(set(names)) == len(names)
    assert all(used in names for file in files for used in file.info.depends)


def test_libnvdimm_forgets_devices_whose_bus_went_away_before_them():
    """Without its driver, a root device does not remove its DIMMs and regions when it goes."""
    hands = boot(machine=load_machine("one-dimm"))
    hands.write(f"{ND}/drivers_autoprobe", "0")
    hands.write("bus/acpi/drivers/nfit/unbind", "ACPI0012:00")
    hands.write("bus/acpi/drivers/nfit/bind", "ACPI0012:00")
    hands.write("bus/acpi/drivers/nfit/unbind", "ACPI0012:00")
    assert hands.names("nmem") == ["nmem0"]
    for module in ("nd_pmem", "nd_btt", "dax_pmem", "nfit", "libnvdimm"):
        hands.write(MODULES, f"unload {module}")
    assert not any(device.name.startswith("nmem") for device in hands.machine.system.numbered.values())
    for module in ("libnvdimm", "nfit"):
        hands.write(MODULES, f"load {module}")
    assert hands.names("nmem") == ["nmem0"]
    assert hands.driver_of("nmem0") == "nvdimm"
