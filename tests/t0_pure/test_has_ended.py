"""Waiting for the end of a process."""

import fcntl
import os
import resource
import signal
import subprocess

import pytest

from nvdimmfs.sandbox import libc

#: select(2) takes none from 1024 on; a supervisor has one for each disk.
LARGE_DESCRIPTOR = 1500


def test_a_process_is_waited_for_however_large_its_descriptor_is():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard <= LARGE_DESCRIPTOR:
        pytest.skip(f"this process may have only {hard} files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with subprocess.Popen(["sleep", "1000"]) as process:
        small = os.pidfd_open(process.pid)
        large = fcntl.fcntl(small, fcntl.F_DUPFD_CLOEXEC, LARGE_DESCRIPTOR)
        try:
            assert not libc.has_ended(large)
            process.send_signal(signal.SIGKILL)
            assert libc.has_ended(large, 60)
        finally:
            process.kill()
            os.close(large)
            os.close(small)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
