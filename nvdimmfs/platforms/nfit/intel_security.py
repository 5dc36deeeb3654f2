"""Security of DIMMs by Intel's functions (drivers/acpi/nfit/intel.c, Linux 6.1)."""

from __future__ import annotations

import errno
import struct

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import CALL, PACKAGE_SIZE, Package
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.security import PASSPHRASE_SIZE, SecurityFlags
from nvdimmfs.platforms.nfit.command import INTEL_FAMILY

#: Functions of a DIMM (NVDIMM_INTEL_...).
GET_STATE, SET_PASSPHRASE, DISABLE, UNLOCK, FREEZE, ERASE, OVERWRITE, QUERY_OVERWRITE = range(19, 27)
SET_MASTER_PASSPHRASE, ERASE_BY_MASTER = 27, 28

#: Statuses (ND_INTEL_STATUS_...); one number means two things.
NOT_SUPPORTED, INVALID_PASSPHRASE, OVERWRITING, CANNOT_OVERWRITE = 1, 11, 0x10007, 0x10007

#: Bits of the states of user and master (ND_INTEL_SEC_STATE_..., ND_INTEL_SEC_ESTATE_...).
_ENABLED, _LOCKED, _FROZEN, _LIMIT, _UNSUPPORTED = 0x02, 0x04, 0x08, 0x10, 0x20
_MASTER_ENABLED, _MASTER_LIMIT = 0x01, 0x02

_STATUS = struct.Struct("<I")
#: Status, the master's state, the user's.
_STATE = struct.Struct("<IB3xB3x")

#: An errno that only the kernel knows (ENOTSUPP, include/linux/errno.h).
_ENOTSUPP = 524


@attrs.frozen
class IntelSecurity:
    """What the functions of a DIMM do (`nvdimmfs.nd.security.SecurityOps`)."""

    dimm: DimmDevice

    def flags(self, *, master: bool) -> SecurityFlags:
        try:
            status, extended, state = _STATE.unpack(self._call(GET_STATE, b"", _STATE.size))
        except KernelError:
            return SecurityFlags.NONE
        if status:
            return SecurityFlags.NONE
        return _master_flags(extended) if master else _user_flags(state)

    def freeze(self) -> None:
        self._require(FREEZE, b"", {}, errno.EIO)

    def change_key(self, old: bytes, new: bytes, *, master: bool) -> None:
        refusals = {INVALID_PASSPHRASE: errno.EINVAL, NOT_SUPPORTED: errno.EOPNOTSUPP}
        self._require(SET_MASTER_PASSPHRASE if master else SET_PASSPHRASE, old + new, refusals, errno.EIO)

    def unlock(self, key: bytes) -> None:
        self._require(UNLOCK, key, {INVALID_PASSPHRASE: errno.EINVAL}, errno.EIO)

    def disable(self, key: bytes) -> None:
        self._require(DISABLE, key, {INVALID_PASSPHRASE: errno.EINVAL}, errno.ENXIO)

    def erase(self, key: bytes, *, master: bool) -> None:
        refusals = {INVALID_PASSPHRASE: errno.EINVAL, NOT_SUPPORTED: errno.EOPNOTSUPP}
        self._require(ERASE_BY_MASTER if master else ERASE, key, refusals, errno.ENXIO)

    def overwrite(self, key: bytes) -> None:
        refusals = {INVALID_PASSPHRASE: errno.EINVAL, CANNOT_OVERWRITE: _ENOTSUPP}
        self._require(OVERWRITE, key, refusals, errno.ENXIO)

    def query_overwrite(self) -> None:
        self._require(QUERY_OVERWRITE, b"", {OVERWRITING: errno.EBUSY}, errno.ENXIO)

    def _require(self, function: int, given: bytes, refusals: dict[int, int], otherwise: int) -> None:
        (status,) = _STATUS.unpack(self._call(function, given, _STATUS.size))
        if status:
            raise KernelError(refusals.get(status, otherwise), f"function {function} of {self.dimm.name}: {status:#x}")

    def _call(self, function: int, given: bytes, answer_size: int) -> bytes:
        """What a function answers; refusals as `NvdimmBus.control`."""
        assert len(given) % PASSPHRASE_SIZE == 0, "functions are given whole passphrases"
        head = Package(INTEL_FAMILY, function, len(given), answer_size).to_bytes()
        argument = bytearray(head + given + bytes(answer_size))
        self.dimm.parent.control(self.dimm, CALL, argument)
        return bytes(argument[PACKAGE_SIZE + len(given) :])


def _master_flags(state: int) -> SecurityFlags:
    flags = SecurityFlags.UNLOCKED if state & _MASTER_ENABLED else SecurityFlags.DISABLED
    return flags | SecurityFlags.FROZEN if state & _MASTER_LIMIT else flags


def _user_flags(state: int) -> SecurityFlags:
    if state & _UNSUPPORTED:
        return SecurityFlags.NONE
    if not state & _ENABLED:
        return SecurityFlags.DISABLED
    flags = SecurityFlags.LOCKED if state & _LOCKED else SecurityFlags.UNLOCKED
    return flags | SecurityFlags.FROZEN if state & (_FROZEN | _LIMIT) else flags
