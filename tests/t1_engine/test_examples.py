"""The folders of examples/ run as they stand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import mounting
import pytest
from watchdog import WATCHDOG

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

#: How each folder is run, as the docstrings of its files say.
PROGRAMS = {
    "unittest": ("-m", "unittest"),
    "hypothesis": ("-m", "pytest", "-q", "-p", "no:cacheprovider"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_runs_as_it_stands(name, tmp_path):
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    done = subprocess.run(
        [sys.executable, *PROGRAMS[name]],
        cwd=folder,
        env=mounting.environment(),
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_names_its_command(name):
    (file,) = (EXAMPLES / name).glob("*.py")
    assert f"python3 {' '.join(PROGRAMS[name][:2])}" in file.read_text()
