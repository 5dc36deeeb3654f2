"""Starting a daemon: how its failure reaches the command that started it."""

import subprocess
import sys

import pytest

SCRIPT = """
from nvdimmfs.cli.daemon import Daemon
from nvdimmfs.cli.errors import CommandError

def prepare():
    raise {error}

try:
    with Daemon(prepare, lambda request, ready: None, stderr=None, keep=()) as daemon:
        daemon.serve("anything")
except CommandError as failure:
    print(failure)
"""


@pytest.mark.parametrize(
    ("error", "traceback"),
    [("MemoryError()", False), ("OSError(24, 'Too many open files')", False), ("ZeroDivisionError('a bug')", True)],
)
def test_a_limit_of_the_host_is_one_line_and_a_bug_has_a_traceback(error, traceback):
    program = [sys.executable, "-c", SCRIPT.format(error=error)]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 1
    assert ("Traceback" in done.stderr) is traceback
