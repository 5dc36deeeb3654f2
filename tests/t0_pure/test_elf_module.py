"""Kernel modules as files: what their makers wrote is found again, and anything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.formats.elf_module import ModuleInfo, elf_module, module_name

IMAGE = elf_module(ModuleInfo("nd_pmem", imports=(("libnvdimm", "nd_region_dev"),)), "6.1.0 SMP", ("a_symbol",))


def test_the_name_is_found():
    assert module_name(IMAGE) == "nd_pmem"


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_refused(data):
    for image in (data, IMAGE[:16] + data, IMAGE[:-100] + data):
        with pytest.raises(ValueError):  # noqa: PT011  # with any message
            module_name(image)


@given(st.integers(0, len(IMAGE) - 1))
def test_a_part_of_a_module_is_none(length):
    with pytest.raises(ValueError):  # noqa: PT011  # with any message
        module_name(IMAGE[:length])


@given(st.integers(0, len(IMAGE) - 1), st.binary(min_size=1, max_size=8))
def test_a_damaged_module_has_a_name_or_none(offset, data):
    try:
        name = module_name(IMAGE[:offset] + data + IMAGE[offset + len(data) :])
    except ValueError:
        return
    assert isinstance(name, str)
