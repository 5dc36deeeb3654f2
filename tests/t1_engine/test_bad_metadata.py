"""Bad blocks under a BTT or a memmap that no recording covers; the others are in recordings/ioctl."""

import errno

import pytest
from poke import Hands

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.btt import BTT_1_1, arena_layout
from nvdimmfs.units import MIB

ND = "bus/nd/devices"
UUID = "00001111-1111-2222-3333-000000000001"
SECTOR = 512
CLEARING = '"ars_cap", "ars_start", "ars_status", "clear_error"'


def boot(text):
    return Hands.described(text)


def one_namespace(sector, commands):
    """A region that one namespace fills, bad from `sector` on; the namespace is let go."""
    hands = boot(f"""
        [[bus]]
        commands = [{commands}]
        [[bus.dimm]]
        size = "64M"
        [[bus.range]]
        start = "8G"
        dimms = ["0x1"]
        badblocks = [{{ sector = {sector}, count = 2 }}]
    """)
    hands.unbind("namespace0.0")
    return hands


def two_namespaces(sector):
    """A region of two namespaces of 64 MiB, bad from `sector` on; the second one is let go."""
    hands = boot(f"""
        [[bus]]
        commands = [{CLEARING}]
        [[bus.dimm]]
        size = "256M"
        label = {{ initialised = "1.2" }}
        [[bus.range]]
        start = "8G"
        dimms = ["0x1"]
        badblocks = [{{ sector = {sector}, count = 2 }}]
        [[bus.range.namespace]]
        uuid = "11111111-2222-4333-8444-555555555555"
        size = "64M"
        [[bus.range.namespace]]
        uuid = "21111111-2222-4333-8444-555555555555"
        size = "64M"
    """)
    hands.unbind("namespace0.1")
    return hands


def claim(hands, device, namespace, **settings):
    for name, value in {"namespace": namespace, "uuid": UUID, **settings}.items():
        hands.write(f"{ND}/{device}/{name}", value)


def bind_errno(hands, device):
    return hands.refused("bus/nd/drivers/nd_pmem/bind", device)


def io_errno(call, *arguments):
    with pytest.raises(KernelError) as refusal:
        call(*arguments)
    return refusal.value.errno


def test_a_bind_gives_up_on_errors_in_the_memmap_that_stay():
    hands = one_namespace(24, commands="")
    claim(hands, "pfn0.0", "namespace0.0", mode="pmem")
    assert bind_errno(hands, "pfn0.0") == errno.EIO
    assert hands.read(f"{ND}/region0/badblocks") == "24 2\n"


def test_a_second_namespaces_memmap_is_looked_for_in_the_first_one():
    hands = two_namespaces(24)
    claim(hands, "pfn0.0", "namespace0.1", mode="pmem")
    assert bind_errno(hands, "pfn0.0") == errno.EFAULT


def test_errors_in_a_second_namespaces_memmap_are_not_found():
    start = 64 * MIB // SECTOR
    hands = two_namespaces(start + 24)
    claim(hands, "pfn0.0", "namespace0.1", mode="pmem")
    assert bind_errno(hands, "pfn0.0") == 0
    assert hands.read(f"{ND}/region0/badblocks") == f"{start + 24} 2\n"


def test_a_new_btt_does_not_notice_that_its_map_stays_bad():
    layout = arena_layout(64 * MIB - BTT_1_1.initial_offset, SECTOR)
    hands = one_namespace((BTT_1_1.initial_offset + layout.mapoff) // SECTOR, commands="")
    claim(hands, "btt0.0", "namespace0.0", sector_size=str(SECTOR))
    assert bind_errno(hands, "btt0.0") == 0
    assert io_errno(hands.sysfs.pread, "pmem0s", 0, SECTOR) == errno.EIO
    assert hands.sysfs.pread("pmem0s", 256 * SECTOR, SECTOR) == bytes(SECTOR)


def test_an_info_block_that_cannot_be_read_is_none():
    hands = one_namespace(8, commands=CLEARING)
    assert bind_errno(hands, "namespace0.0") == 0
    hands.unbind("namespace0.0")
    claim(hands, "pfn0.0", "namespace0.0", mode="ram")
    assert bind_errno(hands, "pfn0.0") == errno.ENXIO
