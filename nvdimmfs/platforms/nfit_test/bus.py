"""The buses of the kernel's test platform, which execute commands themselves (tools/testing/nvdimm/test, Linux 6.1).

Each function works on its argument in place, and few validate the argument.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

import attrs

from nvdimmfs.core.clock import Clock
from nvdimmfs.core.device import Device
from nvdimmfs.core.module import Module
from nvdimmfs.errors import KernelError
from nvdimmfs.faults.faults import Faults
from nvdimmfs.formats.intel_dsm import BusFunction
from nvdimmfs.formats.ndctl import (
    BUS_FAMILY_INTEL,
    BUS_FAMILY_NFIT,
    BUS_FORMATS,
    CALL,
    DIMM_FORMATS,
    PACKAGE_SIZE,
    U32,
    DimmCommand,
    LabelAreaSize,
    LabelRead,
    LabelWrite,
    Package,
)
from nvdimmfs.formats.nfit_dsm import (
    INJECT_NOTIFY,
    NOT_TRANSLATED,
    SUCCESS,
    InjectClear,
    InjectRecord,
    InjectSet,
    InjectStatus,
    TranslateSpa,
)
from nvdimmfs.formats.nfit_dsm import Function as NfitFunction
from nvdimmfs.machine_file import model
from nvdimmfs.media.base import Media
from nvdimmfs.nd.bus import NdLayer
from nvdimmfs.nd.command import Outcome
from nvdimmfs.nd.device import NdDevice
from nvdimmfs.nd.dimm import NvdimmDescription
from nvdimmfs.nd.region import RegionDevice
from nvdimmfs.nd.security import SecurityFlags
from nvdimmfs.platforms.dimm_firmware.health import TESTED, Health
from nvdimmfs.platforms.dimm_firmware.intel import IntelFunctions
from nvdimmfs.platforms.dimm_firmware.intel_health import IntelHealth
from nvdimmfs.platforms.dimm_firmware.payload import Payload
from nvdimmfs.platforms.dimm_firmware.security import EmulatedSecurity, state_at_boot
from nvdimmfs.platforms.dimm_firmware.update import Activations, BusActivations, FirmwareUpdate
from nvdimmfs.platforms.nfit.bus import NfitBus, NfitDimm
from nvdimmfs.platforms.nfit.qemu_labels import LabelDsm
from nvdimmfs.platforms.nfit.scrub import Request
from nvdimmfs.platforms.nfit_test.dimm import DIMMS_WITH_FUNCTIONS, HANDLES, TestedDimm
from nvdimmfs.platforms.nfit_test.failures import CommandFailures
from nvdimmfs.units import U32_MASK

#: The largest number of bytes that one label command transfers.
MAX_TRANSFER = 4096

#: The largest number of injected errors that are returned.
_MAX_RECORDS = 4096 // InjectRecord.size() + 1


class TestedDimms:
    """The DIMMs of a bus in the test platform, including those that are not registered.

    Attributes:
        by_handle: the DIMMs.
        registered: the registered DIMMs, by handle.
        activations: the activations of their firmware.
    """

    __test__ = False  # its name does not make it a test

    def __init__(
        self, clock: Clock, table: model.BusDescription, activations: Activations, faults: Faults, first: int
    ) -> None:
        """`first`: the number of its first test device."""
        self.registered: dict[int, NfitDimm] = {}
        self.by_handle = {
            handle: self._new(clock, handle, activations, CommandFailures(faults, f"test_dimm{number}"))
            for number, handle in enumerate(table.test_dimms, first)
        }
        self.activations = BusActivations(tuple(dimm.update for dimm in self.by_handle.values()), activations)

    def _new(self, clock: Clock, handle: int, activations: Activations, failures: CommandFailures) -> TestedDimm:
        health = Health(TESTED, lambda: self._notify(handle))
        update, security = FirmwareUpdate(clock, activations), EmulatedSecurity(clock)
        functions = IntelFunctions(IntelHealth(health), update, security, lambda: self.activations.state)
        return TestedDimm(handle, functions, update, security, failures)

    def _notify(self, handle: int) -> None:
        """Notify the kernel that the health of a DIMM needs attention, if it has the DIMM."""
        if handle in self.registered:
            self.registered[handle].health_event()


class NfitTestDimm(NfitDimm):
    """A DIMM of the test platform.

    Attributes:
        label_area: its label area.
        tested: the DIMM in the test platform; None if the platform does not have it.
    """

    def __init__(
        self,
        bus: NfitBus,
        table: model.DimmDescription,
        description: NvdimmDescription,
        label_area: Media | None,
        platform: TestedDimms,
    ) -> None:
        """`platform`: the bus's DIMMs in the test platform."""
        super().__init__(bus, table, description, LabelDsm(label_area))
        self.label_area = label_area
        self.tested = platform.by_handle.get(table.handle)
        if self.tested is None:
            return
        platform.registered[table.handle] = self
        self.tested.security.state = state_at_boot(table)
        if description.security is not None:
            self.secure()

    def security_state(self) -> str | None:
        """The state that the DIMM reports now, where the test platform's modules ask it again.  ENOTTY for others.

        There is no word for a DIMM that is being overwritten (security_show, tools/testing/nvdimm/dimm_devs.c).
        """
        if self.security is None or not self.system.kernel.devices.test_platform_asks_for_security:
            return super().security_state()
        self.security.refresh()
        if SecurityFlags.OVERWRITE in self.security.flags:
            raise KernelError(errno.ENOTTY, f"{self.name} reports no known state")
        return self.security.word


class NfitTestBus(NfitBus):
    """A bus of the test platform.

    Attributes:
        tested: its DIMMs.
    """

    def __init__(
        self, layer: NdLayer, parent: Device, module: Module, table: model.BusDescription, tested: TestedDimms
    ) -> None:
        super().__init__(layer, parent, module, table)
        self.tested = tested

    def control(self, dimm: NdDevice | None, command: int, argument: bytearray) -> Outcome:
        """Execute a command (nfit_test_ctl).

        ENOTTY for commands and functions that do not exist, ENXIO for a DIMM that the test platform does not have,
        EINVAL for invalid arguments, and the error that `fail_cmd_code` injects.
        """
        if isinstance(dimm, NfitTestDimm):
            return self._control_dimm(dimm, command, argument)
        if command == CALL:
            self._call(Package.from_bytes(argument), argument)
            return Outcome()
        if not self.command_mask >> command & 1:
            raise KernelError(errno.ENOTTY, f"{self.name} has no command {command}")
        return self.ars.control(command, argument)

    def fail(self, dimm: NdDevice | None, command: int, argument: bytearray, status: int) -> Outcome:
        """Report a status instead of executing a command.  The kernel of the test platform does not look at it.

        EINVAL for an argument that has no room for it, ENOTTY for a command that does not exist.
        """
        inputs = PACKAGE_SIZE + Package.from_bytes(argument).size_in if command == CALL else 0
        layout = (DIMM_FORMATS if dimm else BUS_FORMATS).get(command)
        if layout is None:
            raise KernelError(errno.ENOTTY, f"{(dimm or self).name} has no command {command}")
        if command != CALL:
            inputs = sum(layout.input_size(index, argument) for index in range(len(layout.inputs)))
        if inputs + U32.size > len(argument):
            raise KernelError(errno.EINVAL, f"an argument of {len(argument)} bytes has no room for a status")
        U32.pack_into(argument, inputs, status)
        return Outcome()

    def _control_dimm(self, dimm: NfitTestDimm, command: int, argument: bytearray) -> Outcome:
        if command == CALL:
            return self._call_dimm(dimm, Package.from_bytes(argument), argument)
        if not (dimm.command_mask & dimm.table.dsm_mask) >> command & 1:
            raise KernelError(errno.ENOTTY, f"{dimm.name} has no command {command}")
        tested = _require_tested(dimm)
        execute = _LABEL_COMMANDS.get(command)
        if execute is None:
            raise KernelError(errno.ENOTTY, f"{dimm.name} has no command {command}")
        area = dimm.label_area
        assert area is not None, "all DIMMs of the test platform have a label area"
        return _outcome(dimm.name, tested, command, lambda: execute(area, argument))

    def _call_dimm(self, dimm: NfitTestDimm, package: Package, argument: bytearray) -> Outcome:
        if package.family != dimm.table.family:
            raise KernelError(errno.ENOTTY, f"{dimm.name} has no functions of family {package.family}")
        tested = _require_tested(dimm)
        if HANDLES.index(tested.handle) >= DIMMS_WITH_FUNCTIONS:
            raise KernelError(errno.EINVAL, f"{dimm.name} has no functions")
        function = package.function & U32_MASK
        execute = tested.functions.find(function)
        if execute is None:
            raise KernelError(errno.ENOTTY, f"{dimm.name} has no function {function}")
        payload = Payload(package, argument)

        def answer() -> int:
            execute(payload)
            return 0

        return _outcome(dimm.name, tested, function, answer)

    def _call(self, package: Package, argument: bytearray) -> None:
        functions: dict[tuple[int, int], Callable[[Payload], None]] = {
            (BUS_FAMILY_NFIT, NfitFunction.TRANSLATE_SPA): self._translate,
            (BUS_FAMILY_NFIT, NfitFunction.ARS_INJECT_SET): self._inject,
            (BUS_FAMILY_NFIT, NfitFunction.ARS_INJECT_CLEAR): self._clear,
            (BUS_FAMILY_NFIT, NfitFunction.ARS_INJECT_GET): self._report_injected,
            (BUS_FAMILY_INTEL, BusFunction.FW_ACTIVATE_BUS_INFO): self.tested.activations.info,
            (BUS_FAMILY_INTEL, BusFunction.FW_ACTIVATE): self.tested.activations.activate,
        }
        execute = functions.get((package.family, package.function & U32_MASK))
        if execute is None:
            raise KernelError(errno.ENOTTY, f"{self.name} has no function {package.function}")
        execute(Payload(package, argument))

    def _translate(self, payload: Payload) -> None:
        """Return the DIMM of an address: always the region's last one, with the offset in the region as its address."""
        request = payload.get(TranslateSpa)
        payload.require(request.length)
        region = self._region_at(request.spa)
        if region is None:
            payload.put(attrs.evolve(request, status=NOT_TRANSLATED))
            return
        dimm = region.mappings[-1].dimm
        assert isinstance(dimm, NfitDimm)
        payload.put(attrs.evolve(request, dimm_count=1, handle=dimm.table.handle, dpa=request.spa - region.start))

    def _region_at(self, address: int) -> RegionDevice | None:
        regions: Iterable[RegionDevice] = (child for child in self.children if isinstance(child, RegionDevice))
        return next((region for region in regions if region.start <= address <= region.end and region.mappings), None)

    def _inject(self, payload: Payload) -> None:
        """Make a range bad.  The kernel learns of it from a scrub, which the injection can start."""
        payload.require_exactly(InjectSet.size())
        request = payload.get(InjectSet)
        if not request.length:
            raise KernelError(errno.EINVAL, "the range is empty")
        self.ars.errors.add(request.address, request.length)
        if request.options & INJECT_NOTIFY:
            self.system.queue_work(self._rescan)
        payload.put(attrs.evolve(request, status=SUCCESS))

    def _rescan(self) -> None:
        """Scrub after a notification of an error (acpi_nfit_uc_error_notify)."""
        try:
            self.scrub.request(Request.LONG if self.hw_error_scrub else Request.SHORT)
        except KernelError:
            return  # a scrub is already requested

    def _clear(self, payload: Payload) -> None:
        """Clear the errors in a range."""
        payload.require_exactly(InjectClear.size())
        request = payload.get(InjectClear)
        if not request.length:
            raise KernelError(errno.EINVAL, "the range is empty")
        self.ars.errors.forget(request.address, request.length)
        payload.put(attrs.evolve(request, status=SUCCESS))

    def _report_injected(self, payload: Payload) -> None:
        """Return the ranges that are bad."""
        errors = list(self.ars.errors)[:_MAX_RECORDS]
        payload.put(InjectStatus(SUCCESS, len(errors)))
        payload.write(InjectStatus.size(), b"".join(InjectRecord(*error).to_bytes() for error in errors))


def _require_tested(dimm: NfitTestDimm) -> TestedDimm:
    if dimm.tested is None or dimm.tested.handle not in HANDLES:
        raise KernelError(errno.ENXIO, f"the test platform does not have {dimm.name}")
    return dimm.tested


def _outcome(name: str, tested: TestedDimm, function: int, execute: Callable[[], int]) -> Outcome:
    """Execute a function.  An injected error replaces its result, not its effect."""
    try:
        result = execute()
    except KernelError as refusal:
        result = -refusal.errno
    fault = tested.failures.decide(name, function)
    if fault is not None:
        result = fault.result
    if result < 0:
        raise KernelError(-result, fault.reason if fault is not None else "invalid arguments")
    return Outcome(result)


def _get_size(area: Media, argument: bytearray) -> int:
    LabelAreaSize(SUCCESS, area.size, MAX_TRANSFER).write_to(argument)
    return 0


def _get_data(area: Media, argument: bytearray) -> int:
    """Read labels.  Bytes past the end of the area are left alone; their number is the command's result."""
    if len(argument) < LabelRead.size():
        raise KernelError(errno.EINVAL, "too short")
    # The layout itself, not the class: labels are read a lot.
    offset, length, _ = LabelRead.layout.unpack_from(argument)
    if offset >= area.size or length + LabelRead.size() > len(argument):
        raise KernelError(errno.EINVAL, "not in the label area")
    LabelRead.layout.pack_into(argument, 0, offset, length, SUCCESS)
    data = area.read(offset, min(length, area.size - offset))
    argument[LabelRead.size() : LabelRead.size() + len(data)] = data
    return len(argument) - LabelRead.size() - len(data)


def _set_data(area: Media, argument: bytearray) -> int:
    if len(argument) < LabelWrite.size():
        raise KernelError(errno.EINVAL, "too short")
    head = LabelWrite.from_bytes(argument)
    if head.offset >= area.size or head.length + LabelWrite.size() + U32.size > len(argument):
        raise KernelError(errno.EINVAL, "not in the label area")
    U32.pack_into(argument, LabelWrite.size() + head.length, SUCCESS)
    data = argument[LabelWrite.size() : LabelWrite.size() + min(head.length, area.size - head.offset)]
    area.write(head.offset, bytes(data))
    return len(argument) - LabelWrite.size() - len(data) - U32.size


_LABEL_COMMANDS: dict[int, Callable[[Media, bytearray], int]] = {
    DimmCommand.GET_SIZE: _get_size,
    DimmCommand.GET_DATA: _get_data,
    DimmCommand.SET_DATA: _set_data,
}
