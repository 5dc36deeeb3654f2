"""What the tests of real mounts share."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator

import pytest
from sandboxes import processes_with


@pytest.fixture
def tag() -> Iterator[str]:
    """A word in the environment of everything that a test starts; none of it may be left in the end."""
    word = f"NVDIMMFS_TEST={uuid.uuid4()}"
    yield word
    left = processes_with(word)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left
