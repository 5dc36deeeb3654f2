"""Security of the test platform's DIMMs: passphrases, locks and erasing (tools/testing/nvdimm/test/nfit.c, 6.1).

Nothing is ever encrypted or erased there; these are the states that a DIMM goes through.  Layouts and numbers are those
of drivers/acpi/nfit/intel.h.
"""

from __future__ import annotations

import enum
import struct

import attrs

from nvdimmfs.core.clock import Clock
from nvdimmfs.kernels.durations import OVERWRITE
from nvdimmfs.nd.security import NO_PASSPHRASE, PASSPHRASE_SIZE
from nvdimmfs.platforms.nfit.intel_security import INVALID_PASSPHRASE, OVERWRITING
from nvdimmfs.platforms.nfit_test.payload import WORD, Payload

#: Statuses of Intel's functions that the kernel does not tell from others (ND_INTEL_STATUS_...).
INVALID_STATE = 10
NOT_OVERWRITING = 0x20007

#: Status, extended state; the state.
_STATE = struct.Struct("<IB")
_BYTE, _STATE_OFFSET = struct.Struct("<B"), 8


class IntelSecurityState(enum.IntFlag):
    """ND_INTEL_SEC_STATE_..."""

    ENABLED = 0x02
    LOCKED = 0x04
    FROZEN = 0x08
    OVERWRITE = 0x40


#: Security is disabled.
NOTHING = IntelSecurityState(0)


@attrs.define(eq=False)
class EmulatedSecurity:
    """A DIMM's security.

    Attributes:
        state: what holds now.
        passphrase: of the user; without a secret while security is disabled.
        master: the passphrase of the master.
    """

    _clock: Clock
    state: IntelSecurityState = NOTHING
    passphrase: bytes = NO_PASSPHRASE
    master: bytes = NO_PASSPHRASE
    _state_before: IntelSecurityState = NOTHING
    _overwritten: int = 0

    def lock(self) -> None:
        """As if it had been locked by a reset."""
        self.state = IntelSecurityState.ENABLED | IntelSecurityState.LOCKED

    def tell(self, payload: Payload) -> None:
        """Tell the state (NVDIMM_INTEL_GET_SECURITY_STATE); the master's is always enabled."""
        payload.put(_STATE, 0, 0, 1)
        payload.put(_BYTE, _STATE_OFFSET, self.state)

    def unlock(self, payload: Payload) -> None:
        """NVDIMM_INTEL_UNLOCK_UNIT."""
        status = 0
        if IntelSecurityState.LOCKED not in self.state or IntelSecurityState.FROZEN in self.state:
            status = INVALID_STATE
        elif payload.read(0, PASSPHRASE_SIZE) != self.passphrase:
            status = INVALID_PASSPHRASE
        else:
            self.state = IntelSecurityState.ENABLED
        payload.put(WORD, PASSPHRASE_SIZE, status)

    def set_passphrase(self, payload: Payload) -> None:
        """NVDIMM_INTEL_SET_PASSPHRASE."""
        status = 0
        if IntelSecurityState.FROZEN in self.state:
            status = INVALID_STATE
        elif payload.read(0, PASSPHRASE_SIZE) != self.passphrase:
            status = INVALID_PASSPHRASE
        else:
            self.passphrase = payload.read(PASSPHRASE_SIZE, PASSPHRASE_SIZE)
            self.state |= IntelSecurityState.ENABLED
        payload.put(WORD, 2 * PASSPHRASE_SIZE, status)

    def disable(self, payload: Payload) -> None:
        """NVDIMM_INTEL_DISABLE_PASSPHRASE; it writes a status only when it fails."""
        if IntelSecurityState.ENABLED not in self.state or IntelSecurityState.FROZEN in self.state:
            payload.put(WORD, PASSPHRASE_SIZE, INVALID_STATE)
        elif payload.read(0, PASSPHRASE_SIZE) != self.passphrase:
            payload.put(WORD, PASSPHRASE_SIZE, INVALID_PASSPHRASE)
        else:
            self.passphrase, self.state = NO_PASSPHRASE, NOTHING

    def freeze(self, payload: Payload) -> None:
        """NVDIMM_INTEL_FREEZE_LOCK."""
        if IntelSecurityState.ENABLED not in self.state:
            payload.put(WORD, 0, INVALID_STATE)
            return
        self.state |= IntelSecurityState.FROZEN
        payload.put(WORD, 0, 0)

    def erase(self, payload: Payload) -> None:
        """NVDIMM_INTEL_SECURE_ERASE; it writes a status only when it fails."""
        if IntelSecurityState.FROZEN in self.state:
            payload.put(WORD, PASSPHRASE_SIZE, INVALID_STATE)
        elif payload.read(0, PASSPHRASE_SIZE) != self.passphrase:
            payload.put(WORD, PASSPHRASE_SIZE, INVALID_PASSPHRASE)
        elif IntelSecurityState.ENABLED in self.state or self.passphrase == NO_PASSPHRASE:
            self.passphrase = self.master = NO_PASSPHRASE
            self.state = NOTHING

    def overwrite(self, payload: Payload) -> None:
        """NVDIMM_INTEL_OVERWRITE; it writes a status only when it fails."""
        if IntelSecurityState.ENABLED in self.state and payload.read(0, PASSPHRASE_SIZE) != self.passphrase:
            payload.put(WORD, PASSPHRASE_SIZE, INVALID_PASSPHRASE)
            return
        self._state_before, self.state = self.state, IntelSecurityState.OVERWRITE
        self._overwritten = self._clock.now + OVERWRITE.nanoseconds

    def query_overwrite(self, payload: Payload) -> None:
        """NVDIMM_INTEL_QUERY_OVERWRITE; it writes no status when it is done."""
        if IntelSecurityState.OVERWRITE not in self.state:
            payload.put(WORD, 0, NOT_OVERWRITING)
        elif self._clock.now >= self._overwritten:
            self.state, self._state_before = self._state_before, NOTHING
        else:
            payload.put(WORD, 0, OVERWRITING)

    def set_master_passphrase(self, payload: Payload) -> None:
        """NVDIMM_INTEL_SET_MASTER_PASSPHRASE; it writes a status only when it fails."""
        if payload.read(0, PASSPHRASE_SIZE) != self.master:
            payload.put(WORD, 2 * PASSPHRASE_SIZE, INVALID_PASSPHRASE)
            return
        self.master = payload.read(PASSPHRASE_SIZE, PASSPHRASE_SIZE)

    def erase_by_master(self, payload: Payload) -> None:
        """NVDIMM_INTEL_MASTER_SECURE_ERASE; it writes a status only when it fails."""
        if payload.read(0, PASSPHRASE_SIZE) != self.master:
            payload.put(WORD, PASSPHRASE_SIZE, INVALID_PASSPHRASE)
            return
        self.passphrase, self.state = NO_PASSPHRASE, NOTHING
