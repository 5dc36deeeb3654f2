"""An nvdimm bus: its root device ndbusN, its control device ndctlN, and what all nvdimm buses share."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
from typing import Self

import attrs

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.device import Class, Device
from nvdimmfs.core.device_number import ndctl_number
from nvdimmfs.core.driver import Bus
from nvdimmfs.core.module import Module
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.errors import KernelError
from nvdimmfs.faults.faults import commands_of
from nvdimmfs.faults.rule import Result, Status
from nvdimmfs.formats.ndctl import CALL, PACKAGE_SIZE, BusCommand, Command, DimmCommand, Package, command_mask
from nvdimmfs.mm.memory import Memory
from nvdimmfs.nd.badrange import Badrange
from nvdimmfs.nd.command import Outcome
from nvdimmfs.nd.device import DeviceType, NdDevice
from nvdimmfs.nd.firmware_activation import FIRMWARE_GROUP, BusActivation
from nvdimmfs.nd.identity import UuidCounts
from nvdimmfs.units import U32_MASK


@attrs.frozen(eq=False)
class NdLayer:
    """What all nvdimm buses share.

    Attributes:
        bus_type: the bus type nd.
        nd_class: the class of the control devices.
        memory: the machine's physical memory.
        bus_numbers: the N of ndbusN.
        dimm_numbers: the N of nmemN, over all buses.
        region_numbers: the N of regionN, over all buses.
    """

    bus_type: Bus
    nd_class: Class
    memory: Memory
    region_numbers: Numbering
    bus_numbers: Numbering = attrs.field(factory=Numbering)
    dimm_numbers: Numbering = attrs.field(factory=Numbering)


class NvdimmBus(NdDevice):
    """A root device ndbusN: one source of persistent memory.

    Attributes:
        id: the N.
        provider: the name of the platform that announced the memory, `e820` for memmap=.
        provider_module: the module that stays loaded while a region is bound.
        layer: what it shares with other buses.
        memory: the machine's physical memory.
        uuids: the uuids of its registered devices, see `nd.identity`.
        badrange: the known bad ranges of physical addresses.
        activation: activates the firmware of its DIMMs; None where the platform cannot.
    """

    def __init__(self, layer: NdLayer, parent: Device, provider: str, provider_module: Module) -> None:
        self.id = layer.bus_numbers.allocate()
        super().__init__(parent.system, f"ndbus{self.id}", parent)
        self.bus = layer.bus_type
        self.layer = layer
        self.provider = provider
        self.provider_module = provider_module
        self.memory = layer.memory
        self.uuids = UuidCounts()
        self.badrange = Badrange()
        self.activation: BusActivation | None = None

    @property
    def modalias_type(self) -> DeviceType:
        return DeviceType.BUS

    @property
    def commands(self) -> tuple[BusCommand, ...]:
        """The ioctl commands of the bus itself, in the order of their numbers; none on legacy platforms."""
        return ()

    @property
    def has_control(self) -> bool:
        """Whether its provider executes commands; that of a legacy platform does not."""
        return False

    @property
    def command_mask(self) -> int:
        """`commands` as a bit mask."""
        return command_mask(self.commands)

    @property
    def families(self) -> frozenset[int]:
        """The families of functions that a CALL of the bus may name (bus_family_mask)."""
        return frozenset()

    @property
    def dimm_families(self) -> frozenset[int]:
        """The families of functions that a CALL of one of its DIMMs may name (dimm_family_mask)."""
        return frozenset()

    def clear_to_send(self, dimm: NdDevice | None, function: int, argument: bytearray) -> None:
        """Refuse, by a `KernelError`, a command that user space may not send, or not now.

        Args:
            dimm: the DIMM that the command is sent to; None: the bus.
            function: the command, or the function of a CALL.
            argument: the ioctl's argument.
        """

    def poison(self, address: int, length: int) -> None:
        """Memory has become bad, and the bus knows (nvdimm_bus_add_badrange)."""
        self.badrange.add(address, length)

    def send(self, dimm: NdDevice | None, command: int, argument: bytearray) -> Outcome:
        """Execute a command as `control`, or fail as a fault rule describes."""
        if self.system.faults.commands:
            return self._send_faulty(dimm, command, argument)
        return self.control(dimm, command, argument)

    def _send_faulty(self, dimm: NdDevice | None, command: int, argument: bytearray) -> Outcome:
        name = (dimm or self).name
        fault = self.system.faults.decide(
            self.system.faults.commands,
            lambda pattern: fnmatch.fnmatchcase(name, pattern),
            name,
            commands=_names(dimm is not None, command, argument),
        )
        if fault is None:
            return self.control(dimm, command, argument)
        fault.refuse()
        match fault.rule.action:
            case Status(status):
                return self.fail(dimm, command, argument, status)
            case Result(result):
                return self._with_result(result, fault.reason, dimm, command, argument)
        return self.control(dimm, command, argument)

    def _with_result(
        self, result: int, reason: str, dimm: NdDevice | None, command: int, argument: bytearray
    ) -> Outcome:
        with contextlib.suppress(KernelError):
            self.control(dimm, command, argument)
        if result < 0:
            raise KernelError(-result, reason)
        return Outcome(result)

    def fail(self, dimm: NdDevice | None, command: int, argument: bytearray, status: int) -> Outcome:  # noqa: ARG002
        """As `control`, but the firmware executes nothing and reports a status.  Errors as `control`."""
        return self.control(dimm, command, argument)

    def control(self, dimm: NdDevice | None, command: int, argument: bytearray) -> Outcome:  # noqa: ARG002
        """Execute a command: read its inputs in `argument`, and put its outputs there (nd_desc->ndctl).

        Args:
            dimm: the DIMM that the command is sent to; None: the bus.
            command: its number, one of those in the device's `command_mask`.
            argument: inputs and room for outputs.
        """
        raise KernelError(errno.ENOTTY, f"{self.name} has no commands")

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (NVDIMM_BUS_GROUP, FIRMWARE_GROUP)

    def release(self) -> None:
        self.layer.bus_numbers.free(self.id)


class NdctlDevice(Device):
    """The control device of a bus, for ioctls."""

    parent: NvdimmBus

    def __init__(self, nvdimm_bus: NvdimmBus) -> None:
        super().__init__(nvdimm_bus.system, f"ndctl{nvdimm_bus.id}", nvdimm_bus)
        self.device_class = nvdimm_bus.layer.nd_class
        self.number = ndctl_number(nvdimm_bus.id, self.system.kernel)

    @property
    def has_power(self) -> bool:
        return self.system.kernel.devices.power_directories


def _names(is_dimm: bool, command: int, argument: bytearray) -> frozenset[str]:
    """The names of a command in fault rules."""
    kind: type[Command] = DimmCommand if is_dimm else BusCommand
    word = kind(command).word if command in {*kind} else ""
    is_call = command == CALL and len(argument) >= PACKAGE_SIZE
    function = Package.from_bytes(argument).function & U32_MASK if is_call else None
    return commands_of(command, word, function)


@attribute("commands")
def commands(bus: NvdimmBus) -> str:
    """The ioctl commands of the bus itself, each followed by a space."""
    return "".join(f"{command.word} " for command in bus.commands) + "\n"


@attribute("wait_probe")
def wait_probe(_bus: NvdimmBus) -> str:
    """1 when all probes have ended, which is always so in the emulation."""
    return "1\n"


@attribute("provider")
def provider(bus: NvdimmBus) -> str:
    """The provider that announced the memory, such as `e820` or `ACPI.NFIT`."""
    return f"{bus.provider}\n"


NVDIMM_BUS_GROUP: AttributeGroup[NvdimmBus] = AttributeGroup((commands, wait_probe, provider))
