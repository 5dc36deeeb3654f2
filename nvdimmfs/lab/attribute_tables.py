"""All attribute tables of the emulation, by what has them, and where in /sys each of them is found.

`scripts/attributes-doc` makes the reference of them, and `coverage` finds out which of them recordings show.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from typing import Never, TypeAlias

import attrs

from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute

_DISK = r"pmem\d+(?:\.\d+)?s?"
_PARTITION = rf"{_DISK}(?:p\d+|(?<=s)\d+)"
_ND_DAX = r"(?:region\d+|bus/nd/devices)/dax\d+\.\d+"
_BUS_DAX = r"(?:dax\d+\.\d+|hmem\.\d+|bus/dax/devices)/dax\d+\.\d+"


#: An attribute, and a group, of subjects of a kind that is not known here; so neither can be read or written.
AnyAttribute: TypeAlias = KernelAttribute[Never]
AnyGroup: TypeAlias = AttributeGroup[Never]


@attrs.frozen
class Chapter:
    """Kinds of devices with the same attributes.

    Attributes:
        title: what they are.
        place: where they are, in words.
        folder: the end of a device's path, as a regular expression.
        groups: their attributes, each group as a module of the package and a name.
    """

    title: str
    place: str
    folder: str
    groups: tuple[str, ...]

    def attributes(self) -> Iterator[tuple[str, AnyAttribute]]:
        """Each attribute, with its path below the device."""
        for group in map(group_named, self.groups):
            prefix = f"{group.name}/" if group.name else ""
            for each in group.attributes:
                yield prefix + each.name, each


#: In the order of the reference.
CHAPTERS = (
    Chapter(
        "Every device",
        "`/sys/devices/...`",
        r".+",
        ("core.device.DEVICE_GROUP", "core.device.NUMBER_GROUP", "core.power.POWER_GROUP"),
    ),
    Chapter(
        "Every device of an nvdimm bus",
        "`/sys/bus/nd/devices/*`",
        rf"(?:ndbus\d+|nmem\d+|region\d+|(?:namespace|btt|pfn)\d+\.\d+|{_ND_DAX})",
        ("nd.device.ND_DEVICE_GROUP", "nd.device.NUMA_GROUP", "nd.device.TARGET_NODE_GROUP"),
    ),
    Chapter(
        "Buses `ndbusN`",
        "`/sys/bus/nd/devices/ndbusN`",
        r"ndbus\d+",
        ("nd.bus.NVDIMM_BUS_GROUP", "nd.firmware_activation.FIRMWARE_GROUP", "platforms.nfit.bus.NFIT_BUS_GROUP"),
    ),
    Chapter(
        "DIMMs `nmemN`",
        "`/sys/bus/nd/devices/nmemN`",
        r"nmem\d+",
        ("nd.dimm.DIMM_GROUP", "nd.firmware_activation.DIMM_FIRMWARE_GROUP", "platforms.nfit.bus.NFIT_DIMM_GROUP"),
    ),
    Chapter(
        "Regions",
        "`/sys/bus/nd/devices/regionN`",
        r"region\d+",
        ("nd.region.REGION_GROUP", "nd.region.MAPPING_GROUP", "platforms.nfit.bus.NFIT_REGION_GROUP"),
    ),
    Chapter(
        "Namespaces",
        "`/sys/bus/nd/devices/namespaceN.M`",
        r"namespace\d+\.\d+",
        ("nd.namespace.NAMESPACE_GROUP",),
    ),
    Chapter(
        "Namespaces without labels",
        "those of regions without labels have these as well",
        r"namespace\d+\.\d+",
        ("nd.namespace.FIXED_SIZE_GROUP",),
    ),
    Chapter(
        "Namespaces with labels",
        "those of regions with labels have these as well",
        r"namespace\d+\.\d+",
        ("nd.namespace_pmem.PMEM_GROUP",),
    ),
    Chapter(
        "BTTs",
        "`/sys/bus/nd/devices/bttN.M`",
        r"btt\d+\.\d+",
        ("nd.btt.BTT_GROUP",),
    ),
    Chapter(
        "pfn and dax devices of a region",
        "`/sys/bus/nd/devices/pfnN.M` and `daxN.M`",
        rf"(?:pfn\d+\.\d+|{_ND_DAX})",
        ("nd.pfn.PFN_GROUP",),
    ),
    Chapter(
        "Regions of the dax bus",
        "A folder of the device that provides the memory: a `daxN.M` of an nvdimm bus, or `hmem.N`, which user space "
        "cuts up and which alone has the last four",
        rf"(?:{_ND_DAX}|hmem\.\d+)",
        ("dax.dynamic.DYNAMIC_REGION_GROUP",),
    ),
    Chapter(
        "Devices of the dax bus",
        "`/sys/bus/dax/devices/daxN.M`, and `mappingN` below it",
        rf"{_BUS_DAX}(?:/mapping\d+)?",
        ("dax.device.DEV_DAX_GROUP", "dax.device.MAPPING_GROUP"),
    ),
    Chapter(
        "Disks",
        "`/sys/block/pmemN`",
        _DISK,
        (
            "block.disk.DISK_GROUP",
            "block.disk.BADBLOCKS_GROUP",
            "block.disk.PARTSCAN_GROUP",
            "drivers.nd_pmem.DAX_GROUP",
            "block.queue.QUEUE_GROUP",
            "block.integrity.INTEGRITY_GROUP",
            "block.trace.TRACE_GROUP",
        ),
    ),
    Chapter(
        "Partitions",
        "`/sys/block/pmemN/pmemNpM`",
        _PARTITION,
        ("block.partition.PARTITION_GROUP", "block.trace.TRACE_GROUP"),
    ),
    Chapter(
        "Backing device infos",
        "`/sys/class/bdi/MAJOR:MINOR`",
        rf"(?:bdi/\d+:\d+|{_DISK}/bdi)",
        ("block.backing_device.BDI_GROUP",),
    ),
    Chapter(
        "Memory",
        "`/sys/devices/system/memory`",
        r"system/memory",
        ("core.memory_block.MEMORY_ROOT_GROUP",),
    ),
    Chapter(
        "Memory blocks",
        "`/sys/devices/system/memory/memoryN`",
        r"memory\d+",
        ("core.memory_block.MEMORY_BLOCK_GROUP",),
    ),
    Chapter(
        "NUMA nodes",
        "`/sys/devices/system/node`",
        r"system/node",
        ("core.node.NODE_ROOT_GROUP",),
    ),
    Chapter(
        "A NUMA node",
        "`/sys/devices/system/node/nodeN`",
        r"node\d+",
        (
            "core.node.NODE_GROUP",
            "core.node.HUGE_PAGE_2M_GROUP",
            "core.node.HUGE_PAGE_1G_GROUP",
            "core.node.DEMOTE_GROUP",
            "core.node.FAILURE_GROUP",
        ),
    ),
    Chapter(
        "How fast nodes are",
        "`/sys/devices/system/node/nodeN/access0/initiators` and `access1/initiators`, where the machine has an HMAT",
        r"access\d+/initiators",
        ("core.node_access.VALUES_GROUP",),
    ),
    Chapter(
        "Buses of the driver core",
        "`/sys/bus/NAME`",
        r"bus/[^/]+",
        ("core.driver.BUS_GROUP",),
    ),
    Chapter(
        "Drivers",
        "`/sys/bus/NAME/drivers/NAME`",
        r"(?:drivers/[^/]+|driver)",
        ("core.driver.DRIVER_GROUP", "core.driver.BIND_GROUP", "dax.bus.ID_GROUP"),
    ),
    Chapter(
        "The directory of modules",
        "`/sys/module`",
        r"module",
        ("core.module.MODULES_GROUP",),
    ),
    Chapter(
        "Modules",
        "`/sys/module/NAME`",
        r"module/[^/]+",
        ("core.module.MODULE_GROUP",),
    ),
    Chapter(
        "Platform and ACPI devices",
        "`/sys/bus/platform/devices/*`, `/sys/bus/acpi/devices/*`",
        r"(?:devices/platform/[^/]+|bus/(?:platform|acpi)/devices/(?!device:)[^/]+|LNX[^/]+|[A-Z]+\d+:\d+|firmware_node)",
        (
            "platforms.platform_bus.PLATFORM_GROUP",
            "platforms.acpi_bus.ACPI_GROUP",
            "platforms.acpi_bus.FIRMWARE_NODE_GROUP",
        ),
    ),
    Chapter(
        "ACPI devices of DIMMs",
        "`/sys/bus/acpi/devices/device:NN`",
        r"device:[0-9a-f]+",
        ("platforms.acpi_bus.ACPI_DIMM_GROUP",),
    ),
    Chapter(
        "Virtio devices",
        "`/sys/bus/virtio/devices/*`",
        r"virtio\d+",
        ("platforms.virtio.VIRTIO_GROUP",),
    ),
    Chapter(
        "DIMMs of the kernel's test platform",
        "`/sys/class/nfit_test_dimm/test_dimmN`",
        r"test_dimm\d+",
        ("platforms.nfit_test.dimm.TEST_DIMM_GROUP",),
    ),
)


def group_named(name: str) -> AnyGroup:
    """The group of a module of the package and a name."""
    module, _, variable = name.rpartition(".")
    group = getattr(importlib.import_module(f"nvdimmfs.{module}"), variable)
    assert isinstance(group, AttributeGroup), name
    return group


def general_name(path: str) -> str:
    """The path of an attribute below its device, the same for those that differ only in a number, such as mapping0."""
    return re.sub(r"(?<=^mapping)[0-9]+$", "N", path)


@attrs.frozen
class AttributeSubject:
    """A file of a kind of device.

    Attributes:
        title: the kind of device, as in the reference.
        name: the path below the device.
        declared: what it may be: namespaces with labels have another `size` than those without.
    """

    title: str
    name: str
    declared: tuple[AnyAttribute, ...] = attrs.field(eq=False)


@functools.cache
def attribute_subjects() -> tuple[AttributeSubject, ...]:
    """Every attribute, in the order of the reference."""
    return tuple(subject for _, subjects in _tables() for subject in subjects.values())


def attribute_at(path: str) -> AttributeSubject | None:
    """The attribute that a path in /sys leads to; None for other files.

    Args:
        path: the path, without the slash at its beginning; symbolic links in it stand for what they lead to.
    """
    folders = [name for name in path.split("/") if name]
    for length in range(1, min(len(folders), _LONGEST + 1)):
        folder, name = "/".join(folders[:-length]), general_name("/".join(folders[-length:]))
        for pattern, subjects in _special_first():
            if name in subjects and pattern.fullmatch(folder):
                return subjects[name]
    return None


#: The most parts that the path of an attribute below its device has.
_LONGEST = 3

_Table = tuple[re.Pattern[str], dict[str, AttributeSubject]]


@functools.cache
def _tables() -> tuple[_Table, ...]:
    """The attributes of each kind of device, by name; chapters about the same folders are one kind."""
    titles: dict[str, str] = {}
    found: dict[str, dict[str, list[AnyAttribute]]] = {}
    for chapter in CHAPTERS:
        titles.setdefault(chapter.folder, chapter.title)
        names = found.setdefault(chapter.folder, {})
        for name, each in chapter.attributes():
            names.setdefault(general_name(name), []).append(each)
    return tuple(
        (
            re.compile(rf"(?:.*/)?{folder}"),
            {name: AttributeSubject(titles[folder], name, tuple(same)) for name, same in names.items()},
        )
        for folder, names in found.items()
    )


@functools.cache
def _special_first() -> tuple[_Table, ...]:
    """The same; what every device has, which comes first in the reference, is the last."""
    every, every_nd, *special = _tables()
    return (*special, every_nd, every)
