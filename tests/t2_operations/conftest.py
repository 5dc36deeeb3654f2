"""What the tests of FUSE requests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from asking import Asker


@pytest.fixture
def ask() -> Iterator[Asker]:
    """Asks requests of the toy tree; none may run into a bug."""
    asker = Asker()
    yield asker
    assert asker.operations.bugs == []
