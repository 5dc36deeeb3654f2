"""Differences between kernels in devices and their drivers, apart from disks.

These rules are data and depend on no device code.  The release that introduced an attribute is not listed here but in
the attribute's own declaration (`since=`).
"""

from __future__ import annotations

import enum
import errno

import attrs

from nvdimmfs.kernels.differences import Difference, Rules, errno_name, listed, member_value, size
from nvdimmfs.units import MIB, PAGE_SIZE, SUBSECTION_SIZE


class AlignRule(enum.Enum):
    """Valid values of the align attribute, and whether the value or the device's state is checked first."""

    POWER_OF_TWO = "a power of two from 4 KiB to 1 GiB; EINVAL is checked before EBUSY"
    LISTED = "a value listed in supported_alignments; EBUSY is checked before EINVAL"


class ModuleBuild(enum.Enum):
    """A build of Debian's whose modules are on record: CONFIG_BUILD_SALT, which is its release."""

    LINUX_5_10 = "5.10.0-32-amd64"
    LINUX_6_1 = "6.1.0-57-amd64"
    LINUX_6_12 = "6.12.117+deb12-amd64"


def _hexadecimal(letter: str) -> str:
    return {"x": "hexadecimal without 0x", "d": "decimal"}[letter]


@attrs.frozen
class DeviceRules(Rules):
    """Other differences in devices and their drivers."""

    mode_pmem_errno = Difference(
        "Errno for writing `pmem` to a pfn device's `mode`",
        "mode_store, drivers/nvdimm/pfn_devs.c",
        {"rfc": 0, "4.3": errno.ENOTTY, "4.5": 0},
        show=errno_name,
    )
    align_format = Difference(
        "Format of a pfn device's `align`",
        "align_show, drivers/nvdimm/pfn_devs.c",
        {"4.5": "x", "4.15": "d"},
        show=_hexadecimal,
    )
    align_rule = Difference(
        "Valid values for a pfn device's `align`",
        "__align_store, nd_size_select_store; drivers/nvdimm/pfn_devs.c, core.c",
        {"4.5": AlignRule.POWER_OF_TWO, "4.15": AlignRule.LISTED},
        show=member_value,
    )
    uuid_separators = Difference(
        "A written uuid is 16 pairs of hexadecimal digits, each optionally followed by `-`, `:`, newline or NUL (else "
        "it must have the form 8-4-4-4-12)",
        "nd_uuid_parse, drivers/nvdimm/core.c; uuid_parse, lib/uuid.c",
        {"rfc": True, "6.1": False},
    )
    advancing_seeds = Difference(
        "Seeds that are replaced once they are bound",
        "nd_region_notify_driver_action, nd_region_advance_seeds; drivers/nvdimm/region_devs.c",
        {"rfc": frozenset({"btt"}), "4.5": frozenset({"btt", "pfn", "dax"})},
        show=listed,
    )
    has_dax = Difference(
        "dax devices, their seeds, drivers and bus exist",
        "drivers/nvdimm/dax_devs.c, drivers/dax",
        {"rfc": False, "4.9": True},
    )
    hmem_has_platform_device = Difference(
        "Soft reserved memory is announced by one device hmem_platform.0, whose driver in dax_hmem registers hmem.N "
        "(else the kernel registers hmem.N at boot)",
        "drivers/dax/hmem/device.c, hmem.c",
        {"rfc": False, "6.6": True},
        commit="7dab174e2e27 dax/hmem: Move hmem device registration to dax_hmem.ko",
    )
    hmem_is_for_kmem = Difference(
        "kmem matches dax devices of soft reserved memory, unless `region_idle` was on when their region was made, and "
        "device_dax only those whose names are in its `new_id` (else device_dax matches all devices)",
        "dax_hmem_probe, drivers/dax/hmem/hmem.c; dax_match_type, drivers/dax/bus.c",
        {"rfc": False, "6.6": True},
        commit="e9ee9fe3a9d4 dax: Assign RAM regions to memory-hotplug by default",
    )
    kmem_needs_a_block = Difference(
        "kmem refuses a device without a whole memory block with EINVAL (else it binds it, and adds nothing)",
        "dev_dax_kmem_probe, drivers/dax/kmem.c",
        {"rfc": False, "5.15": True},
    )
    mapping_ignores_unaligned = Difference(
        "A range whose length is not aligned, written to `mapping` of a dax device, is accepted and has no effect "
        "(else ENXIO)",
        "mapping_store, drivers/dax/bus.c: the errno is overwritten when the lock is taken",
        {"rfc": False, "6.12": True},
        commit="c05ae9d85b47 dax/bus.c: replace driver-core lock usage by a local rwsem",
    )
    has_dax_class = Difference(
        "The class dax exists, and is empty (CONFIG_DEV_DAX_PMEM_COMPAT, which Debian sets)",
        "dax_bus_init, drivers/dax/bus.c",
        {"rfc": False, "4.9": True, "6.1": False},
    )
    bind_errno = Difference[int | None](
        "Errno of every refused write to `bind`",
        "bind_store, drivers/base/bus.c; really_probe, drivers/base/dd.c",
        {"rfc": errno.ENODEV, "5.15": None},
        show=errno_name,
    )
    failed_link_fails_probe = Difference(
        "`drivers_probe` is EINVAL for a device whose directory was removed with its parent's, if a driver matches it "
        "(else accepted)",
        "really_probe, drivers/base/dd.c",
        {"rfc": False, "5.15": True},
    )
    bind_uevents = Difference(
        "Uevents `bind` and `unbind` are sent",
        "driver_bound, drivers/base/dd.c",
        {"rfc": False, "4.15": True},
    )
    power_directories = Difference(
        "Devices of an nvdimm bus have a power directory",
        "device_set_pm_not_required in nd_device_register, drivers/nvdimm/bus.c",
        {"rfc": True, "5.15": False},
    )
    memory_named_after_device = Difference(
        "/proc/iomem names the memory of a bound device after that device (else after the namespace)",
        "pmem_alloc, drivers/nvdimm/pmem.c; devm_nsio_enable, drivers/nvdimm/claim.c",
        {"rfc": True, "4.9": False},
    )
    minimum_namespace_size = Difference(
        "Smallest namespace that a driver binds; a smaller one is ENODEV",
        "ND_MIN_NAMESPACE_SIZE, include/uapi/linux/ndctl.h",
        {"rfc": 4 * MIB, "4.20": PAGE_SIZE},
        show=size,
    )
    align_needs_dimms = Difference(
        "Writing `align` of a region without DIMMs is ENXIO",
        "align_store, drivers/nvdimm/region_devs.c",
        {"rfc": True, "6.1": False},
    )
    t_and_f_are_truth_values = Difference(
        "t and f are truth values, as the first letters of `true` and `false` (else EINVAL)",
        "kstrtobool, lib/kstrtox.c",
        {"rfc": False, "6.1": True},
    )
    raw_pagemap = Difference(
        "Raw namespaces of a legacy platform get struct pages",
        "ND_REGION_PAGEMAP, drivers/nvdimm/e820.c; pmem_should_map_pages",
        {"rfc": False, "4.3": True},
    )
    mixed_is_not_mapped = Difference(
        "... except a namespace that overlaps System RAM in part (else its bind fails)",
        "pmem_should_map_pages, drivers/nvdimm/namespace_devs.c",
        {"rfc": False, "4.6": True},
    )
    force_raw_is_not_mapped = Difference(
        "... and except a namespace with force_raw set",
        "pmem_should_map_pages, drivers/nvdimm/namespace_devs.c",
        {"rfc": False, "5.2": True},
    )
    raw_alignment = Difference(
        "Required alignment of start and end of a raw namespace that gets struct pages, or EOPNOTSUPP",
        "nvdimm_namespace_common_probe, drivers/nvdimm/namespace_devs.c",
        {"rfc": 1, "5.7": SUBSECTION_SIZE},
        show=size,
    )
    btt_counts_lanes = Difference(
        "An arena of a BTT with fewer free blocks than the region has lanes is ENODEV",
        "btt_freelist_init, drivers/nvdimm/btt.c",
        {"rfc": False, "6.1": True, "6.6": False, "6.12": True},
    )
    knows_disable_master = Difference(
        "A DIMM's `security` takes `disable_master`, which is EOPNOTSUPP for DIMMs of an NFIT (else EINVAL)",
        "__store, security_disable; drivers/nvdimm/security.c",
        {"rfc": False, "6.6": True},
        commit="dcedadfae285 nvdimm/cxl/pmem: Add support for master passphrase disable security command",
    )
    regions_need_coherent_dimms = Difference(
        "In a virtual machine, whose processor cannot invalidate its caches for a range, a region with a DIMM that was "
        "unlocked, erased or overwritten since it was registered is not bound any more: ENXIO",
        "nd_region_invalidate_memregion, drivers/nvdimm/region_devs.c",
        {"rfc": False, "6.6": True},
        commit="dc370b28c842 nvdimm/region: Move cache management to the region driver",
    )
    test_platform_asks_for_security = Difference(
        "The modules of nfit_test ask a DIMM for its state when its `security` is read (else as others, when it "
        "may have changed; CONFIG_NVDIMM_SECURITY_TEST, which Debian does not set, restores it)",
        "security_show; tools/testing/nvdimm/dimm_devs.c, drivers/nvdimm/dimm_devs.c",
        {"rfc": True, "6.6": False},
        commit="15a8348707ff libnvdimm: Introduce CONFIG_NVDIMM_SECURITY_TEST flag",
    )
    majors_taken_later = Difference(
        "By how much the majors of nmemN and ndctlN, taken from 254 on downwards, are lower than 245 and 246: "
        "other drivers of Debian's kernel take one more before",
        "register_chrdev in nvdimm_bus_init, drivers/nvdimm/bus.c",
        {"rfc": 0, "5.10": -4, "6.1": 0, "6.12": 1},
    )
    acpi_drivers_name_their_module = Difference(
        "The driver nfit of the ACPI bus and its module link to each other",
        "acpi_bus_register_driver, include/acpi/acpi_bus.h; __acpi_bus_register_driver, drivers/acpi/bus.c",
        {"rfc": False, "6.12": True},
        commit="48b9c4862bd3 ACPI: store owner from modules with acpi_bus_register_driver()",
    )
    modules_have_several_memories = Difference(
        "The code, the data and the constants of a module are in memories of their own (else in one)",
        "enum mod_mem_type, include/linux/module.h",
        {"rfc": False, "6.6": True},
        commit="ac3b43283923 module: replace module_layout with module_memory",
    )
    module_build = Difference(
        "The build of Debian's whose modules' sizes, sections and notes are shown",
        "CONFIG_BUILD_SALT, CONFIG_X86_KERNEL_IBT, CONFIG_LTO of Debian's kernels",
        {
            "rfc": ModuleBuild.LINUX_6_1,
            "5.10": ModuleBuild.LINUX_5_10,
            "6.1": ModuleBuild.LINUX_6_1,
            "6.6": ModuleBuild.LINUX_6_12,
        },
        show=member_value,
    )
    dax_pmem_has_core = Difference(
        "What the module dax_pmem does is in a module of its own, dax_pmem_core",
        "drivers/dax/pmem/core.c",
        {"rfc": False, "5.10": True, "6.1": False},
    )
    has_security_keys = Difference(
        "Keys unlock DIMMs and change their security (else a write to `security` is EOPNOTSUPP, no DIMM is unlocked, "
        "and the module libnvdimm has no parameter `key_revalidate`)",
        "drivers/nvdimm/security.c; nd-core.h, nd.h; CONFIG_NVDIMM_KEYS, which Debian's 5.10 does not set",
        {"rfc": True, "5.10": False, "5.15": True},
    )
    virtio_regions_have_node = Difference(
        "Regions of virtio-pmem have the NUMA node of their range (else that of the device, which is -1)",
        "virtio_pmem_probe, drivers/nvdimm/virtio_pmem.c",
        {"rfc": False, "6.6": True},
    )
    built_in_virtio_drivers = Difference(
        "Drivers of the virtio bus that are built into the kernel",
        "CONFIG_VIRTIO_CONSOLE, CONFIG_VIRTIO_FS of Debian's kernels",
        {"rfc": (), "6.12": ("virtio_console", "virtio_rproc_serial", "virtiofs")},
        show=listed,
    )
    resets_virtio_rings = Difference(
        "A virtio device uses the feature VIRTIO_F_RING_RESET, bit 40 of `features`",
        "vp_transport_features, drivers/virtio/virtio_pci_modern.c",
        {"rfc": False, "6.1": True},
    )
    legacy_device_is_always_there = Difference(
        "A machine without legacy ranges still has the device e820_pmem and an empty bus",
        "register_e820_pmem, arch/x86/kernel/pmem.c",
        {"rfc": True, "4.15": False},
    )
    legacy_ranges_are_nested = Difference(
        "A legacy range nested in another resource is found",
        "e820_pmem_probe, drivers/nvdimm/e820.c",
        {"rfc": False, "5.2": True},
    )
    legacy_has_node = Difference(
        "Regions of a legacy platform have the NUMA node of their range (else -1)",
        "e820_range_to_nid, drivers/nvdimm/e820.c",
        {"rfc": False, "4.5": True},
    )
    legacy_shows_node = Difference(
        "Regions of a legacy platform have the attribute numa_node",
        "e820_pmem_region_attribute_groups, drivers/nvdimm/e820.c",
        {"rfc": False, "5.7": True},
    )
