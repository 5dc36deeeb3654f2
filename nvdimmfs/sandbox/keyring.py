"""Encrypted keys of the host's kernel, as whoever runs the machine can reach them: those in the user's own keyring.

A kernel knows what is in an encrypted key and tells nobody; whoever reads one gets it encrypted.  What that looks like
is the same as long as the key that it is encrypted with stays, and so its digest stands for the secret.
"""

from __future__ import annotations

import hashlib
from functools import cached_property

from nvdimmfs.sandbox import syscalls

#: Bytes of a secret that is a DIMM's passphrase.
_SECRET_SIZE = 32


class UserKeyring:
    """The keys of this process's user (`nvdimmfs.core.keyring.Keyring`)."""

    def payload(self, serial: int) -> bytes | None:
        try:
            if not self._is_ready or not syscalls.key_description(serial).startswith(b"encrypted;"):
                return None
            return _stand_in(syscalls.key_contents(serial))
        except OSError:
            return None

    def find(self, description: str) -> bytes | None:
        try:
            if not self._is_ready:
                return None
            return _stand_in(syscalls.key_contents(syscalls.find_key("encrypted", description)))
        except OSError:
            return None

    @cached_property
    def _is_ready(self) -> bool:
        """Possess what is in the user's keyring, which only somebody may read who possesses it."""
        try:
            syscalls.possess_user_keyring()
        except OSError:
            return False
        return True


def _stand_in(contents: bytes) -> bytes | None:
    """What stands for a secret of the right size; None for others.  The last words are its size and the encryption."""
    *_, size, encrypted = contents.split()
    return hashlib.sha256(encrypted).digest() if int(size) == _SECRET_SIZE else None
