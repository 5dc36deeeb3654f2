"""Security of DIMMs by Intel's functions (drivers/acpi/nfit/intel.c, Linux 6.1)."""

from __future__ import annotations

import errno
from typing import TypeVar

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.dimm_functions import IntelFunction
from nvdimmfs.formats.intel_dsm import (
    MasterSecurityState,
    PassphraseChange,
    PassphraseCommand,
    SecurityState,
    SecurityStatus,
    Status,
    StatusOnly,
)
from nvdimmfs.formats.ndctl import DIMM_FAMILY_INTEL, U32, Package
from nvdimmfs.formats.structure import Structure
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.security import SecurityFlags
from nvdimmfs.platforms.nfit.command import call

#: An errno for use within the kernel (ENOTSUPP, include/linux/errno.h).
_ENOTSUPP = 524

_StructureT = TypeVar("_StructureT", bound=Structure)


@attrs.frozen
class IntelSecurity:
    """The security operations by functions of a DIMM (`nvdimmfs.nd.security.SecurityOps`)."""

    dimm: DimmDevice

    def flags(self, *, master: bool) -> SecurityFlags:
        try:
            answer = self._call(IntelFunction.GET_SECURITY_STATE, SecurityStatus(), 0)
        except KernelError:
            return SecurityFlags.NONE
        if answer.status:
            return SecurityFlags.NONE
        return _master_flags(answer.extended_state) if master else _user_flags(answer.state)

    def freeze(self) -> None:
        self._require(IntelFunction.FREEZE_LOCK, StatusOnly(), {}, errno.EIO)

    def change_key(self, old: bytes, new: bytes, *, master: bool) -> None:
        function = IntelFunction.SET_MASTER_PASSPHRASE if master else IntelFunction.SET_PASSPHRASE
        refusals = {Status.INVALID_PASSPHRASE: errno.EINVAL, Status.NOT_SUPPORTED: errno.EOPNOTSUPP}
        self._require(function, PassphraseChange(old, new), refusals, errno.EIO)

    def unlock(self, key: bytes) -> None:
        refusals = {Status.INVALID_PASSPHRASE: errno.EINVAL}
        self._require(IntelFunction.UNLOCK_UNIT, PassphraseCommand(key), refusals, errno.EIO)

    def disable(self, key: bytes) -> None:
        refusals = {Status.INVALID_PASSPHRASE: errno.EINVAL}
        self._require(IntelFunction.DISABLE_PASSPHRASE, PassphraseCommand(key), refusals, errno.ENXIO)

    def erase(self, key: bytes, *, master: bool) -> None:
        function = IntelFunction.MASTER_SECURE_ERASE if master else IntelFunction.SECURE_ERASE
        refusals = {Status.INVALID_PASSPHRASE: errno.EINVAL, Status.NOT_SUPPORTED: errno.EOPNOTSUPP}
        self._require(function, PassphraseCommand(key), refusals, errno.ENXIO)

    def overwrite(self, key: bytes) -> None:
        refusals = {Status.INVALID_PASSPHRASE: errno.EINVAL, Status.OVERWRITE_UNSUPPORTED: _ENOTSUPP}
        self._require(IntelFunction.OVERWRITE, PassphraseCommand(key), refusals, errno.ENXIO)

    def query_overwrite(self) -> None:
        refusals = {Status.OVERWRITE_IN_PROGRESS: errno.EBUSY}
        self._require(IntelFunction.QUERY_OVERWRITE, StatusOnly(), refusals, errno.ENXIO)

    def _require(
        self,
        function: IntelFunction,
        payload: PassphraseChange | PassphraseCommand | StatusOnly,
        refusals: dict[Status, int],
        otherwise: int,
    ) -> None:
        """Call a function; raises the errno for its status if that is not 0."""
        status = self._call(function, payload, payload.size() - U32.size).status
        if status:
            code = next((code for refusal, code in refusals.items() if refusal == status), otherwise)
            raise KernelError(code, f"{function.name} of {self.dimm.name} returned status {status:#x}")

    def _call(self, function: IntelFunction, payload: _StructureT, size_in: int) -> _StructureT:
        """Call a function and return the payload; errors as `NvdimmBus.control`."""
        package = Package(DIMM_FAMILY_INTEL, function, size_in, payload.size() - size_in)
        return payload.from_bytes(call(self.dimm.parent, self.dimm, package, payload.to_bytes()))


def _master_flags(state: int) -> SecurityFlags:
    flags = SecurityFlags.UNLOCKED if state & MasterSecurityState.ENABLED else SecurityFlags.DISABLED
    return flags | SecurityFlags.FROZEN if state & MasterSecurityState.PASSPHRASE_LIMIT else flags


def _user_flags(state: int) -> SecurityFlags:
    if state & SecurityState.UNSUPPORTED:
        return SecurityFlags.NONE
    if not state & SecurityState.ENABLED:
        return SecurityFlags.DISABLED
    flags = SecurityFlags.LOCKED if state & SecurityState.LOCKED else SecurityFlags.UNLOCKED
    return flags | SecurityFlags.FROZEN if state & (SecurityState.FROZEN | SecurityState.PASSPHRASE_LIMIT) else flags
