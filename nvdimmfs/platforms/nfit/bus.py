"""Buses whose DIMMs and ranges an ACPI table describes, the NFIT (drivers/acpi/nfit, Linux 6.1)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Self

import attrs

from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute, truth_value
from nvdimmfs.core.device import Device
from nvdimmfs.core.module import Module
from nvdimmfs.core.parse import parse_signed
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import (
    BUS_FAMILY_INTEL,
    BUS_FAMILY_NFIT,
    DIMM_FAMILY_INTEL,
    U32,
    BusCommand,
    in_order,
)
from nvdimmfs.formats.nfit_dsm import UNSUPPORTED
from nvdimmfs.machine_file import model, words
from nvdimmfs.mm.resource import Resource
from nvdimmfs.nd.bus import NdLayer, NvdimmBus
from nvdimmfs.nd.command import Outcome
from nvdimmfs.nd.device import NdDevice
from nvdimmfs.nd.dimm import DimmDevice, NvdimmDescription
from nvdimmfs.nd.region import RegionDescription, RegionDevice
from nvdimmfs.platforms.nfit.ars import AddressRangeScrub
from nvdimmfs.platforms.nfit.command import (
    CommandTarget,
    DsmEvaluator,
    FailingFirmware,
    acpi_nfit_ctl,
    clear_to_send,
)
from nvdimmfs.platforms.nfit.scrub import Request, Scrub

if TYPE_CHECKING:  # loaded where DIMMs have firmware
    from nvdimmfs.platforms.dimm_firmware.firmware import BusFirmware
    from nvdimmfs.platforms.nfit.intel_activation import IntelBusActivation


@attrs.frozen
class RootDsm:
    """Evaluates the functions of the root device (`command.DsmEvaluator`).

    Attributes:
        ars: those of the NFIT's family.
        firmware: those of Intel's family; None without them.
    """

    ars: AddressRangeScrub
    firmware: BusFirmware | None

    def evaluate(self, family: int, function: int, payload: bytes) -> bytes | None:
        if family != BUS_FAMILY_INTEL:
            return self.ars.evaluate(family, function, payload)
        return self.firmware.evaluate(function, payload) if self.firmware else U32.pack(UNSUPPORTED)


class NfitBus(NvdimmBus):
    """A root device with a folder nfit/.

    Attributes:
        table: the bus as the machine file describes it.
        hw_error_scrub: 1 when an error makes the bus scrub the whole range.
        resources: its entries in the resource tree.
        dimms: the registered DIMMs, by their names in the table, in the order of their registration.
        region_starts: the first addresses of the registered ranges.
        ars: the platform's side of address range scrubs.
        scrub: the kernel's side.
        intel_activation: activates the firmware of its DIMMs; None where the platform cannot.
    """

    def __init__(
        self,
        layer: NdLayer,
        parent: Device,
        module: Module,
        table: model.BusDescription,
        firmware: BusFirmware | None = None,
    ) -> None:
        """`firmware`: executes the functions of Intel's family; None where the root device has none."""
        super().__init__(layer, parent, table.provider, module)
        self.table = table
        self.hw_error_scrub = table.hw_error_scrub
        self.resources: list[Resource] = []
        self.dimms: dict[str, NfitDimm] = {}
        self.region_starts: set[int] = set()
        self.intel_activation: IntelBusActivation | None = None
        self.ars = AddressRangeScrub(self.system.clock)
        self.scrub = Scrub(self, table.scrubs, self._scrubbed)
        functions = {BUS_FAMILY_NFIT: table.dsm_mask}
        if table.firmware_activation is not words.FirmwareActivation.NONE:
            from nvdimmfs.platforms.nfit.intel_activation import BUS_ACTIVATION, IntelBusActivation

            self.activation = self.intel_activation = IntelBusActivation(self, table.firmware_activation.value)
            functions[BUS_FAMILY_INTEL] = BUS_ACTIVATION
        root = RootDsm(self.ars, firmware)
        self._target = CommandTarget(root, False, table.command_mask, BUS_FAMILY_NFIT, functions)

    @property
    def has_control(self) -> bool:
        return True

    @property
    def commands(self) -> tuple[BusCommand, ...]:
        return in_order(self.table.commands)

    @property
    def families(self) -> frozenset[int]:
        return frozenset({BUS_FAMILY_NFIT, BUS_FAMILY_INTEL} if self.intel_activation else {BUS_FAMILY_NFIT})

    @property
    def dimm_families(self) -> frozenset[int]:
        """The families of its DIMMs; Intel's only if the last one has it that was registered.

        Each DIMM that is registered removes it, also from those before it (acpi_nfit_add_dimm, Linux 6.1): those of a
        boot in the order of their handles, and one that is plugged in after them.
        """
        families = [dimm.table.family for dimm in self.dimms.values()]
        return frozenset(family for family in families if family > DIMM_FAMILY_INTEL or family == families[-1] >= 0)

    def poison(self, address: int, length: int) -> None:
        self.ars.errors.add(address, length)
        super().poison(address, length)

    def clear_to_send(self, dimm: NdDevice | None, function: int, argument: bytearray) -> None:
        """EBUSY to start a scrub while the kernel scrubs; EOPNOTSUPP for functions that only the kernel calls."""
        clear_to_send(dimm is not None, function, argument, scrubbing=self.scrub.busy)

    def control(self, dimm: NdDevice | None, command: int, argument: bytearray) -> Outcome:
        """EINVAL, ENOTTY and ENXIO as `acpi_nfit_ctl`."""
        return acpi_nfit_ctl(self._target_of(dimm), command, argument)

    def fail(self, dimm: NdDevice | None, command: int, argument: bytearray, status: int) -> Outcome:
        """The firmware's answer is the status alone; errors as `acpi_nfit_ctl`."""
        target = attrs.evolve(self._target_of(dimm), evaluator=FailingFirmware(status))
        return acpi_nfit_ctl(target, command, argument)

    def _target_of(self, dimm: NdDevice | None) -> CommandTarget:
        return dimm.target if isinstance(dimm, NfitDimm) else self._target

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (*super().groups(), NFIT_BUS_GROUP)

    def _scrubbed(self) -> None:
        """Wake the pollers of `scrub`, if the bus has the attribute (acpi_nfit_desc_init_scrub_attr)."""
        if self.table.can_scrub:
            self.notify("nfit/scrub")


@attribute("revision")
def revision(bus: NfitBus) -> str:
    """The NFIT's revision."""
    return f"{bus.table.revision}\n"


@attribute("dsm_mask")
def bus_dsm_mask(bus: NfitBus) -> str:
    """The functions of the root device's _DSM that the bus allows, a bit each, hexadecimal."""
    return f"{bus.table.dsm_mask:#x}\n"


@attribute("hw_error_scrub")
def hw_error_scrub(bus: NfitBus) -> str:
    """1 when a memory error makes the bus scrub the whole range, else 0."""
    return f"{bus.hw_error_scrub}\n"


@hw_error_scrub.on_store
def _store_hw_error_scrub(bus: NfitBus, data: bytes) -> None:
    """EINVAL for anything but 0 and 1, ERANGE past 64 bits with the sign."""
    value = parse_signed(data)
    if value not in (0, 1):
        raise KernelError(errno.EINVAL, "neither 0 nor 1")
    bus.hw_error_scrub = value


@attribute("scrub")
def scrub(bus: NfitBus) -> str:
    """The number of completed scrubs, followed by + while a scrub runs.  Can be polled."""
    return f"{bus.scrub.count}{'+' if bus.scrub.busy else ''}\n"


@scrub.on_store
def _store_scrub(bus: NfitBus, data: bytes) -> None:
    """Start a scrub.  EINVAL for anything but 1, EBUSY while all ranges are waiting for one."""
    if parse_signed(data) != 1:
        raise KernelError(errno.EINVAL, "only 1 is valid")
    bus.scrub.request(Request.LONG)


@attribute("firmware_activate_noidle")
def no_idle(bus: NfitBus) -> str:
    """`Y` when devices need not be idle for a firmware activation, else `N`."""
    return "Y\n" if bus.intel_activation and bus.intel_activation.no_idle else "N\n"


@no_idle.on_store
def _store_no_idle(bus: NfitBus, data: bytes) -> None:
    """EINVAL for anything but a truth value."""
    assert bus.intel_activation, "visible only where firmware can be activated"
    bus.intel_activation.no_idle = truth_value(bus, data)


def _bus_visible(bus: NfitBus, candidate: KernelAttribute[NfitBus]) -> int:
    if candidate is no_idle and bus.intel_activation is None:
        return 0
    if candidate is scrub and not bus.table.can_scrub:
        return 0
    return candidate.permissions


NFIT_BUS_GROUP: AttributeGroup[NfitBus] = AttributeGroup(
    (revision, bus_dsm_mask, hw_error_scrub, scrub, no_idle), name="nfit", visible=_bus_visible
)


class NfitDimm(DimmDevice):
    """A DIMM with a folder nfit/.

    Attributes:
        table: the DIMM as the machine file describes it.
        in_use: a range lies on it.
        target: executes its commands.
    """

    def __init__(
        self, bus: NfitBus, table: model.DimmDescription, description: NvdimmDescription, evaluator: DsmEvaluator
    ) -> None:
        """`evaluator`: its firmware."""
        super().__init__(bus, description)
        self.table = table
        self.target = CommandTarget(
            evaluator,
            is_dimm=True,
            commands=table.command_mask,
            family=table.family,
            functions={table.family: table.dsm_mask},
            named_methods=table.locked or table.family != DIMM_FAMILY_INTEL,
        )
        if bus.intel_activation and table.has_activation_functions:
            from nvdimmfs.platforms.nfit.intel_activation import IntelDimmActivation

            self.activation = IntelDimmActivation(self, bus.intel_activation)
        self.in_use = any(mapping.dimm == table.name for range_ in bus.table.ranges for mapping in range_.mappings)

    @property
    def capacity(self) -> int:
        return self.table.size

    def secure(self) -> None:
        """Have user space change its security by Intel's functions."""
        from nvdimmfs.nd.security import DimmSecurity  # which few DIMMs have
        from nvdimmfs.platforms.nfit.intel_security import IntelSecurity

        self.security = DimmSecurity(
            IntelSecurity(self),
            keyring=lambda: self.system.keyring,
            key_name=f"nvdimm:{self.table.identifier}",
            is_busy=lambda: bool(self.busy),
            clock=self.system.clock,
            overwritten=self._overwritten,
            rules=self.system.kernel.devices,
        )

    def _overwritten(self) -> None:
        """Wake the pollers of `security`, if the DIMM is bound (nvdimm_security_setup_events)."""
        if self.driver:
            self.notify("security")

    def security_state(self) -> str | None:
        """The state when the kernel last looked (security_show, drivers/nvdimm/dimm_devs.c, Linux 6.1).  ENOTTY."""
        return super().security_state() if self.security is None else self.security.word

    @property
    def frozen(self) -> bool:
        return super().frozen if self.security is None else self.security.is_frozen

    def health_event(self) -> None:
        """The platform notifies the kernel that its health needs attention (acpi_nvdimm_notify, Linux 6.1)."""
        if self.registered:
            self.notify("nfit/flags")

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (*super().groups(), NFIT_DIMM_GROUP)


def _dimm_attribute(name: str, text: str) -> KernelAttribute[NfitDimm]:
    """An attribute that shows one field of the table in its format."""

    def show(dimm: NfitDimm) -> str:
        return text.format(dimm.table) + "\n"

    show.__doc__ = f"The DIMM's {name.replace('_', ' ')} as the NFIT has it."
    return KernelAttribute(name, 0o444, show, None)


handle = _dimm_attribute("handle", "{0.handle:#x}")
phys_id = _dimm_attribute("phys_id", "{0.phys_id:#x}")
identifier = _dimm_attribute("id", "{0.identifier}")
dirty_shutdown = _dimm_attribute("dirty_shutdown", "{0.dirty_shutdown}")


@attribute("family")
def family(dimm: NfitDimm) -> str:
    """The family of its functions (NVDIMM_FAMILY_..., include/uapi/linux/ndctl.h).  ENXIO without a known family."""
    return f"{_known_family(dimm).family}\n"


@attribute("dsm_mask")
def dsm_mask(dimm: NfitDimm) -> str:
    """The functions of the DIMM's _DSM that the bus allows, a bit each.  ENXIO without a known family."""
    return f"{_known_family(dimm).dsm_mask:#x}\n"


def _known_family(dimm: NfitDimm) -> model.DimmDescription:
    if dimm.table.family < 0:
        raise KernelError(errno.ENXIO, f"{dimm.name} has no known family")
    return dimm.table


@attribute("flags")
def flags(dimm: NfitDimm) -> str:
    """The conditions that the platform reports, a word each, followed by a space.  Can be polled."""
    shown = set(dimm.table.flags) | (set() if dimm.table.flushed else {words.DimmFlag.FLUSH_FAIL})
    return "".join(f"{flag.value} " for flag in words.DimmFlag if flag in shown) + "\n"


@attribute("formats")
def formats(dimm: NfitDimm) -> str:
    """The number of interfaces of the DIMM."""
    return f"{int(dimm.in_use)}\n"


#: The attributes of a DIMM without a control region, which would contain the others.
_WITHOUT_CONTROL_REGION = (handle, phys_id, flags, family, dsm_mask)


def _dimm_visible(dimm: NfitDimm, candidate: KernelAttribute[NfitDimm]) -> int:
    if candidate is dirty_shutdown and (dimm.table.dirty_shutdown < 0 or dimm.table.family != DIMM_FAMILY_INTEL):
        return 0  # the kernel learns the count from Intel's functions alone (populate_shutdown_status, Linux 6.1)
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
    """The range's number in the NFIT."""
    return f"{region.range_index}\n"


NFIT_REGION_GROUP: AttributeGroup[NfitRegion] = AttributeGroup((range_index,), name="nfit")
