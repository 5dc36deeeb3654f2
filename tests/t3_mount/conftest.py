"""Fixtures of the tests of real mounts."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator

import mounting
import pytest
import stuck_memory
from sandboxes import has, processes_with


@pytest.fixture
def tag() -> Iterator[str]:
    """An environment variable for the processes that a test starts; none of them may be left at the end."""
    word = f"NVDIMMFS_TEST={uuid.uuid4()}"
    yield word
    left = processes_with(word)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left


@pytest.fixture(scope="session")
def strangers(fuse: None) -> None:
    """Skip where no process can become another user whose memory never comes."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if reason := stuck_memory.why_not():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def sleepless() -> tuple[str, ...]:
    """The prefix of a command that never sleeps (`tests/support/no_sleep.c`); empty where there is no compiler."""
    if not has("cc"):
        return ()
    library = mounting.BYTECODE.parent / "no_sleep.so"  # where ordinary users can read it
    library.parent.mkdir(exist_ok=True)
    own = library.with_name(f"{library.name}-{os.getpid()}")
    source = mounting.ROOT / "tests" / "support" / "no_sleep.c"
    done = mounting.command("cc", "-shared", "-fPIC", "-o", own, source)
    assert done.returncode == 0, done.stderr
    own.replace(library)  # in one step: another worker may use it
    return ("env", f"LD_PRELOAD={library}")
