"""Sizes in bytes, as the command line accepts and prints them."""

from __future__ import annotations

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.units import SIZE_UNITS, exact_size

#: The most digits that a reader grasps at a glance.
_GLANCE = 4


def parse_size(text: str, option: str) -> int:
    """Parse a size in the form of the kernel's command line.  CommandError for any other text, and for 0."""
    from nvdimmfs.mm.e820 import scan_size

    size, rest = scan_size(text)
    if rest or not size:
        raise CommandError(f"{option} {text}: must be a size greater than 0, such as 4G", MISUSED)
    return size


def rough_size(size: int) -> str:
    """The size rounded to three digits, for people: `5.91 TiB`."""
    for unit, name in SIZE_UNITS:
        if size >= unit or size * 1024 >= unit * 1023.5:  # which would be rounded to 1024 of the next smaller unit
            value = size / unit
            digits = 0 if value >= 100 or size % unit == 0 else 1 if value >= 10 else 2
            return f"{value:.{digits}f} {name}"
    return f"{size} B"


def short_size(size: int) -> str:
    """The exact size if its number is short enough to grasp at a glance, otherwise `about` and the rounded size."""
    exact = exact_size(size)
    return exact if len(exact.partition(" ")[0]) <= _GLANCE else f"about {rough_size(size)}"
