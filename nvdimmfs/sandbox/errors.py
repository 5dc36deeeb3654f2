"""What keeps a sandbox from being made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class SandboxError(Exception):
    """A step was not allowed or not possible: one line that says which, why, and what would help."""


@contextlib.contextmanager
def step(what: str, remedy: str = "") -> Iterator[None]:
    """Say of a system call that fails inside which step it belongs to.

    Args:
        what: completes "cannot ...".
        remedy: what would allow it, a clause of its own.
    """
    try:
        yield
    except OSError as failure:
        why = f"{failure.strerror or failure}{f' ({failure.filename})' if failure.filename else ''}"
        raise SandboxError(f"cannot {what}: {why}{f'; {remedy}' if remedy else ''}") from failure
