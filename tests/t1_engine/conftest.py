"""What the tests of the engine share."""

from __future__ import annotations

import pytest
from older import Host


@pytest.fixture
def boot():
    """Boots machines with any kernel: `boot(kernel, memmap, media)`; they are shut down in the end."""
    running = []

    def boot(kernel, memmap="512M!4G", media=None):
        host = Host(kernel, memmap, media)
        running.append(host)
        return host

    yield boot
    for host in running:
        host.close()
