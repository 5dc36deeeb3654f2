"""What the manual of a command consists of."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A term and what it means: an exit status, a file."""

    term: str
    text: str


class Example(NamedTuple):
    """A command line as a user types it, and what it does."""

    command: str
    purpose: str


class Manual(NamedTuple):
    """The manual of a command.

    Attributes:
        details: what continues the description, in indented paragraphs.
        exit_statuses: the exit statuses that differ from `COMMON_STATUSES`, or mean more.
        examples: command lines that work as they stand.
        files: files that the command reads or makes.
        see_also: man pages, each with its section, as in `ndctl(1)`.
    """

    details: str = ""
    exit_statuses: tuple[Entry, ...] = ()
    examples: tuple[Example, ...] = ()
    files: tuple[Entry, ...] = ()
    see_also: tuple[str, ...] = ()


#: The exit statuses of every command that does not list its own.
COMMON_STATUSES = (
    Entry("0", "The command succeeded."),
    Entry("1", "The command failed; one line on stderr gives the reason."),
    Entry("2", "An argument is wrong; stderr gives the reason."),
)
