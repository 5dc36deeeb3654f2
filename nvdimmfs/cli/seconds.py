"""Seconds as the values of options."""

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
