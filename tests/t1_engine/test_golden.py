"""The dumps beside the machine files are what the machines show."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_dumps_of_the_machines_are_current():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "golden", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
