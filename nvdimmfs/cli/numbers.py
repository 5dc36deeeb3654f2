"""Numbers as the values of options."""

from __future__ import annotations

import argparse
import math


def seconds(text: str, most: float = math.inf) -> float:
    """A number from 0 to `most`, which is finite.  ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (0 <= number <= most and math.isfinite(number)):
        limit = f" from 0 to {most}" if math.isfinite(most) else ""
        raise argparse.ArgumentTypeError(f"{text}: must be a number of seconds{limit}")
    return number


def count(text: str) -> int:
    """A whole number from 1.  ArgumentTypeError."""
    return _whole_number(text, 1)


def count_or_none(text: str) -> int:
    """A whole number from 0.  ArgumentTypeError."""
    return _whole_number(text, 0)


def _whole_number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from {least}")
    return number
