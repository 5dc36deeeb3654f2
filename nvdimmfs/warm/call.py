"""How a forked process reports to the one that had it forked: to a template's parent, or to `nvdimmfs mount`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

RequestT = TypeVar("RequestT")

#: Serves a request, calls its second argument once it is ready, and returns a number, or None, at the end.
Work: TypeAlias = Callable[[RequestT, Callable[[], None]], int | None]

#: First byte of a forked process's report: it is ready; it failed, and the reason follows.
READY = b"+"
FAILURE = b"-"


class CallError(Exception):
    """The function that a forked process called failed; the message is one line."""
