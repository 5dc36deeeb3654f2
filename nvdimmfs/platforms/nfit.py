"""Buses whose DIMMs and ranges the firmware lists in a table, the NFIT (drivers/acpi/nfit, Linux 6.1)."""

from __future__ import annotations

import errno
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute, write_only_attribute
from nvdimmfs.core.device import Class, Device
from nvdimmfs.core.module import Module
from nvdimmfs.core.parse import parse_unsigned
from nvdimmfs.errors import KernelError
from nvdimmfs.machine_file import model
from nvdimmfs.machine_file.interleave import interleave_set
from nvdimmfs.media.base import Media
from nvdimmfs.mm.resource import Resource, ResourceDescriptor, ResourceFlag
from nvdimmfs.nd.bus import NdBus, NvdimmBus
from nvdimmfs.nd.command import Outcome
from nvdimmfs.nd.device import NUMA_NO_NODE
from nvdimmfs.nd.dimm import DimmDescription, DimmDevice
from nvdimmfs.nd.mapping import Mapping
from nvdimmfs.nd.region import RegionDescription, RegionDevice
from nvdimmfs.platforms.firmware import Firmware
from nvdimmfs.platforms.nfit_command import INTEL_FAMILY, Receiver, acpi_nfit_ctl, clear_to_send
from nvdimmfs.platforms.nfit_labels import LabelFirmware

#: How long it takes to scrub a range.  On the test platform a tool that waits 50 ms after each write, and looks around
#: in between, saw the bus with two ranges still at it after 44 writes and done after 71, that with one done by 44.
SCRUB_WRITES = 25
SCRUB_SECONDS = 1.0

#: What a bus needs to scrub (address range scrub, ACPI 6.4, section 9.20.7).
_SCRUB_COMMANDS = {model.BusCommand.ARS_CAP, model.BusCommand.ARS_START, model.BusCommand.ARS_STATUS}


class NfitBus(NvdimmBus):
    """A root device with a folder nfit/.

    Attributes:
        table: what the machine file says of the bus.
        hw_error_scrub: 1 when an error makes the bus scrub the whole range.
        resources: what physical memory is called because of the bus.
    """

    def __init__(self, nd_bus: NdBus, parent: Device, module: Module, table: model.BusDescription) -> None:
        super().__init__(nd_bus, parent, table.provider, module)
        self.table = table
        self.hw_error_scrub = table.hw_error_scrub
        self.resources: list[Resource] = []
        self.scrubs = table.scrubs
        self.scrubbing = table.scrubbing
        self._receiver = Receiver(LabelFirmware(None), False, table.command_mask, 0, {0: table.dsm_mask})

    def start_scrub(self) -> None:
        """Look for errors in all ranges; it is done after a while."""
        self.scrubbing = True
        ranges = max(1, sum(not range_.kind.is_virtual for range_ in self.table.ranges))
        self.system.finish_after(ranges * SCRUB_WRITES, ranges * SCRUB_SECONDS, self._end_scrub)

    def _end_scrub(self) -> None:
        if self.dead:  # the bus went meanwhile, and its scrub with it
            return
        self.scrubbing = False
        self.scrubs += 1
        self.notify("nfit/scrub")

    @property
    def commands(self) -> tuple[str, ...]:
        return tuple(command.value for command in sorted(set(self.table.commands), key=lambda command: command.number))

    @property
    def families(self) -> frozenset[int]:
        return frozenset({0} if self.table.firmware_activation is model.FirmwareActivation.NONE else {0, 1})

    @property
    def dimm_families(self) -> frozenset[int]:
        """Those of its DIMMs; that of Intel counts only if the last DIMM is of it (acpi_nfit_add_dimm, Linux 6.1)."""
        families = [dimm.family for dimm in self.table.dimms_by_handle]
        return frozenset(family for family in families if family > INTEL_FAMILY or family == families[-1] >= 0)

    def clear_to_send(self, dimm: DimmDevice | None, function: int, argument: bytearray) -> None:
        """EBUSY to start a scrub while the kernel scrubs; EOPNOTSUPP for functions that only the kernel calls."""
        clear_to_send(dimm is not None, function, argument, scrubbing=self.scrubbing)

    def control(self, dimm: DimmDevice | None, command: int, argument: bytearray) -> Outcome:
        """EINVAL, ENOTTY and ENXIO as `acpi_nfit_ctl`."""
        return acpi_nfit_ctl(dimm.receiver if isinstance(dimm, NfitDimm) else self._receiver, command, argument)

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (*super().groups(), NFIT_BUS_GROUP)


@attribute("revision")
def revision(bus: NfitBus) -> str:
    """The table's revision."""
    return f"{bus.table.revision}\n"


@attribute("dsm_mask")
def bus_dsm_mask(bus: NfitBus) -> str:
    """The functions of the root device's _DSM that the bus lets through."""
    return f"{bus.table.dsm_mask:#x}\n"


@attribute("hw_error_scrub")
def hw_error_scrub(bus: NfitBus) -> str:
    """Whether an error makes the bus scrub the whole range."""
    return f"{bus.hw_error_scrub}\n"


@hw_error_scrub.on_store
def _store_hw_error_scrub(bus: NfitBus, data: bytes) -> None:
    """EINVAL for anything but 0 and 1."""
    value = parse_unsigned(data)
    if value > 1:
        raise KernelError(errno.EINVAL, "neither 0 nor 1")
    bus.hw_error_scrub = value


@attribute("scrub")
def scrub(bus: NfitBus) -> str:
    """Scrubs that have been completed, and a + while one runs.  Can be polled."""
    return f"{bus.scrubs}{'+' if bus.scrubbing else ''}\n"


@scrub.on_store
def _store_scrub(bus: NfitBus, data: bytes) -> None:
    """Start a scrub.  EINVAL for anything but 1, EBUSY while one runs."""
    if parse_unsigned(data) != 1:
        raise KernelError(errno.EINVAL, "only 1 means something")
    if bus.scrubbing:
        raise KernelError(errno.EBUSY, "a scrub runs")
    bus.start_scrub()


def _bus_visible(bus: NfitBus, candidate: KernelAttribute[NfitBus]) -> int:
    if candidate is scrub and not set(bus.table.commands) >= _SCRUB_COMMANDS:
        return 0
    return candidate.permissions


NFIT_BUS_GROUP: AttributeGroup[NfitBus] = AttributeGroup(
    (revision, bus_dsm_mask, hw_error_scrub, scrub), name="nfit", visible=_bus_visible
)


class NfitDimm(DimmDevice):
    """A DIMM with a folder nfit/.

    Attributes:
        table: what the machine file says of the DIMM.
        in_use: a range lies on it.
        receiver: what it does with commands.
    """

    def __init__(
        self, bus: NfitBus, table: model.DimmDescription, description: DimmDescription, label_area: Media | None
    ) -> None:
        super().__init__(bus, description)
        self.table = table
        self.receiver = Receiver(
            LabelFirmware(label_area, locked=table.locked),
            is_dimm=True,
            commands=table.command_mask,
            family=table.family,
            functions={table.family: table.dsm_mask},
            named_methods=table.locked or table.family != INTEL_FAMILY,
        )
        self.in_use = any(mapping.dimm == table.name for range_ in bus.table.ranges for mapping in range_.mappings)

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (*super().groups(), NFIT_DIMM_GROUP)


def _dimm_attribute(name: str, text: str) -> KernelAttribute[NfitDimm]:
    """An attribute that shows one field of the table in its format."""

    def show(dimm: NfitDimm) -> str:
        return text.format(dimm.table) + "\n"

    show.__doc__ = f"The DIMM's {name} as the table has it."
    return KernelAttribute(name, 0o444, show, None)


handle = _dimm_attribute("handle", "{0.handle:#x}")
phys_id = _dimm_attribute("phys_id", "{0.phys_id:#x}")
identifier = _dimm_attribute("id", "{0.identifier}")
dirty_shutdown = _dimm_attribute("dirty_shutdown", "{0.dirty_shutdown}")


@attribute("family")
def family(dimm: NfitDimm) -> str:
    """Whose commands the DIMM takes.  ENXIO for none that the kernel knows."""
    return f"{_known_family(dimm).family}\n"


@attribute("dsm_mask")
def dsm_mask(dimm: NfitDimm) -> str:
    """The functions of the DIMM's _DSM that the bus lets through.  ENXIO as for `family`."""
    return f"{_known_family(dimm).dsm_mask:#x}\n"


def _known_family(dimm: NfitDimm) -> model.DimmDescription:
    if dimm.table.family < 0:
        raise KernelError(errno.ENXIO, f"{dimm.name} is of no known family")
    return dimm.table


@attribute("flags")
def flags(dimm: NfitDimm) -> str:
    """What the platform reports, a word each, each followed by a space.  Can be polled."""
    return "".join(f"{flag.value} " for flag in model.DimmFlag if flag in dimm.table.flags) + "\n"


@attribute("formats")
def formats(dimm: NfitDimm) -> str:
    """How many interfaces the DIMM has."""
    return f"{int(dimm.in_use)}\n"


#: What a DIMM shows that has no control region, which would tell the rest.
_WITHOUT_CONTROL_REGION = (handle, phys_id, flags, family, dsm_mask)


def _dimm_visible(dimm: NfitDimm, candidate: KernelAttribute[NfitDimm]) -> int:
    if candidate is dirty_shutdown and dimm.table.dirty_shutdown < 0:
        return 0
    if not dimm.table.control_region and candidate not in _WITHOUT_CONTROL_REGION:
        return 0
    return candidate.permissions


NFIT_DIMM_GROUP: AttributeGroup[NfitDimm] = AttributeGroup(
    (
        *_WITHOUT_CONTROL_REGION,
        identifier,
        dirty_shutdown,
        formats,
        *(
            _dimm_attribute(name, f"0x{{0.{name}:04x}}")
            for name in (
                "vendor",
                "device",
                "rev_id",
                "subsystem_vendor",
                "subsystem_device",
                "subsystem_rev_id",
                "format",
            )
        ),
        _dimm_attribute("serial", "0x{0.serial:08x}"),
    ),
    name="nfit",
    visible=_dimm_visible,
)


class NfitRegion(RegionDevice):
    """A region with a folder nfit/.

    Attributes:
        range_index: the range's number in the table.
    """

    def __init__(self, bus: NvdimmBus, number: int, description: RegionDescription, range_index: int) -> None:
        super().__init__(bus, number, description)
        self.range_index = range_index

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (*super().groups(), NFIT_REGION_GROUP)


@attribute("range_index")
def range_index(region: NfitRegion) -> str:
    """The range's number in the table."""
    return f"{region.range_index}\n"


NFIT_REGION_GROUP: AttributeGroup[NfitRegion] = AttributeGroup((range_index,), name="nfit")


class TestDimm(Device):
    """A DIMM of the kernel's test platform as a device of its own, to inject failures (tools/testing/nvdimm).

    Attributes:
        handle: which DIMM it stands for.
        fail_cmd: the commands that fail, a bit each.
        fail_cmd_code: what they fail with.
    """

    __test__ = False  # its name does not make it a test

    def __init__(self, device_class: Class, parent: Device, number: int, handle_value: int) -> None:
        super().__init__(parent.system, f"test_dimm{number}", parent)
        self.device_class = device_class
        self.handle = handle_value
        self.fail_cmd = 0
        self.fail_cmd_code = 0

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (TEST_DIMM_GROUP,)


@attribute("handle")
def test_handle(dimm: TestDimm) -> str:
    """The NFIT device handle."""
    return f"{dimm.handle:#x}\n"


@attribute("fail_cmd")
def fail_cmd(dimm: TestDimm) -> str:
    """The commands that fail, a bit each."""
    return f"{dimm.fail_cmd:#x}\n"


@fail_cmd.on_store
def _store_fail_cmd(dimm: TestDimm, data: bytes) -> None:
    """EINVAL for no number."""
    dimm.fail_cmd = parse_unsigned(data)


@attribute("fail_cmd_code")
def fail_cmd_code(dimm: TestDimm) -> str:
    """What the commands fail with."""
    return f"{dimm.fail_cmd_code}\n"


@fail_cmd_code.on_store
def _store_fail_cmd_code(dimm: TestDimm, data: bytes) -> None:
    """EINVAL for no number."""
    dimm.fail_cmd_code = parse_unsigned(data)


@write_only_attribute("lock_dimm")
def lock_dimm(_dimm: TestDimm, data: bytes) -> None:
    """Would lock the DIMM; its security has no operations yet.  EOPNOTSUPP."""
    raise KernelError(errno.EOPNOTSUPP, f"no security operations: {data!r}")


TEST_DIMM_GROUP: AttributeGroup[TestDimm] = AttributeGroup((test_handle, fail_cmd, fail_cmd_code, lock_dimm))


class NfitPlatform:
    """Registers a bus with everything that its table lists."""

    def __init__(self, nd_bus: NdBus, module: Module, firmware: Firmware) -> None:
        self._nd_bus = nd_bus
        self._module = module
        self._firmware = firmware

    def add(self, parent: Device, table: model.BusDescription) -> None:
        """DIMMs by their handles, then regions in the table's order; all of it goes with the parent's driver."""
        bus = NfitBus(self._nd_bus, parent, self._module, table)
        bus.add()
        parent.manage(lambda: self._remove(bus))
        if table.scrubbing:
            bus.start_scrub()
        areas = self._firmware.label_areas(table)
        dimms = {dimm.name: self._add_dimm(bus, dimm, areas.get(dimm.name)) for dimm in table.dimms_by_handle}
        for range_ in table.ranges:
            self._add_region(bus, range_, dimms)

    def _remove(self, bus: NfitBus) -> None:
        bus.unregister()
        while bus.resources:
            bus.resources.pop().detach()

    def _add_dimm(self, bus: NfitBus, table: model.DimmDescription, label_area: Media | None) -> NfitDimm:
        description = DimmDescription(
            commands=tuple(
                command.value for command in sorted(set(table.commands), key=lambda command: command.number)
            ),
            unarmed=model.DimmFlag.NOT_ARMED in table.flags,
            flush_hints=table.flush_hints > 0,
            security=None if table.security is model.Security.NONE else table.security.value,
            frozen=table.frozen,
        )
        dimm = NfitDimm(bus, table, description, label_area)
        dimm.add()
        return dimm

    def _add_region(self, bus: NfitBus, range_: model.RangeDescription, dimms: dict[str, NfitDimm]) -> None:
        if range_.kind is model.RangeKind.PMEM:
            bus.resources.append(self._insert_resource(range_))
        mappings = tuple(
            Mapping(dimms[mapping.dimm], mapping.dpa, mapping.size, mapping.position) for mapping in range_.mappings
        )
        domain = bus.table.persistence_domain
        description = RegionDescription(
            start=range_.start,
            size=range_.size,
            media=self._firmware.storage.media(range_.start, range_.size),
            mappings=mappings,
            interleave_set=interleave_set(bus.table, range_),
            volatile=range_.kind.is_volatile,
            persistence_domain=None if domain is model.PersistenceDomain.NONE else domain.value,
            badblocks=tuple((bad.sector, bad.count) for bad in range_.badblocks),
            numa_node=range_.numa_node,
            target_node=range_.target_node if range_.target_node >= 0 else NUMA_NO_NODE,
        )
        number = self._nd_bus.region_numbering.allocate()
        region = NfitRegion(bus, number, description, range_.range_index)
        region.read_only = region.read_only or range_.read_only
        region.add()

    def _insert_resource(self, range_: model.RangeDescription) -> Resource:
        iomem = self._nd_bus.memory.iomem
        end = range_.start + range_.size - 1
        return iomem.insert(
            Resource("Persistent Memory", range_.start, end, ResourceFlag.MEM, ResourceDescriptor.PERSISTENT_MEMORY)
        )
