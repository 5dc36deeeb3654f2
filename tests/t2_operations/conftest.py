"""Fixtures of the tests of FUSE requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from asking import Asker


@pytest.fixture
def ask() -> Iterator[Asker]:
    """Sends requests to the toy tree; a request that hits a bug fails the test."""
    asker = Asker()
    yield asker
    assert asker.operations.bugs == []
