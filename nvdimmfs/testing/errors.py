"""The exception for a host that cannot serve a machine."""

from __future__ import annotations


class UnavailableError(RuntimeError):
    """The host cannot mount machines, or cannot run commands on them, or does not permit it to this user.

    The message is one line: the reason and, after a semicolon, what would help.  `nvdimmfs doctor` prints the same.
    """
