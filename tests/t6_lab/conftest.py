"""Fixtures of the lab."""

import pytest

from nvdimmfs.lab import tools
from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.kernels import DEFAULT_KERNEL, find_kernel


@pytest.fixture(scope="session", autouse=True)
def lab():
    """Skip where there can be no guest."""
    missing = tools.missing_packages()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    try:
        find_kernel(DEFAULT_KERNEL)
    except LabError as reason:
        pytest.skip(str(reason))
