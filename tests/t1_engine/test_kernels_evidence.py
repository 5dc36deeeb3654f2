"""The recordings that docs/reference/kernels.md names show the differences beside which they stand."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_evidence_is_current():
    command = [sys.executable, ROOT / "scripts" / "kernels-evidence", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
