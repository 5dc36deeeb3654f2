"""Encrypted keys of the host's kernel, as the user who runs the machine can reach them: those in the user's keyring.

The kernel never gives out the secret of an encrypted key; a reader gets the key's ciphertext.  The ciphertext stays the
same as long as the master key stays, so its digest stands in for the secret.
"""

from __future__ import annotations

from functools import cached_property

from nvdimmfs.sandbox import libc

#: Bytes of a secret that can be a DIMM's passphrase.
_SECRET_SIZE = 32


class UserKeyring:
    """The keys of this process's user (`nvdimmfs.core.keyring.Keyring`)."""

    def payload(self, serial: int) -> bytes | None:
        try:
            if not self._is_possessed or not libc.key_description(serial).startswith(b"encrypted;"):
                return None
            return _stand_in(libc.key_contents(serial))
        except OSError:
            return None

    def find(self, description: str) -> bytes | None:
        try:
            if not self._is_possessed:
                return None
            return _stand_in(libc.key_contents(libc.find_key("encrypted", description)))
        except OSError:
            return None

    @cached_property
    def _is_possessed(self) -> bool:
        """Possess the user's keyring: the kernel lets only a possessor read its keys.  False where that fails."""
        try:
            libc.possess_user_keyring()
        except OSError:
            return False
        return True


def _stand_in(contents: bytes) -> bytes | None:
    """A digest in place of a secret of the right size; None for other sizes.

    The last two words of a key's contents are the size of the secret and its ciphertext.
    """
    import hashlib  # which loads OpenSSL

    *_, size, encrypted = contents.split()
    return hashlib.sha256(encrypted).digest() if int(size) == _SECRET_SIZE else None
