"""Security of DIMMs: operations with passphrases, which are keys in the kernel's keyrings.

Writes to nmemN/security request them, and binding a DIMM unlocks it (drivers/nvdimm/security.c, Linux 6.1).  The
provider of a DIMM carries them out (`SecurityOps`).
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable
from typing import Protocol

import attrs

from nvdimmfs.core.clock import Clock
from nvdimmfs.core.keyring import Keyring
from nvdimmfs.core.parse import WHITE_SPACE, c_string, parse_unsigned
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.device_rules import DeviceRules
from nvdimmfs.kernels.durations import OVERWRITE_POLL_LIMIT, OVERWRITE_POLL_STEP

#: Bytes of a passphrase (NVDIMM_PASSPHRASE_LEN), and the passphrase that stands for none.
PASSPHRASE_SIZE = 32
NO_PASSPHRASE = bytes(PASSPHRASE_SIZE)

#: The number of bytes of each word that count (SEC_CMD_SIZE, KEY_ID_SIZE).
_COMMAND_SIZE, _KEY_SIZE = 32, 10


class SecurityFlags(enum.Flag):
    """The security state of a DIMM (enum nvdimm_security_bits); NONE without security."""

    NONE = 0
    DISABLED = enum.auto()
    UNLOCKED = enum.auto()
    LOCKED = enum.auto()
    FROZEN = enum.auto()
    OVERWRITE = enum.auto()


class SecurityOps(Protocol):
    """A provider's security operations (struct nvdimm_security_ops).  They raise KernelError."""

    def flags(self, *, master: bool) -> SecurityFlags:
        """The current state, for the user passphrase or the master passphrase."""

    def freeze(self) -> None:
        """Refuse security operations until the next boot."""

    def change_key(self, old: bytes, new: bytes, *, master: bool) -> None:
        """Replace a passphrase."""

    def unlock(self, key: bytes) -> None:
        """Unlock it."""

    def disable(self, key: bytes) -> None:
        """Remove the passphrase."""

    def erase(self, key: bytes, *, master: bool) -> None:
        """Erase the data."""

    def overwrite(self, key: bytes) -> None:
        """Start to overwrite the data."""

    def query_overwrite(self) -> None:
        """EBUSY while it is being overwritten."""


@attrs.define(eq=False)
class DimmSecurity:
    """The kernel's view of a DIMM's security (nvdimm->sec).

    Attributes:
        flags: the state when it was last read.
        master_flags: the same, for the master passphrase.
        overwriting: the kernel has not yet seen an overwrite end.
        incoherent: the caches of the processor may have data that the DIMM had before it was unlocked, erased or
            overwritten.
    """

    _ops: SecurityOps
    _keyring: Callable[[], Keyring]
    _key_name: str
    _is_busy: Callable[[], bool]
    _clock: Clock
    _overwritten: Callable[[], None]
    _rules: DeviceRules
    overwriting: bool = False
    incoherent: bool = False
    flags: SecurityFlags = attrs.field(init=False)
    master_flags: SecurityFlags = attrs.field(init=False)
    _next_query: int = 0

    def __attrs_post_init__(self) -> None:
        self.refresh()
        self._refresh_master()

    def refresh(self) -> None:
        """Read the state from the DIMM; it is OVERWRITE while the DIMM is being overwritten."""
        self.flags = SecurityFlags.OVERWRITE if self.overwriting else self._ops.flags(master=False)

    def _refresh_master(self) -> None:
        self.master_flags = self._ops.flags(master=True)

    @property
    def word(self) -> str:
        """The content of `security` (security_show, drivers/nvdimm/dimm_devs.c, Linux 6.1).  ENOTTY without a state."""
        for flag, word in _STATES.items():
            if flag in self.flags:
                return word
        raise KernelError(errno.ENOTTY, "the DIMM reports no known state")

    @property
    def is_frozen(self) -> bool:
        """Whether it was frozen when the state was last read."""
        return SecurityFlags.FROZEN in self.flags

    def unlock(self) -> None:
        """Unlock a DIMM that is being bound, with the key named after it (nvdimm_security_unlock).

        An unlocked DIMM gets the key, too, which verifies it; a wrong key has no consequence.  EIO without security,
        EBUSY while the DIMM is being overwritten, else the errors of the DIMM.
        """
        if not self.flags:
            raise KernelError(errno.EIO, "the DIMM has no security")
        if SecurityFlags.DISABLED in self.flags:
            return
        self._require_not_overwriting()
        key = self._keyring().find(self._key_name) or NO_PASSPHRASE
        if SecurityFlags.UNLOCKED in self.flags:
            self._ops.change_key(key, key, master=False)
            self.refresh()
            return
        self._then_refresh(lambda: self._ops.unlock(key))
        self._replace_data()

    def _replace_data(self) -> None:
        """The data is not what the processor may have cached, which such kernels deal with later."""
        self.incoherent = self._rules.regions_need_coherent_dimms

    def store(self, data: bytes) -> None:
        """Execute a written operation: a word, mostly followed by the serial numbers of one or two keys, 0 for no key.

        EINVAL for anything else (where a key is missing, Linux uses uninitialised bytes of its stack), ERANGE for a
        number past 32 bits.  Then: EBUSY to erase or overwrite a DIMM that a bound region uses; EOPNOTSUPP without
        security; EIO when it is frozen, EBUSY while it is being overwritten; ENOKEY for a number that is not a key's,
        and for no key as the new one; the errors of the DIMM.
        """
        word, *numbers = _words(data)
        command = _COMMANDS.get(word)
        if word == _DISABLE_MASTER and not self._rules.knows_disable_master:
            command = None
        if command is None or len(numbers) < command.keys:
            raise KernelError(errno.EINVAL, f"{word!r} is not an operation, or its keys are missing")
        keys = [parse_unsigned(number, bits=32) for number in numbers[: command.keys]]
        command.execute(self, *keys)

    def freeze(self) -> None:
        if not self.flags:
            raise KernelError(errno.EIO, "the DIMM has no security")
        self._require_not_overwriting()
        self._then_refresh(self._ops.freeze)

    def disable(self, key: int) -> None:
        self._require_changeable()
        secret = self._old_key(key)
        self._then_refresh(lambda: self._ops.disable(secret))

    def disable_master(self, _key: int) -> None:
        raise KernelError(errno.EOPNOTSUPP, "no DIMM of an NFIT can remove its master passphrase")

    def update(self, old: int, new: int) -> None:
        self._require_changeable()
        secrets = self._old_key(old), self._key(new)
        self._then_refresh(lambda: self._ops.change_key(*secrets, master=False))

    def update_master(self, old: int, new: int) -> None:
        self._require_changeable()
        keys = self._old_key(old), self._key(new)
        try:
            self._ops.change_key(*keys, master=True)
        finally:
            self._refresh_master()

    def erase(self, key: int) -> None:
        self._require_idle()
        self._require_changeable()
        secret = self._old_key(key)
        self._then_refresh(lambda: self._ops.erase(secret, master=False))
        self._replace_data()

    def erase_by_master(self, key: int) -> None:
        self._require_idle()
        self._require_changeable()
        if SecurityFlags.UNLOCKED not in self.master_flags:
            raise KernelError(errno.EOPNOTSUPP, "there is no master passphrase")
        secret = self._old_key(key)
        self._then_refresh(lambda: self._ops.erase(secret, master=True))
        self._replace_data()

    def overwrite(self, key: int) -> None:
        self._require_idle()
        self._require_changeable()
        self._ops.overwrite(self._old_key(key))
        self._replace_data()
        self.overwriting = True
        self.flags |= SecurityFlags.OVERWRITE
        self._query()

    def _query(self) -> None:
        """Check whether an overwrite has ended (__nvdimm_security_overwrite_query)."""
        try:
            self._ops.query_overwrite()
        except KernelError as refusal:
            if refusal.errno == errno.EBUSY:
                delay = self._next_query + OVERWRITE_POLL_STEP.nanoseconds
                self._next_query = min(OVERWRITE_POLL_LIMIT.nanoseconds, delay)
                self._clock.schedule(delay, self._query, "Ask whether a DIMM has been overwritten")
                return
        self._next_query = 0
        self.overwriting = False
        self.refresh()
        self._refresh_master()
        self._overwritten()

    def _then_refresh(self, operation: Callable[[], None]) -> None:
        try:
            operation()
        finally:
            self.refresh()

    def _require_idle(self) -> None:
        if self._is_busy():
            raise KernelError(errno.EBUSY, "a bound region uses the DIMM")

    def _require_not_overwriting(self) -> None:
        if self.overwriting:
            raise KernelError(errno.EBUSY, "the DIMM is being overwritten")

    def _require_changeable(self) -> None:
        if not self.flags:
            raise KernelError(errno.EOPNOTSUPP, "the DIMM has no security")
        if SecurityFlags.FROZEN in self.flags:
            raise KernelError(errno.EIO, "the security of the DIMM is frozen")
        self._require_not_overwriting()

    def _old_key(self, serial: int) -> bytes:
        return self._key(serial) if serial else NO_PASSPHRASE

    def _key(self, serial: int) -> bytes:
        key = self._keyring().payload(serial) if serial else None
        if key is None or len(key) != PASSPHRASE_SIZE:
            raise KernelError(errno.ENOKEY, f"{serial} is not a key for a DIMM")
        return key


#: The words of the states, in the order in which the kernel tests them.
_STATES = {
    SecurityFlags.OVERWRITE: "overwrite",
    SecurityFlags.DISABLED: "disabled",
    SecurityFlags.UNLOCKED: "unlocked",
    SecurityFlags.LOCKED: "locked",
}


@attrs.frozen
class _Command:
    """An operation that a word requests.

    Attributes:
        keys: the number of keys that follow.
        execute: carries it out.
    """

    keys: int
    execute: Callable[..., None]


_DISABLE_MASTER = b"disable_master"

_COMMANDS = {
    b"freeze": _Command(0, DimmSecurity.freeze),
    b"disable": _Command(1, DimmSecurity.disable),
    _DISABLE_MASTER: _Command(1, DimmSecurity.disable_master),
    b"update": _Command(2, DimmSecurity.update),
    b"erase": _Command(1, DimmSecurity.erase),
    b"overwrite": _Command(1, DimmSecurity.overwrite),
    b"master_update": _Command(2, DimmSecurity.update_master),
    b"master_erase": _Command(1, DimmSecurity.erase_by_master),
}


def _words(data: bytes) -> list[bytes]:
    """The words, split as sscanf does: the rest of a long word is the next one.  EINVAL for no word."""
    words, rest = [], c_string(data)
    for width in (_COMMAND_SIZE, _KEY_SIZE, _KEY_SIZE):
        rest = rest.lstrip(WHITE_SPACE)
        found = rest.split(maxsplit=1)
        if not found:
            break
        words.append(found[0][:width])
        rest = rest[len(words[-1]) :]
    if not words:
        raise KernelError(errno.EINVAL, "nothing was written")
    return words
