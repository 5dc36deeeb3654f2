"""The RFC, 4.3 and 4.5, one story each: what they refuse, and what they leave on the media."""

from __future__ import annotations

import uuid

import pytest
from older import BUS, OTHER, OWN, PARENT, refusal_of
from rules import parse_rule

from nvdimmfs.formats.pfn import PfnMode
from nvdimmfs.units import KIB, MIB

# The RFC


def test_the_rfc_binds_mode_pmem_and_leaves_nothing_on_the_media(boot):
    host = boot("rfc")
    pfn = host.prepare("pmem")
    host.bind("pfn0.0")
    assert host.read(f"{pfn}/mode") == "pmem"
    assert host.disks() == {"pmem0m"}
    assert host.read(f"{BUS}/region0/namespace0.0/block/pmem0m/size") == str((512 - 10) * MIB // 512)
    assert host.media.read(4096, 4096) == bytes(4096)
    host.rebind_region()
    assert host.read(f"{BUS}/region0/namespace0.0/holder") == ""


def test_the_rfc_never_binds_mode_ram_for_its_own_check_fails(boot):
    host = boot("rfc")
    host.prepare("ram")
    assert host.reason("pfn0.0") == ("ENODEV", "EINVAL")


@pytest.mark.parametrize("memmap", ["64M!16G", "512M!16448M"])
@pytest.mark.parametrize(("kernel", "mode"), [("rfc", "pmem"), ("4.3", "ram")])
def test_before_4_5_it_takes_128_mib_at_a_multiple_of_128_mib(boot, kernel, mode, memmap):
    host = boot(kernel, memmap)
    host.prepare(mode)
    assert host.reason("pfn0.0") == ("ENODEV", "ENODEV")
    later = boot("4.5", memmap)
    later.prepare("ram")
    later.bind("pfn0.0")


def test_the_rfc_reports_any_failure_to_register_as_enomem(boot):
    host = boot("rfc")
    host.prepare("pmem")
    host.machine.faults.declare(parse_rule("register * errno=EEXIST times=1"))
    assert host.reason("pfn0.0") == ("ENODEV", "ENOMEM")
    host.bind("pfn0.0")


def test_the_rfc_does_not_map_raw_namespaces(boot):
    host = boot("rfc")
    assert host.disks() == {"pmem0"}
    assert not host.machine.memory.pagemaps


def test_the_rfc_makes_a_device_for_a_block_but_not_its_mode(boot):
    host = boot("rfc", "512M!4G")
    host.unbind("namespace0.0")
    host.put_block(mode=PfnMode.PMEM, dataoff=128 * MIB)
    host.write("bus/nd/drivers_probe", "namespace0.0")
    assert host.read(f"{BUS}/region0/namespace0.0/holder") == "pfn0.1"
    assert host.read(f"{BUS}/region0/pfn0.1/mode") == "none"
    assert host.reason("pfn0.1") == ("ENODEV", "ENXIO")


# 4.3


def test_4_3_refuses_mode_pmem_with_enotty_and_keeps_the_mode(boot):
    host = boot("4.3")
    pfn = host.prepare("ram")
    assert refusal_of(host.write, f"{pfn}/mode", "pmem\n") == "ENOTTY"
    assert refusal_of(host.write, f"{pfn}/mode", "\n") == "ENOTTY"  # any single byte means pmem
    assert host.read(f"{pfn}/mode") == "ram"


def test_4_3_maps_in_ram_8_kib_behind_the_start(boot):
    host = boot("4.3")
    host.prepare("ram")
    host.bind("pfn0.0")
    block = host.block
    assert (block.version_minor, block.dataoff, block.mode) == (0, 8 * KIB, PfnMode.RAM)
    assert host.read(f"{BUS}/region0/pfn0.0/block/pmem0m/size") == str((512 * MIB - 8 * KIB) // 512)


def test_4_3_writes_a_block_of_zeros_but_for_what_it_knows(boot):
    host = boot("4.3")
    host.prepare("ram")
    host.bind("pfn0.0")
    raw = host.media.read(4096, 4096)
    assert raw[32:48] == bytes(16)  # parent_uuid
    assert raw[76:4088] == bytes(4012)


def test_4_3_looks_at_no_parent(boot):
    host = boot("4.3")
    host.put_block(parent_uuid=PARENT, dataoff=8 * KIB)
    host.prepare("ram")
    host.bind("pfn0.0")
    assert host.block.parent_uuid == PARENT


def test_4_3_never_replaces_the_pfn_seed_and_the_btt_seed_always(boot):
    host = boot("4.3")
    host.prepare("ram")
    host.bind("pfn0.0")
    assert host.read(f"{BUS}/region0/pfn_seed") == "pfn0.0"
    host.unbind("pfn0.0")
    host.write(f"{BUS}/region0/pfn0.0/namespace", "\n")
    assert host.has(f"{BUS}/region0/pfn0.0"), "a seed is reset, not removed"
    host.write(f"{BUS}/region0/btt0.0/sector_size", "4096")
    host.write(f"{BUS}/region0/btt0.0/uuid", OTHER)
    host.write(f"{BUS}/region0/btt0.0/namespace", "namespace0.0")
    host.bind("btt0.0")
    assert host.read(f"{BUS}/region0/btt_seed") == "btt0.1"


def test_4_3_does_not_recognise_a_block_in_mode_pmem_and_writes_over_it(boot, tmp_path):
    newer = boot("6.1", media=tmp_path)
    newer.prepare("pmem")
    newer.bind("pfn0.0")
    newer.close()
    older = boot("4.3", media=tmp_path)
    assert older.disks() == {"pmem0m"}, "a raw disk"
    older.prepare("ram")
    older.bind("pfn0.0")
    assert (older.block.mode, older.block.version_minor) == (PfnMode.RAM, 0)


def test_4_3_writes_over_a_block_with_another_uuid(boot):
    host = boot("4.3")
    host.put_block(uuid=uuid.UUID(OTHER), dataoff=8 * KIB)
    host.prepare("ram")
    host.bind("pfn0.0")
    assert str(host.block.uuid) == OWN


def test_4_3_finds_its_own_block_again(boot):
    host = boot("4.3")
    host.prepare("ram")
    host.bind("pfn0.0")
    host.rebind_region()
    assert host.read(f"{BUS}/region0/namespace0.0/holder") == "pfn0.0"
    assert host.read(f"{BUS}/region0/pfn0.0/mode") == "ram"
    assert host.disks() == {"pmem0m"}


def test_4_3_keeps_a_misaligned_namespace_from_its_own_block(boot):
    host = boot("4.3", "512M!4160M")
    host.put_block(dataoff=8 * KIB)
    host.prepare("ram")
    assert host.reason("pfn0.0") == ("ENODEV", "EBUSY")


# 4.5


def test_4_5_prints_align_in_hexadecimal(boot):
    host = boot("4.5")
    assert host.read(f"{BUS}/region0/pfn0.0/align") == "200000"
    host.write(f"{BUS}/region0/pfn0.0/align", "1073741824")
    assert host.read(f"{BUS}/region0/pfn0.0/align") == "40000000"


def test_4_5_takes_any_power_of_two_up_to_a_gibibyte(boot):
    align = f"{BUS}/region0/pfn0.0/align"
    host = boot("4.5")
    host.write(align, "8192")
    assert host.read(align) == "2000"
    for refused in ("0", "2048", "12288", "2147483648", "2M"):
        assert refusal_of(host.write, align, refused) == "EINVAL"
    assert refusal_of(boot("6.1").write, align, "8192") == "EINVAL"


def test_4_5_looks_at_the_alignment_before_it_looks_at_the_driver(boot):
    older, newer = boot("4.5"), boot("6.1")
    for host in (older, newer):
        host.prepare("ram")
        host.bind("pfn0.0")
    align = f"{BUS}/region0/pfn0.0/align"
    assert (refusal_of(older.write, align, "3"), refusal_of(newer.write, align, "3")) == ("EINVAL", "EBUSY")
    assert refusal_of(older.write, align, "4096") == "EBUSY"


@pytest.mark.parametrize(("mode", "dataoff"), [("ram", 2 * MIB), ("pmem", 10 * MIB)])
def test_4_5_aligns_the_offset_and_writes_minor_0(boot, mode, dataoff):
    host = boot("4.5")
    host.prepare(mode)
    host.bind("pfn0.0")
    block = host.block
    assert (block.version_minor, block.dataoff, block.align, block.page_size) == (0, dataoff, 0, 0)
    assert block.npfns == (512 * MIB - dataoff) // 4096
    assert host.read(f"{BUS}/region0/pfn_seed") == "pfn0.1"


def test_4_5_keeps_to_a_block_with_another_uuid(boot):
    host = boot("4.5")
    host.put_block(uuid=uuid.UUID(OTHER))
    host.prepare("ram")
    assert host.reason("pfn0.0") == ("ENODEV", "EINVAL")
    assert str(host.block.uuid) == OTHER


def test_4_5_writes_over_a_block_with_another_parent(boot):
    host = boot("4.5")
    host.put_block(parent_uuid=PARENT)
    host.prepare("ram")
    host.bind("pfn0.0")
    assert host.block.parent_uuid == uuid.UUID(int=0)


def test_4_5_refuses_its_own_block_when_the_offset_is_no_power_of_two(boot):
    host = boot("4.5")
    pfn = host.prepare("pmem")
    host.bind("pfn0.0")
    host.unbind("pfn0.0")
    assert host.reason("pfn0.0") == ("ENODEV", "ENXIO")
    assert host.read(f"{pfn}/align") == "800000", "the largest power of two in 10 MiB"


def test_4_5_takes_mode_and_align_from_a_good_block(boot):
    host = boot("4.5", "128M!4G")
    host.put_block(mode=PfnMode.PMEM, dataoff=4 * MIB)
    pfn = host.prepare("ram")
    host.bind("pfn0.0")
    assert (host.read(f"{pfn}/mode"), host.read(f"{pfn}/align")) == ("pmem", "400000")


def test_4_5_has_no_room_in_its_memmap_for_a_part_of_a_section(boot):
    host = boot("4.5", "600M!16G")  # no RAM shares its last section
    host.prepare("pmem")
    assert host.reason("pfn0.0") == ("ENODEV", "ENOMEM")
    assert not host.machine.memory.pagemaps


@pytest.mark.parametrize("memmap", ["64M!4G", "512M!4160M"])
def test_4_5_maps_nothing_that_shares_a_section_with_ram(boot, memmap):
    host = boot("4.5", memmap)
    assert host.disks() == set()
    assert host.reason("namespace0.0") == ("ENODEV", "ENXIO")
    pfn = host.prepare()
    for mode in ("ram", "pmem"):
        host.write(f"{pfn}/mode", mode)
        host.media.write(4096, bytes(4096))
        assert host.reason("pfn0.0") == ("ENODEV", "ENXIO")
    assert boot("4.3", memmap).disks() == {"pmem0m"}


def test_4_5_with_no_room_for_data_is_refused(boot):
    host = boot("4.5", "512M!4G")
    host.write(f"{BUS}/region0/pfn0.0/align", "0x40000000")
    host.prepare("ram")
    assert host.reason("pfn0.0") == ("ENODEV", "ENXIO")
