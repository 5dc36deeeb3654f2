"""Threads that cannot be started: which limit was in the way."""

import subprocess
import sys
import textwrap

import pytest

#: Limits the address space to what is mapped and a little, as `ulimit -v` does, or leaves it as it is.
PROGRAM = """
    import resource, sys, threading
    from pathlib import Path
    from nvdimmfs.host import why_no_thread
    from nvdimmfs.sandbox.call_threads import start_thread

    if sys.argv[1] == "limited":
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + (1 << 20),) * 2)
        try:
            start_thread(lambda: None, "one too many")
        except OSError as failure:
            print(failure.strerror)
    else:
        print(why_no_thread().strerror)
"""


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("limited", "Cannot allocate memory"), ("unlimited", "Resource temporarily unavailable")],
)
def test_a_thread_that_cannot_be_started_names_the_limit(limit, reason):
    argv = [sys.executable, "-c", textwrap.dedent(PROGRAM), limit]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{reason}\n", "")
