"""Security of DIMMs: passphrases, locks and erasing, as tools/testing/nvdimm/test/nfit.c emulates them (Linux 6.1).

Data is neither encrypted nor erased; the states of a DIMM are emulated.
"""

from __future__ import annotations

import attrs

from nvdimmfs.core.clock import Clock
from nvdimmfs.formats.intel_dsm import (
    MasterSecurityState,
    PassphraseChange,
    PassphraseCommand,
    SecurityState,
    SecurityStatus,
    Status,
    StatusOnly,
)
from nvdimmfs.kernels.durations import OVERWRITE
from nvdimmfs.machine_file import model, words
from nvdimmfs.nd.security import NO_PASSPHRASE
from nvdimmfs.platforms.dimm_firmware.payload import Payload

#: Security is disabled.
NOTHING = SecurityState(0)

#: The states at the boot, by the words of `security`.
_STATES = {
    words.SecurityState.UNLOCKED: SecurityState.ENABLED,
    words.SecurityState.LOCKED: SecurityState.ENABLED | SecurityState.LOCKED,
}


def state_at_boot(table: model.DimmDescription) -> SecurityState:
    """The state of a DIMM at the boot, as a machine file describes it."""
    state = _STATES.get(table.security, NOTHING)
    return state | SecurityState.FROZEN if table.frozen else state


@attrs.define(eq=False)
class EmulatedSecurity:
    """A DIMM's security.

    Attributes:
        state: the current state.
        passphrase: the user passphrase; zeros while security is disabled, None for one that no key has.
        master: the master passphrase.
    """

    _clock: Clock
    state: SecurityState = NOTHING
    passphrase: bytes | None = NO_PASSPHRASE
    master: bytes = NO_PASSPHRASE
    _state_before: SecurityState = NOTHING
    _overwritten: int = 0

    def lock(self) -> None:
        """Lock the DIMM, as a reset does."""
        self.state = SecurityState.ENABLED | SecurityState.LOCKED

    def report(self, payload: Payload) -> None:
        """Report the state (NVDIMM_INTEL_GET_SECURITY_STATE); the master's is always enabled."""
        answer = payload.get(SecurityStatus)
        payload.put(
            attrs.evolve(answer, status=Status.SUCCESS, extended_state=MasterSecurityState.ENABLED, state=self.state)
        )

    def unlock(self, payload: Payload) -> None:
        """NVDIMM_INTEL_UNLOCK_UNIT."""
        request = payload.get(PassphraseCommand)
        status = Status.SUCCESS
        if SecurityState.LOCKED not in self.state or SecurityState.FROZEN in self.state:
            status = Status.INVALID_STATE
        elif request.passphrase != self.passphrase:
            status = Status.INVALID_PASSPHRASE
        else:
            self.state = SecurityState.ENABLED
        payload.put(attrs.evolve(request, status=status))

    def set_passphrase(self, payload: Payload) -> None:
        """NVDIMM_INTEL_SET_PASSPHRASE."""
        request = payload.get(PassphraseChange)
        status = Status.SUCCESS
        if SecurityState.FROZEN in self.state:
            status = Status.INVALID_STATE
        elif request.old != self.passphrase:
            status = Status.INVALID_PASSPHRASE
        else:
            self.passphrase = request.new
            self.state |= SecurityState.ENABLED
        payload.put(attrs.evolve(request, status=status))

    def disable(self, payload: Payload) -> None:
        """NVDIMM_INTEL_DISABLE_PASSPHRASE; it writes a status only when it fails."""
        request = payload.get(PassphraseCommand)
        if SecurityState.ENABLED not in self.state or SecurityState.FROZEN in self.state:
            payload.put(attrs.evolve(request, status=Status.INVALID_STATE))
        elif request.passphrase != self.passphrase:
            payload.put(attrs.evolve(request, status=Status.INVALID_PASSPHRASE))
        else:
            self.passphrase, self.state = NO_PASSPHRASE, NOTHING

    def freeze(self, payload: Payload) -> None:
        """NVDIMM_INTEL_FREEZE_LOCK."""
        if SecurityState.ENABLED not in self.state:
            payload.put(StatusOnly(Status.INVALID_STATE))
            return
        self.state |= SecurityState.FROZEN
        payload.put(StatusOnly(Status.SUCCESS))

    def erase(self, payload: Payload) -> None:
        """NVDIMM_INTEL_SECURE_ERASE; it writes a status only when it fails."""
        request = payload.get(PassphraseCommand)
        if SecurityState.FROZEN in self.state:
            payload.put(attrs.evolve(request, status=Status.INVALID_STATE))
        elif request.passphrase != self.passphrase:
            payload.put(attrs.evolve(request, status=Status.INVALID_PASSPHRASE))
        elif SecurityState.ENABLED in self.state or self.passphrase == NO_PASSPHRASE:
            self.passphrase = self.master = NO_PASSPHRASE
            self.state = NOTHING

    def overwrite(self, payload: Payload) -> None:
        """NVDIMM_INTEL_OVERWRITE; it writes a status only when it fails."""
        request = payload.get(PassphraseCommand)
        if SecurityState.ENABLED in self.state and request.passphrase != self.passphrase:
            payload.put(attrs.evolve(request, status=Status.INVALID_PASSPHRASE))
            return
        self._state_before, self.state = self.state, SecurityState.OVERWRITE
        self._overwritten = self._clock.now + OVERWRITE.nanoseconds

    def query_overwrite(self, payload: Payload) -> None:
        """NVDIMM_INTEL_QUERY_OVERWRITE; it writes no status when it is done."""
        if SecurityState.OVERWRITE not in self.state:
            payload.put(StatusOnly(Status.NOT_OVERWRITING))
        elif self._clock.now >= self._overwritten:
            self.state, self._state_before = self._state_before, NOTHING
        else:
            payload.put(StatusOnly(Status.OVERWRITE_IN_PROGRESS))

    def set_master_passphrase(self, payload: Payload) -> None:
        """NVDIMM_INTEL_SET_MASTER_PASSPHRASE; it writes a status only when it fails."""
        request = payload.get(PassphraseChange)
        if request.old != self.master:
            payload.put(attrs.evolve(request, status=Status.INVALID_PASSPHRASE))
            return
        self.master = request.new

    def erase_by_master(self, payload: Payload) -> None:
        """NVDIMM_INTEL_MASTER_SECURE_ERASE; it writes a status only when it fails."""
        request = payload.get(PassphraseCommand)
        if request.passphrase != self.master:
            payload.put(attrs.evolve(request, status=Status.INVALID_PASSPHRASE))
            return
        self.passphrase, self.state = NO_PASSPHRASE, NOTHING
