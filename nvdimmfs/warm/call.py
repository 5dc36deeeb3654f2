"""How a forked process reports to the one that had it forked: to a template's parent, or to `nvdimmfs mount`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from attrs import frozen

RequestT = TypeVar("RequestT")

#: Serves a request, calls its second argument once it is ready, and returns a number, or None, at the end.
Work: TypeAlias = Callable[[RequestT, Callable[[], None]], int | None]

#: First byte of a forked process's report: it is ready; it failed, and the reason follows.
READY = b"+"
FAILURE = b"-"


@frozen
class Spare:
    """A process that a template forks before it is needed, for the next call of a kind.

    Attributes:
        prepare: called in it, in advance.
        at_once: whether to fork one before there was a call of that kind.
        learn: called in the template, between calls, with the subject of each call of that kind that has one: what it
            makes, the processes that are forked from then on have.
    """

    prepare: Callable[[], None]
    at_once: bool = False
    learn: Callable[[Any], None] | None = None


#: The spare process of each kind of calls, by the name of the kind.
Spares: TypeAlias = Mapping[str, Spare]


class CallError(Exception):
    """The function that a forked process called failed; the message is one line."""
