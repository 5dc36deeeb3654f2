"""The nvdimm bus: the bus type nd, its root devices ndbusN, and the control devices ndctlN."""

from __future__ import annotations

import errno
from collections import Counter
from typing import Self
from uuid import UUID

from attrs import frozen

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.device import Class, Device, DeviceNumber
from nvdimmfs.core.driver import Bus, Driver
from nvdimmfs.core.module import Module
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import BusCommand, command_mask
from nvdimmfs.mm.memory import Memory
from nvdimmfs.nd.badrange import Badrange
from nvdimmfs.nd.command import Outcome
from nvdimmfs.nd.device import DeviceType, NdDevice
from nvdimmfs.nd.dimm import DIMM_MAJOR, DimmDevice
from nvdimmfs.nd.firmware_activation import FIRMWARE_GROUP, BusActivation
from nvdimmfs.nd.region import RegionDevice
from nvdimmfs.nd.seeds import advance_seeds

#: Major number of ndctlN; the kernel gives it out at boot, this is what the reference machine got.
NDCTL_MAJOR = 246

#: How many attributes user space reads until workers that mapped pages are as quick again as others: on Linux 6.1, a
#: worker was late in 224 of 228 trials when nothing was read, in 6 of 16 after five reads, in none of 16 after fifteen.
READS_UNTIL_RESTED = 5


@frozen
class RegionBind:
    """When a region was bound.

    Attributes:
        writes, reads: how many attributes had been written and read by then.
    """

    region: RegionDevice
    writes: int
    reads: int


class NdBus(Bus):
    """The bus type nd.

    Attributes:
        memory: the machine's physical memory.
        bus_numbering: the N of ndbusN.
        region_numbering: the N of regionN, over all buses.
        dimm_numbering: the N of nmemN, over all buses.
    """

    def __init__(self, system: System, memory: Memory, region_numbering: Numbering) -> None:
        super().__init__(system, "nd")
        self.memory = memory
        self.nd_class = Class(system, "nd")
        self.bus_numbering = Numbering()
        self.region_numbering = region_numbering
        self.dimm_numbering = Numbering()
        self._offering_region = False
        self._last_bind: RegionBind | None = None

    @property
    def workers_late(self) -> bool:
        """Whether what is left to the kernel's workers begins late, see `drivers.nd_region`."""
        return self._offering_region or self._workers_are_tired

    @property
    def _workers_are_tired(self) -> bool:
        """They have just mapped the pages of another region, and who binds this one had next to nothing to do since."""
        last = self._last_bind
        if last is None or self.system.writes > last.writes + 1:
            return False
        if self.system.reads - last.reads >= READS_UNTIL_RESTED:
            return False
        return self.memory.maps_pages_in(last.region.start, last.region.end)

    def character_device(self, number: DeviceNumber) -> NvdimmBus | DimmDevice | None:
        """Whose ioctls a character device takes: a bus's (ndctlN) or a DIMM's (nmemN); None for other numbers."""
        kinds: dict[int, tuple[str, type[NvdimmBus | DimmDevice]]]
        kinds = {NDCTL_MAJOR: ("ndbus", NvdimmBus), DIMM_MAJOR: ("nmem", DimmDevice)}
        if number.kind != "char" or number.major not in kinds:
            return None
        prefix, kind = kinds[number.major]
        device = self.members.get(f"{prefix}{number.minor}")
        return device if isinstance(device, kind) else None

    def unregister(self) -> None:
        self.nd_class.unregister()
        super().unregister()

    def offer_new(self, device: Device) -> None:
        """As any bus; but a new region is probed by a worker itself, which leaves the others asleep meanwhile."""
        if not isinstance(device, RegionDevice):
            super().offer_new(device)
            return
        self._offering_region = True
        self.offer(device)
        self._offering_region = False

    def call_probe(self, driver: Driver, device: Device) -> None:
        """Probe; a device that came up, or whose info block is one we must not touch, was a seed no longer.

        EOPNOTSUPP counts since Linux 5.7 (nvdimm_bus_probe, drivers/nvdimm/bus.c).
        """
        try:
            driver.probe(device)
        except KernelError as refusal:
            if refusal.errno == errno.EOPNOTSUPP:
                _advance(device)
            raise
        _advance(device)
        if isinstance(device, RegionDevice):
            device.parent.provider_module.pins += 1
            self._last_bind = RegionBind(device, self.system.writes, self.system.reads)

    def call_remove(self, driver: Driver, device: Device) -> None:
        driver.remove(device)
        if isinstance(device, RegionDevice):
            device.parent.provider_module.pins -= 1
            self._last_bind = None


def _advance(device: Device) -> None:
    if isinstance(device.parent, RegionDevice) and isinstance(device, NdDevice):
        advance_seeds(device.parent, device)


class NvdimmBus(NdDevice):
    """A root device ndbusN: one source of persistent memory.

    Attributes:
        id: the N.
        provider: what announced the memory, `e820` for memmap=.
        provider_module: the module that stays loaded while a region is bound.
        memory: the machine's physical memory.
        region_numbering: shared by all buses.
        identities: how many of its registered devices have a uuid, see `nd.identity`.
        badrange: physical addresses that are known to be bad.
        activation: how firmware of its DIMMs is activated; None where it is not.
    """

    bus: NdBus

    def __init__(self, nd_bus: NdBus, parent: Device, provider: str, provider_module: Module) -> None:
        self.id = nd_bus.bus_numbering.allocate()
        super().__init__(nd_bus.system, f"ndbus{self.id}", parent)
        self.bus = nd_bus
        self.provider = provider
        self.provider_module = provider_module
        self.memory = nd_bus.memory
        self.region_numbering = nd_bus.region_numbering
        self.identities: Counter[UUID] = Counter()
        self.badrange = Badrange()
        self.activation: BusActivation | None = None

    @property
    def modalias_type(self) -> DeviceType:
        return DeviceType.BUS

    @property
    def commands(self) -> tuple[BusCommand, ...]:
        """The ioctl commands that the bus itself answers, in the order of their numbers; none on legacy platforms."""
        return ()

    @property
    def has_control(self) -> bool:
        """Whether it has a provider that commands can be sent to; legacy platforms have none."""
        return False

    @property
    def command_mask(self) -> int:
        """The same commands, a bit each."""
        return command_mask(self.commands)

    @property
    def families(self) -> frozenset[int]:
        """The families of functions that a CALL of the bus may name (bus_family_mask)."""
        return frozenset()

    @property
    def dimm_families(self) -> frozenset[int]:
        """The families of functions that a CALL of one of its DIMMs may name (dimm_family_mask)."""
        return frozenset()

    def clear_to_send(self, dimm: DimmDevice | None, function: int, argument: bytearray) -> None:
        """Refuse a command that is not to come from user space, or not now; a `KernelError` does.

        Args:
            dimm: the DIMM that is asked; None: the bus.
            function: the command, or the function of a CALL.
            argument: the ioctl's argument.
        """

    def control(self, dimm: DimmDevice | None, command: int, argument: bytearray) -> Outcome:  # noqa: ARG002
        """Execute a command: read its inputs in `argument`, and put its outputs there (nd_desc->ndctl).

        Args:
            dimm: the DIMM that is asked; None: the bus.
            command: its number, one of those in the device's `command_mask`.
            argument: inputs and room for outputs.
        """
        raise KernelError(errno.ENOTTY, f"{self.name} has no commands")

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (NVDIMM_BUS_GROUP, FIRMWARE_GROUP)

    def release(self) -> None:
        self.bus.bus_numbering.free(self.id)


class NdctlDevice(Device):
    """The control device of a bus, for ioctls."""

    def __init__(self, nvdimm_bus: NvdimmBus) -> None:
        super().__init__(nvdimm_bus.system, f"ndctl{nvdimm_bus.id}", nvdimm_bus)
        self.device_class = nvdimm_bus.bus.nd_class
        self.number = DeviceNumber("char", NDCTL_MAJOR, nvdimm_bus.id)

    @property
    def has_power(self) -> bool:
        return self.system.kernel.devices.power_directories


@attribute("commands")
def commands(bus: NvdimmBus) -> str:
    """The ioctl commands that the bus itself answers, each followed by a space."""
    return "".join(f"{command.word} " for command in bus.commands) + "\n"


@attribute("wait_probe")
def wait_probe(_bus: NvdimmBus) -> str:
    """1, once all probing has come to rest, which here it always has."""
    return "1\n"


@attribute("provider")
def provider(bus: NvdimmBus) -> str:
    """Who announced the memory, such as `e820` or `ACPI.NFIT`."""
    return f"{bus.provider}\n"


NVDIMM_BUS_GROUP: AttributeGroup[NvdimmBus] = AttributeGroup((commands, wait_probe, provider))
