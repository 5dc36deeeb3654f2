"""Numbers of bytes, as the command line takes and prints them."""

from __future__ import annotations

from nvdimmfs.cli.errors import MISUSED, CommandError

#: Units by what they count, the largest first.
_UNITS = tuple((1 << 10 * power, f"{letter}iB") for power, letter in reversed(list(enumerate("KMGTPE", 1))))

#: Digits that can be taken in at a glance.
_GLANCE = 4


def parse_size(text: str, option: str) -> int:
    """A number of bytes, as the kernel's command line has them.  CommandError for anything else, and for nothing."""
    from nvdimmfs.mm.e820 import scan_size

    size, rest = scan_size(text)
    if rest or not size:
        raise CommandError(f"{option} {text}: not a size such as 4G", MISUSED)
    return size


def exact_size(size: int) -> str:
    """Every byte of it, in the largest unit that it is a multiple of: `2040 KiB`."""
    for unit, name in _UNITS:
        if size and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def rough_size(size: int) -> str:
    """Three figures and a unit, for people: `5.91 TiB`."""
    for unit, name in _UNITS:
        if size >= unit or size * 1024 >= unit * 1023.5:  # which would be rounded to 1024 of the next smaller unit
            value = size / unit
            digits = 0 if value >= 100 or size % unit == 0 else 1 if value >= 10 else 2
            return f"{value:.{digits}f} {name}"
    return f"{size} B"


def short_size(size: int) -> str:
    """The exact size, as long as its number can be taken in at a glance; else a rough one that says so."""
    exact = exact_size(size)
    return exact if len(exact.partition(" ")[0]) <= _GLANCE else f"about {rough_size(size)}"
