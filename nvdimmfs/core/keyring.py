"""Keys that the kernel keeps for processes, as far as drivers ask for them (security/keys, Linux 6.1)."""

from __future__ import annotations

from typing import Protocol


class Keyring(Protocol):
    """The keys of type `encrypted` of whoever writes to an attribute."""

    def payload(self, serial: int) -> bytes | None:
        """The secret in the key of that number; None when there is none, or no such key."""

    def find(self, description: str) -> bytes | None:
        """The secret in the key of that name, which nobody has to have handed over (request_key)."""


class NoKeys:
    """Nobody has any key."""

    def payload(self, serial: int) -> bytes | None:  # noqa: ARG002
        return None

    def find(self, description: str) -> bytes | None:  # noqa: ARG002
        return None
