"""Importing this first lets a program that is run alone import the package and the helpers of the tests."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]

sys.path[:0] = [str(TESTS.parent), *(str(TESTS / name) for name in ("torture", "support", "stories", "guest"))]
