"""`nvdimmfs run` under limits that let one step after the other fail: one line, and nothing is left."""

import re
import signal
import sys

import mounting
import pytest
import sandboxes
from sandboxes import tagged, wait_for_end_of

pytestmark = pytest.mark.usefixtures("sandbox")

#: One line, which is neither a traceback nor what an unexpected exception is reported as.
LINE = re.compile(r"nvdimmfs: (?!a bug)[^\n]+\n")


def limited(*limits: str, tag: str, prefix: tuple[str, ...] = ()) -> str:
    """What `nvdimmfs run` prints to stderr; it must fail."""
    argv = (*prefix, "prlimit", *limits, *mounting.MACHINE, "run", "--", "true")
    done = mounting.command(*argv, env=tagged(tag))
    wait_for_end_of(tag)
    assert done.returncode not in (0, -signal.SIGSEGV)
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("number", range(5, 16))
def test_open_files(number, tag):
    stderr = limited(f"--nofile={number}", tag=tag)
    assert LINE.fullmatch(stderr), stderr
    assert "Too many open files" in stderr
    assert "ulimit -n" in stderr or "failed to open /dev/fuse" in stderr  # libfuse's own words


@pytest.mark.parametrize("number", range(1, 4))
def test_processes(number, tag):
    """Another test's processes may belong to the same user, so that an earlier step fails."""
    reason = sandboxes.why_no_ordinary_user()
    if reason:
        pytest.skip(reason)
    stderr = limited(f"--nproc={number}", tag=tag, prefix=sandboxes.as_ordinary_user())
    assert LINE.fullmatch(stderr), stderr
    assert "ulimit -u" in stderr


@pytest.mark.parametrize("mebibytes", [30, 40, 50])
def test_memory(mebibytes, tag):
    """Python itself ends in other ways where it has less."""
    done = mounting.command(
        "prlimit", f"--as={mebibytes << 20}", *mounting.MACHINE, "run", "--", "true", env=tagged(tag)
    )
    wait_for_end_of(tag)
    assert done.returncode == 0 or LINE.fullmatch(done.stderr), done.stderr


def test_size_of_files(tag):
    stderr = limited("--fsize=0", tag=tag)
    assert stderr == "nvdimmfs: cannot set up /lib/modules: File too large\n"


def test_an_interrupt_at_the_start_prints_no_traceback(tag):
    program = "import os, signal\nfrom nvdimmfs.cli import main, run\n"
    program += "run._supervise = lambda *_: os.kill(os.getpid(), signal.SIGINT)\nmain.main(['run', 'true'])"
    done = mounting.command(sys.executable, "-c", program, env=tagged(tag))
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
