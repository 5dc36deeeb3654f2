"""Soft reserved memory and the devices that are cut from it: what the recordings leave unsaid."""

import errno
import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from poke import DEBUG, Hands

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs.open_file import open_node
from nvdimmfs.units import MIB

#: A range of 1 GiB at 5 GiB.
MEMMAP = "1G%5G-1+0xefffffff"
START, SIZE = 5 << 30, 1 << 30
HMEM = "devices/platform/hmem.0"
REGION = f"{HMEM}/dax_region"
DEVICE_DAX = "bus/dax/drivers/device_dax"

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "delete", "size", "size", "size", "bind"]), st.integers(0, 3), st.integers(0, 12)
    ),
    max_size=25,
)


@pytest.fixture
def hands():
    return Hands.on(MEMMAP, ram=6 << 30)


def devices(hands):
    """Start and end of each range of each device."""
    found = {}
    for name in hands.sysfs.names(HMEM):
        if name.startswith("dax") and name != "dax_region":
            mappings = [
                each for each in hands.sysfs.names(f"{HMEM}/{name}") if each.startswith("mapping") and each != "mapping"
            ]
            paths = [f"{HMEM}/{name}/{each}" for each in mappings]
            found[name] = [
                (int(hands.read(f"{path}/start"), 16), int(hands.read(f"{path}/end"), 16) + 1) for path in paths
            ]
    return found


@given(STEPS)
def test_no_byte_has_two_owners_and_all_are_accounted_for(steps):
    hands = Hands.on(MEMMAP, ram=6 << 30)
    hands.write(f"{DEVICE_DAX}/unbind", "dax0.0")
    hands.write(f"{HMEM}/dax0.0/size", "0")
    for what, number, amount in steps:
        name = f"dax0.{number}"
        match what:
            case "create":
                refused = hands.refused(f"{REGION}/create", "1")
                assert refused in (0, errno.ENOSPC)
            case "delete":
                assert hands.refused(f"{REGION}/delete", name) in (0, errno.EBUSY, errno.ENXIO)
            case "size" if name in devices(hands):
                refused = hands.refused(f"{HMEM}/{name}/size", str(amount * 128 * MIB))
                assert refused in (0, errno.EBUSY, errno.ENOSPC)
                assert refused or int(hands.read(f"{HMEM}/{name}/size")) == amount * 128 * MIB
            case "bind" if name in devices(hands):
                verb = "unbind" if "driver" in hands.sysfs.names(f"{HMEM}/{name}") else "bind"
                assert hands.refused(f"{DEVICE_DAX}/{verb}", name) in (0, errno.ENXIO)
        found = devices(hands)
        ranges = sorted(each for ranges in found.values() for each in ranges)
        assert all(START <= low < high <= START + SIZE for low, high in ranges)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
        taken = sum(high - low for low, high in ranges)
        assert int(hands.read(f"{REGION}/available_size")) == SIZE - taken
        sizes = {name: int(hands.read(f"{HMEM}/{name}/size")) for name in found}
        assert sizes == {name: sum(high - low for low, high in ranges) for name, ranges in found.items()}
    hands.write("bus/platform/drivers/hmem/unbind", "hmem.0")
    assert "dax" not in hands.machine.memory.iomem_text()
    assert not hands.memory.pagemaps


def test_the_bytes_of_a_device_follow_its_ranges(hands):
    hands.write(f"{DEVICE_DAX}/unbind", "dax0.0")
    hands.write(f"{HMEM}/dax0.0/size", str(256 * MIB))
    hands.write(f"{REGION}/create", "1")
    hands.write(f"{HMEM}/dax0.1/size", str(256 * MIB))
    hands.write(f"{HMEM}/dax0.0/size", str(512 * MIB))
    hands.write(f"{DEVICE_DAX}/bind", "dax0.0")
    hands.write(f"{DEVICE_DAX}/bind", "dax0.1")
    first, second = (hands.machine.system.dev.find(name).data for name in ("dax0.0", "dax0.1"))
    first.write(256 * MIB - 3, b"abcdef")
    second.write(0, b"xyz")
    assert first.read(256 * MIB - 4, 8) == b"\0abcdef\0"
    assert second.read(256 * MIB - 4, 4) == bytes(4)
    assert second.read(0, 4) == b"xyz\0"
    hands.write(f"{DEVICE_DAX}/unbind", "dax0.0")
    with pytest.raises(KernelError) as refused:
        open_node(hands.machine.system.dev.find("dax0.0"), os.O_RDONLY)
    assert refused.value.errno == errno.ENXIO


def test_a_range_that_is_not_aligned_makes_no_region():
    hands = Hands.on("1023M%5G-1+0xefffffff", ram=6 << 30)
    assert hands.sysfs.names("bus/dax/devices") == []
    assert hands.refused("bus/platform/drivers/hmem/bind", "hmem.0") == errno.ENOMEM


def test_ids_are_those_of_memory_regions():
    hands = Hands.on(f"{MEMMAP},512M!7G", ram=8 << 30)
    assert hands.names("region") == ["region1"]
    assert hands.sysfs.names("bus/dax/devices") == ["dax0.0"]


def test_bound_devices_go_with_their_module(hands):
    hands.write(f"{DEBUG}/modules", "unload dax_hmem\n")
    assert hands.sysfs.names("bus/dax/devices") == []
    assert not hands.memory.pagemaps


@pytest.mark.parametrize("kernel", ["4.3", "4.5"])
def test_older_kernels_announce_nothing(kernel):
    assert "hmem.0" not in Hands.on(MEMMAP, ram=6 << 30, kernel=kernel).sysfs.names("bus/platform/devices")
