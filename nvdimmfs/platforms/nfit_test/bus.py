"""The buses of the kernel's test platform, which answer commands themselves (tools/testing/nvdimm/test, Linux 6.1).

Every function works on its argument in place, and hardly any looks whether the argument makes sense.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable

from nvdimmfs.core.clock import Clock
from nvdimmfs.core.device import Device
from nvdimmfs.core.module import Module
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import CALL, DimmCommand, Package
from nvdimmfs.machine_file import model, words
from nvdimmfs.media.base import Media
from nvdimmfs.nd.bus import NdLayer
from nvdimmfs.nd.command import Outcome
from nvdimmfs.nd.device import NdDevice
from nvdimmfs.nd.dimm import NvdimmDescription
from nvdimmfs.nd.firmware_activation import ActivationState
from nvdimmfs.nd.region import RegionDevice
from nvdimmfs.nd.security import DimmSecurity, SecurityFlags
from nvdimmfs.platforms.nfit.bus import NFIT_FAMILY, NfitBus, NfitDimm
from nvdimmfs.platforms.nfit.intel_activation import BUS_ACTIVATE, BUS_FAMILY, BUS_INFO, DIMM_ARM, DIMM_INFO
from nvdimmfs.platforms.nfit.intel_security import (
    DISABLE,
    ERASE,
    ERASE_BY_MASTER,
    FREEZE,
    GET_STATE,
    OVERWRITE,
    QUERY_OVERWRITE,
    SET_MASTER_PASSPHRASE,
    SET_PASSPHRASE,
    UNLOCK,
    IntelSecurity,
)
from nvdimmfs.platforms.nfit.scrub import Request
from nvdimmfs.platforms.nfit_test.dimm import DIMMS_WITH_FUNCTIONS, HANDLES, TestedDimm
from nvdimmfs.platforms.nfit_test.health import Health
from nvdimmfs.platforms.nfit_test.payload import WORD, Payload
from nvdimmfs.platforms.nfit_test.security import EmulatedSecurity, IntelSecurityState
from nvdimmfs.platforms.nfit_test.update import Activations, BusActivations, FirmwareUpdate
from nvdimmfs.units import U32_MASK

#: Bytes of labels that one command moves.
MAX_TRANSFER = 4096

#: GET_SIZE: status, size, longest transfer.  GET_DATA and SET_DATA: offset, length; the status of the former.
_SIZE = struct.Struct("<III")
_GET = struct.Struct("<III")
_SET = struct.Struct("<II")

#: Functions of a DIMM beside those for security and activation (drivers/acpi/nfit/intel.h, nfit_test.h).
SMART, SMART_THRESHOLD, ENABLE_LSS_STATUS = 1, 2, 10
FW_GET_INFO, FW_START_UPDATE, FW_SEND_DATA, FW_FINISH_UPDATE, FW_FINISH_QUERY = range(12, 17)
SMART_SET_THRESHOLD, SMART_INJECT = 17, 18

#: Functions of the bus (nfit_test.h).
TRANSLATE_SPA, INJECT_SET, INJECT_CLEAR, INJECT_GET = 5, 7, 8, 9

#: Address, status, length of the answer; then the number of DIMMs, and of the first one handle and address.
_TRANSLATE = struct.Struct("<QI4xQ")
_STATUS_OFFSET = 8
_TRANSLATED, _TRANSLATED_OFFSET = struct.Struct("<II"), 24
_ADDRESS, _ADDRESS_OFFSET = struct.Struct("<Q"), 36
_NOT_TRANSLATED = 2

#: Address, length, options; then the status.  The status of INJECT_CLEAR comes where the options are.
_INJECT = struct.Struct("<QQB")
_CLEAR = struct.Struct("<QQ")
#: Status, number of records; a record's address and length, and how many there can be.
_INJECTED = struct.Struct("<II")
_RECORD = struct.Struct("<QQ")
_MAX_RECORDS = 4096 // _RECORD.size + 1
#: The option that tells the kernel of the error at once (ND_ARS_ERR_INJ_OPT_NOTIFY).
_NOTIFY = 1

#: What a DIMM acknowledges its count of unsafe shutdowns with: on or off; then the status.
_LATCH = struct.Struct("<B")
_BAD_LATCH = 3


class TestedDimms:
    """A bus's DIMMs as the test platform knows them, those included that the kernel does not.

    Attributes:
        by_handle: the DIMMs.
        registered: those that the kernel knows, by handle.
        activations: of their firmware.
    """

    __test__ = False  # its name does not make it a test

    def __init__(self, clock: Clock, table: model.BusDescription, activations: Activations) -> None:
        self.registered: dict[int, NfitDimm] = {}
        self.by_handle = {handle: self._new(clock, handle, activations) for handle in table.test_dimms}
        self.activations = BusActivations(tuple(dimm.update for dimm in self.by_handle.values()), activations)

    def _new(self, clock: Clock, handle: int, activations: Activations) -> TestedDimm:
        health = Health(lambda: self._notify(handle))
        return TestedDimm(handle, health, FirmwareUpdate(clock, activations), EmulatedSecurity(clock))

    def _notify(self, handle: int) -> None:
        """Tell the kernel that the health of a DIMM needs attention (acpi_nvdimm_notify)."""
        if handle in self.registered:
            self.registered[handle].notify("nfit/flags")


_STATES = {
    words.Security.UNLOCKED: IntelSecurityState.ENABLED,
    words.Security.LOCKED: IntelSecurityState.ENABLED | IntelSecurityState.LOCKED,
}


#: What `security` shows (security_show, tools/testing/nvdimm/dimm_devs.c); other kernels have a word for overwriting.
_SECURITY_WORDS = {
    SecurityFlags.DISABLED: "disabled",
    SecurityFlags.UNLOCKED: "unlocked",
    SecurityFlags.LOCKED: "locked",
}


class NfitTestDimm(NfitDimm):
    """A DIMM of the test platform.

    Attributes:
        label_area: its label area.
        tested: what the test platform knows of it; None if it does not know the DIMM.
    """

    def __init__(
        self,
        bus: NfitBus,
        table: model.DimmDescription,
        description: NvdimmDescription,
        label_area: Media | None,
        platform: TestedDimms,
    ) -> None:
        """`platform`: the bus's DIMMs as the test platform knows them."""
        super().__init__(bus, table, description, label_area)
        self.label_area = label_area
        self.tested = platform.by_handle.get(table.handle)
        if self.tested is None:
            return
        platform.registered[table.handle] = self
        self.tested.security.state = _STATES.get(table.security, IntelSecurityState(0)) | (
            IntelSecurityState.FROZEN if table.frozen else IntelSecurityState(0)
        )
        if description.security is not None:
            self.security = DimmSecurity(
                IntelSecurity(self),
                keyring=lambda: self.system.keyring,
                key_name=f"nvdimm:{table.identifier}",
                is_busy=lambda: bool(self.busy),
                clock=self.system.clock,
                overwritten=self._overwritten,
            )

    def _overwritten(self) -> None:
        """Wake whoever polls `security`, which is for drivers to prepare (nvdimm_security_setup_events)."""
        if self.driver:
            self.notify("security")

    def security_state(self) -> str | None:
        """Asked of the DIMM every time, which only the test platform's kernel does.  ENOTTY when it does not tell."""
        if self.security is None:
            return super().security_state()
        self.security.refresh()
        for flag, word in _SECURITY_WORDS.items():
            if flag in self.security.flags:
                return word
        raise KernelError(errno.ENOTTY, f"{self.name} does not tell its state")

    @property
    def frozen(self) -> bool:
        """As it was when `security` was last read."""
        return super().frozen if self.security is None else SecurityFlags.FROZEN in self.security.flags


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

        ENOTTY for what is not there, ENXIO for a DIMM that the test platform does not know, EINVAL for arguments that
        make no sense, and whatever somebody wants it to fail with.
        """
        if isinstance(dimm, NfitTestDimm):
            return self._control_dimm(dimm, command, argument)
        if command == CALL:
            self._call(Package.from_bytes(argument), argument)
            return Outcome()
        if not self.command_mask >> command & 1:
            raise KernelError(errno.ENOTTY, f"{self.name} has no command {command}")
        return self.ars.control(command, argument)

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
        return _outcome(tested, command, lambda: execute(area, argument))

    def _call_dimm(self, dimm: NfitTestDimm, package: Package, argument: bytearray) -> Outcome:
        if package.family != dimm.table.family:
            raise KernelError(errno.ENOTTY, f"{dimm.name} has no functions of family {package.family}")
        tested = _require_tested(dimm)
        if HANDLES.index(tested.handle) >= DIMMS_WITH_FUNCTIONS:
            raise KernelError(errno.EINVAL, f"{dimm.name} has no functions")
        function = package.function & U32_MASK
        execute = self._dimm_functions(tested).get(function)
        if execute is None:
            raise KernelError(errno.ENOTTY, f"{dimm.name} has no function {function}")
        payload = Payload(package, argument)

        def answer() -> int:
            execute(payload)
            return 0

        return _outcome(tested, function, answer)

    def _dimm_functions(self, tested: TestedDimm) -> dict[int, Callable[[Payload], None]]:
        health, update, security = tested.health, tested.update, tested.security
        bus: ActivationState = self.tested.activations.state
        return {
            SMART: health.smart,
            SMART_THRESHOLD: health.tell_thresholds,
            ENABLE_LSS_STATUS: _latch,
            FW_GET_INFO: update.info,
            FW_START_UPDATE: update.start,
            FW_SEND_DATA: update.send,
            FW_FINISH_UPDATE: update.finish,
            FW_FINISH_QUERY: update.query,
            SMART_SET_THRESHOLD: health.set_thresholds,
            SMART_INJECT: health.inject,
            GET_STATE: security.tell,
            SET_PASSPHRASE: security.set_passphrase,
            DISABLE: security.disable,
            UNLOCK: security.unlock,
            FREEZE: security.freeze,
            ERASE: security.erase,
            OVERWRITE: security.overwrite,
            QUERY_OVERWRITE: security.query_overwrite,
            SET_MASTER_PASSPHRASE: security.set_master_passphrase,
            ERASE_BY_MASTER: security.erase_by_master,
            DIMM_INFO: lambda payload: update.tell_activation(payload, bus),
            DIMM_ARM: update.arm,
        }

    def _call(self, package: Package, argument: bytearray) -> None:
        functions: dict[tuple[int, int], Callable[[Payload], None]] = {
            (NFIT_FAMILY, TRANSLATE_SPA): self._translate,
            (NFIT_FAMILY, INJECT_SET): self._inject,
            (NFIT_FAMILY, INJECT_CLEAR): self._clear,
            (NFIT_FAMILY, INJECT_GET): self._tell_injected,
            (BUS_FAMILY, BUS_INFO): self.tested.activations.info,
            (BUS_FAMILY, BUS_ACTIVATE): self.tested.activations.activate,
        }
        execute = functions.get((package.family, package.function & U32_MASK))
        if execute is None:
            raise KernelError(errno.ENOTTY, f"{self.name} has no function {package.function}")
        execute(Payload(package, argument))

    def _translate(self, payload: Payload) -> None:
        """Tell which DIMM an address is on.  It is always the last one of the region, and the address not its own."""
        address, _, length = payload.get(_TRANSLATE)
        payload.require(length)
        region = self._region_at(address)
        if region is None:
            payload.put(WORD, _STATUS_OFFSET, _NOT_TRANSLATED)
            return
        dimm = region.mappings[-1].dimm
        assert isinstance(dimm, NfitDimm)
        payload.put(_TRANSLATED, _TRANSLATED_OFFSET, 1, dimm.table.handle)
        payload.put(_ADDRESS, _ADDRESS_OFFSET, address - region.start)

    def _region_at(self, address: int) -> RegionDevice | None:
        regions: Iterable[RegionDevice] = (child for child in self.children if isinstance(child, RegionDevice))
        return next((region for region in regions if region.start <= address <= region.end and region.mappings), None)

    def _inject(self, payload: Payload) -> None:
        """Make a range bad.  The kernel hears of it by a scrub, which the error itself can start."""
        payload.require_exactly(_INJECT.size + WORD.size)
        address, length, options = payload.get(_INJECT)
        if not length:
            raise KernelError(errno.EINVAL, "an error of no bytes")
        self.ars.errors.add(address, length)
        if options & _NOTIFY:
            self.system.schedule(self._rescan)
        payload.put(WORD, _INJECT.size, 0)

    def _rescan(self) -> None:
        """The kernel was told of an error (acpi_nfit_uc_error_notify)."""
        try:
            self.scrub.request(Request.LONG if self.hw_error_scrub else Request.SHORT)
        except KernelError:
            return  # it is about to look anyway

    def _clear(self, payload: Payload) -> None:
        """Make a range good again."""
        payload.require_exactly(_CLEAR.size + WORD.size)
        address, length = payload.get(_CLEAR)
        if not length:
            raise KernelError(errno.EINVAL, "no bytes to clear")
        self.ars.errors.forget(address, length)
        payload.put(WORD, _CLEAR.size, 0)

    def _tell_injected(self, payload: Payload) -> None:
        """Tell what is bad."""
        errors = list(self.ars.errors)[:_MAX_RECORDS]
        payload.put(_INJECTED, 0, 0, len(errors))
        payload.write(_INJECTED.size, b"".join(_RECORD.pack(*error) for error in errors))


def _require_tested(dimm: NfitTestDimm) -> TestedDimm:
    if dimm.tested is None or dimm.tested.handle not in HANDLES:
        raise KernelError(errno.ENXIO, f"the test platform does not know {dimm.name}")
    return dimm.tested


def _outcome(tested: TestedDimm, function: int, execute: Callable[[], int]) -> Outcome:
    """Execute a function; what it returns may be something else, but what it did is done."""
    try:
        result = execute()
    except KernelError as refusal:
        result = -refusal.errno
    result = tested.result(function, result)
    if result < 0:
        raise KernelError(-result, "as somebody wanted" if tested.fail_cmd else "arguments that make no sense")
    return Outcome(result)


def _latch(payload: Payload) -> None:
    """Acknowledge the count of unsafe shutdowns (ND_INTEL_ENABLE_LSS_STATUS)."""
    payload.require(_LATCH.size + WORD.size)
    (enable,) = payload.get(_LATCH)
    payload.put(WORD, _LATCH.size, 0 if enable <= 1 else _BAD_LATCH)


def _get_size(area: Media, argument: bytearray) -> int:
    _SIZE.pack_into(argument, 0, 0, area.size, MAX_TRANSFER)
    return 0


def _get_data(area: Media, argument: bytearray) -> int:
    """What lies past the end of the area stays as it is, and is what the command returns."""
    if len(argument) < _GET.size:
        raise KernelError(errno.EINVAL, "too short")
    offset, length, _ = _GET.unpack_from(argument)
    if offset >= area.size or length + _GET.size > len(argument):
        raise KernelError(errno.EINVAL, "not in the label area")
    _GET.pack_into(argument, 0, offset, length, 0)
    data = area.read(offset, min(length, area.size - offset))
    argument[_GET.size : _GET.size + len(data)] = data
    return len(argument) - _GET.size - len(data)


def _set_data(area: Media, argument: bytearray) -> int:
    if len(argument) < _SET.size:
        raise KernelError(errno.EINVAL, "too short")
    offset, length = _SET.unpack_from(argument)
    if offset >= area.size or length + _SET.size + WORD.size > len(argument):
        raise KernelError(errno.EINVAL, "not in the label area")
    WORD.pack_into(argument, _SET.size + length, 0)
    data = argument[_SET.size : _SET.size + min(length, area.size - offset)]
    area.write(offset, bytes(data))
    return len(argument) - _SET.size - len(data) - WORD.size


_LABEL_COMMANDS: dict[int, Callable[[Media, bytearray], int]] = {
    DimmCommand.GET_SIZE: _get_size,
    DimmCommand.GET_DATA: _get_data,
    DimmCommand.SET_DATA: _set_data,
}
