"""Keys that the kernel stores for processes, as far as drivers look them up (security/keys, Linux 6.1)."""

from __future__ import annotations

from typing import Protocol


class Keyring(Protocol):
    """The keys of type `encrypted` of the process that writes to an attribute."""

    def payload(self, serial: int) -> bytes | None:
        """The secret in the key of that number; None when there is none, or no such key."""

    def find(self, description: str) -> bytes | None:
        """The secret in the key of that name, which the process need not possess (request_key)."""


class NoKeys:
    """A keyring without keys."""

    def payload(self, serial: int) -> bytes | None:  # noqa: ARG002
        return None

    def find(self, description: str) -> bytes | None:  # noqa: ARG002
        return None
