"""Buffers of the test platform, and what drivers reserve in them."""

import pytest

from nvdimmfs.errors import KernelError
from nvdimmfs.mm.buffers import Buffer
from nvdimmfs.units import GIB, MIB

START, SIZE = 4 * GIB, 32 * MIB


@pytest.fixture
def buffer():
    return Buffer(START, SIZE)


def test_a_part_is_reserved_once(buffer):
    buffer.request_region(START, SIZE, "namespace0.0")
    with pytest.raises(KernelError) as refusal:
        buffer.request_region(START, 2 * MIB, "dax0.0")
    assert refusal.value.code == "EBUSY"
    buffer.release_region(START, SIZE)
    buffer.request_region(START, 2 * MIB, "dax0.0")


def test_only_the_beginning_of_a_part_counts(buffer):
    buffer.request_region(START, SIZE, "namespace0.0")
    buffer.request_region(START + 2 * MIB, SIZE - 2 * MIB, "dax0.0")


def test_a_part_ends_within_the_buffer(buffer):
    buffer.check_region(START + 2 * MIB, SIZE - 2 * MIB, "dax0.0")
    with pytest.raises(KernelError):
        buffer.check_region(START + 2 * MIB, SIZE, "dax0.0")


def test_a_check_reserves_nothing(buffer):
    buffer.check_region(START, SIZE, "namespace0.0")
    buffer.check_region(START, SIZE, "namespace0.0")
