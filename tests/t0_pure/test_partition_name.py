"""The names of partitions, and the disks that they are on."""

import pytest

from nvdimmfs.formats.partition_name import disk_of_partition, partition_name


@pytest.mark.parametrize(
    ("disk", "name"),
    [("pmem0", "pmem0p1"), ("pmem12.3", "pmem12.3p1"), ("pmem0s", "pmem0s1"), ("pmem12.3s", "pmem12.3s1")],
)
def test_a_partition_is_named_after_its_disk(disk, name):
    assert partition_name(disk, 1) == name
    assert disk_of_partition(name) == disk


@pytest.mark.parametrize("name", ["", "pmem0", "pmem0.1", "pmem0s", "pmem0.1s", "pmem1", "dax0.0", "nmem0", "loop0p1"])
def test_what_is_no_partition_is_on_no_disk(name):
    assert disk_of_partition(name) == ""
