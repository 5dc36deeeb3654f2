"""The Python that has what nvdimmfs needs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = next(iter(ROOT.glob(".venv/bin/python")), Path(sys.executable))


def use_own_python() -> None:
    """Go on in the environment that has what nvdimmfs needs."""
    if Path(sys.executable).resolve() != PYTHON.resolve() or sys.prefix != str(PYTHON.parent.parent):
        os.execv(PYTHON, [PYTHON, *sys.argv])
