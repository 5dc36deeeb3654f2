"""The recorder of a bus: from the sysfs folder of an nvdimm bus to its description."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

import attrs

from nvdimmfs.formats.interleave import InterleaveSet
from nvdimmfs.formats.label import LABEL_SIZE_1_2, LABEL_SIZES_BY_VERSION, LabelAreaLayout
from nvdimmfs.formats.ndctl import BusCommand, DimmCommand
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.dimm_model import (
    DEFAULT_LABEL_AREA,
    MINIMUM_LABEL_AREA,
    DimmDescription,
    LabelAreaDescription,
)
from nvdimmfs.machine_file.interleave import interleave_set
from nvdimmfs.machine_file.model import (
    ACPI_PROVIDER,
    BadBlocks,
    BusDescription,
    MachineDescription,
    MappingDescription,
    NamespaceDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.record_tables import with_nfit
from nvdimmfs.machine_file.sysfs import AttributeReader
from nvdimmfs.machine_file.values import TO_BE_CHOSEN
from nvdimmfs.machine_file.words import (
    BusPlatform,
    DimmFlag,
    FirmwareActivation,
    PersistenceDomain,
    RangeKind,
    SecurityState,
    word_of,
)

#: nstype of a region whose namespaces are defined by labels (ND_DEVICE_NAMESPACE_PMEM, include/uapi/linux/ndctl.h).
LABELLED = 5

_MAPPING = re.compile(r"(nmem[0-9]+),([0-9]+),([0-9]+)(?:,([0-9]+))?")
#: The largest size of a label area that is considered, in bytes.
_LARGEST_LABEL_AREA = 1 << 27

#: The version of labels of a DIMM that has some, before it is known.
_ANY_VERSION = "any"

_WordT = TypeVar("_WordT", bound=enum.Enum)


def recorded_bus(reader: AttributeReader, folder: str) -> BusDescription:
    """Record the bus in a folder below /sys, such as devices/platform/nfit_test.0/ndbus0."""
    parent = folder.rpartition("/")[0]
    dimm_names = reader.sysfs.numbered(folder, "nmem")
    dimms = _with_handles([_dimm(reader, f"{folder}/{name}") for name in dimm_names])
    names = {sysfs_name: dimm.name for sysfs_name, dimm in zip(dimm_names, dimms, strict=True)}
    regions = [f"{folder}/{name}" for name in reader.sysfs.numbered(folder, "region")]
    provider = reader.text(f"{folder}/provider") or "unknown"
    platform = _platform(reader, folder, provider)
    ranges = tuple(_range(reader, region, names) for region in regions)
    if platform is not BusPlatform.NFIT:
        return BusDescription(provider, platform, parent, ranges=tuple(map(_without_index, ranges)), commands=())
    scrub = reader.text(f"{folder}/nfit/scrub") or "0"
    bus = BusDescription(
        provider=provider,
        parent=parent,
        revision=reader.number(f"{folder}/nfit/revision", 1),
        commands=_words(reader, f"{folder}/commands", BusCommand),
        dsm_mask=reader.number(f"{folder}/nfit/dsm_mask", 0),
        hw_error_scrub=reader.number(f"{folder}/nfit/hw_error_scrub", 0),
        scrubs=int(scrub.rstrip("+")) if scrub.rstrip("+").isdecimal() else 0,
        scrubbing=scrub.endswith("+"),
        persistence_domain=_persistence_domain(reader, regions),
        firmware_activation=_one_word(reader, f"{folder}/firmware/capability", FirmwareActivation),
        test_dimms=tuple(_test_dimms(reader, parent)),
        dimms=tuple(dimms),
        ranges=ranges,
    )
    bus = _with_flush_hints(bus, reader, regions)
    bus = _with_cookies(with_nfit(bus, reader) if bus.provider == ACPI_PROVIDER else bus, reader, regions)
    return _with_label_sizes(bus, reader, [f"{folder}/{name}" for name in dimm_names])


def _platform(reader: AttributeReader, folder: str, provider: str) -> BusPlatform:
    """Return what announces the memory of a bus: only those of a device tree have a node of it."""
    if provider == BusPlatform.VIRTIO_PMEM.value:
        return BusPlatform.VIRTIO_PMEM
    return BusPlatform.DEVICE_TREE if reader.sysfs.is_link(f"{folder}/of_node") else BusPlatform.NFIT


def _without_index(range_: RangeDescription) -> RangeDescription:
    """Return a range that no NFIT numbers.  A volatile one without an index looks like a virtual CD."""
    kind = RangeKind.VOLATILE if range_.kind.is_volatile else range_.kind
    return attrs.evolve(range_, range_index=TO_BE_CHOSEN, kind=kind)


def _words(reader: AttributeReader, path: str, kind: type[_WordT]) -> tuple[_WordT, ...]:
    """Return those words of an attribute that the model has."""
    known = {word_of(member): member for member in kind}
    return tuple(known[word] for word in reader.words(path) if word in known)


def _one_word(reader: AttributeReader, path: str, kind: type[_WordT]) -> _WordT:
    """Return the single word of an attribute; "none" when the file does not exist."""
    return next(iter(_words(reader, path, kind)), kind("none"))


def _persistence_domain(reader: AttributeReader, regions: list[str]) -> PersistenceDomain:
    domains = (_one_word(reader, f"{region}/persistence_domain", PersistenceDomain) for region in regions)
    return next((domain for domain in domains if domain is not PersistenceDomain.NONE), PersistenceDomain.NONE)


def _test_dimms(reader: AttributeReader, parent: str) -> Iterator[int]:
    folder = f"{parent}/nfit_test_dimm"
    for name in reader.sysfs.numbered(folder, "test_dimm"):
        yield reader.number(f"{folder}/{name}/handle", 0)


def _dimm(reader: AttributeReader, folder: str) -> DimmDescription:
    nfit = f"{folder}/nfit"
    control_region = "vendor" in reader.sysfs.names(nfit)
    commands = _words(reader, f"{folder}/commands", DimmCommand)
    flags = reader.words(f"{folder}/flags")
    location, date = _manufacturing(reader.text(f"{nfit}/id") or "")
    dimm = DimmDescription(
        handle=reader.number(f"{nfit}/handle", TO_BE_CHOSEN),
        phys_id=reader.number(f"{nfit}/phys_id", 0),
        vendor=reader.number(f"{nfit}/vendor", 0),
        device=reader.number(f"{nfit}/device", 0),
        rev_id=reader.number(f"{nfit}/rev_id", 0),
        subsystem_vendor=reader.number(f"{nfit}/subsystem_vendor", 0),
        subsystem_device=reader.number(f"{nfit}/subsystem_device", 0),
        subsystem_rev_id=reader.number(f"{nfit}/subsystem_rev_id", 0),
        serial=reader.number(f"{nfit}/serial", TO_BE_CHOSEN),
        manufacturing_location=location,
        manufacturing_date=date,
        format=reader.number(f"{nfit}/format", 0),
        control_region=control_region,
        family=reader.number(f"{nfit}/family", -1),
        dsm_mask=reader.number(f"{nfit}/dsm_mask", 0),
        commands=commands,
        flags=_words(reader, f"{nfit}/flags", DimmFlag),
        label=LabelAreaDescription(
            size=DEFAULT_LABEL_AREA if _has_labels(reader, folder, commands, flags) else 0,
            initialised=_ANY_VERSION if "label" in flags else "",
        ),
        security=_one_word(reader, f"{folder}/security", SecurityState),
        frozen=reader.number(f"{folder}/frozen", 0) == 1,
        locked="lock" in flags,
        dirty_shutdown=reader.number(f"{nfit}/dirty_shutdown", -1),
    )
    # A passphrase that locks the DIMM is another reason for the flag.
    is_passphrase = dimm.has_security_functions and dimm.security is SecurityState.LOCKED
    return attrs.evolve(dimm, locked=False) if is_passphrase else dimm


def _has_labels(reader: AttributeReader, folder: str, commands: tuple[DimmCommand, ...], flags: Sequence[str]) -> bool:
    """Whether a DIMM has a label area: one that has the commands for it but none is not bound."""
    if DimmCommand.GET_SIZE not in commands:
        return False
    return "lock" in flags or DimmCommand.GET_DATA not in commands or reader.sysfs.is_link(f"{folder}/driver")


def _with_handles(dimms: list[DimmDescription]) -> list[DimmDescription]:
    """Name the DIMMs by their handles; if sysfs does not show handles, number them."""
    if any(dimm.handle == TO_BE_CHOSEN for dimm in dimms):
        dimms = [attrs.evolve(dimm, handle=number) for number, dimm in enumerate(dimms, 1)]
    return [attrs.evolve(dimm, name=f"{dimm.handle:#x}") for dimm in dimms]


def _manufacturing(identifier: str) -> tuple[int, int]:
    """Parse location and date in nfit/id: vendor-location-date-serial."""
    parts = identifier.split("-")
    if len(parts) != 4:  # without location and date, there are two parts
        return -1, -1
    try:
        return int(parts[1], 16), int(parts[2], 16)
    except ValueError:
        return -1, -1


def _with_label_sizes(bus: BusDescription, reader: AttributeReader, folders: list[str]) -> BusDescription:
    """Set the sizes of label areas, and the versions that are not known yet, according to the number of free slots."""
    dimms = []
    for dimm, folder in zip(bus.dimms, folders, strict=True):
        free = reader.number(f"{folder}/available_slots", -1)
        label = dimm.label
        if label.initialised == _ANY_VERSION:
            label = attrs.evolve(label, initialised=_likely_version(free + 1))
        if label.size and free >= 0:
            # The kernel treats an area without labels as one of version 1.2.
            label_size = LABEL_SIZES_BY_VERSION.get(label.initialised, LABEL_SIZE_1_2)
            label = attrs.evolve(label, size=_label_area_size(free + 1, label_size))
        dimms.append(attrs.evolve(dimm, label=label))
    return attrs.evolve(bus, dimms=tuple(dimms))


def _likely_version(slots: int) -> str:
    """Return the version of an area with so many slots, none of them used: one of the usual size, else a small one."""
    sizes = [DEFAULT_LABEL_AREA]
    while (size := MINIMUM_LABEL_AREA << (len(sizes) - 1)) <= _LARGEST_LABEL_AREA:
        sizes.append(size)
    for size in sizes:
        for version, label_size in LABEL_SIZES_BY_VERSION.items():
            if _slots(size, label_size) == slots:
                return version
    return "1.1"


def _label_area_size(slots: int, label_size: int) -> int:
    """Return the default size if it is plausible for that many slots, else the least power of two that has them."""
    if _slots(DEFAULT_LABEL_AREA, label_size) // 2 < slots <= _slots(DEFAULT_LABEL_AREA, label_size):
        return DEFAULT_LABEL_AREA
    size = MINIMUM_LABEL_AREA
    while size < _LARGEST_LABEL_AREA and _slots(size, label_size) < slots:
        size *= 2
    return size


def _slots(size: int, label_size: int) -> int:
    return LabelAreaLayout.of(size, label_size).nslot


def _range(reader: AttributeReader, folder: str, names: dict[str, str]) -> RangeDescription:
    count = reader.number(f"{folder}/mappings", 0)
    range_index = reader.number(f"{folder}/nfit/range_index", TO_BE_CHOSEN)
    is_volatile = reader.text(f"{folder}/devtype") == "nd_volatile"
    return RangeDescription(
        start=reader.number(f"{folder}/resource", TO_BE_CHOSEN),
        size=reader.number(f"{folder}/size", TO_BE_CHOSEN),
        kind=_kind(is_volatile=is_volatile, is_virtual=range_index == 0),
        range_index=range_index,
        numa_node=reader.number(f"{folder}/numa_node", 0),
        target_node=reader.number(f"{folder}/target_node", -1),
        read_only=reader.number(f"{folder}/read_only", 0) == 1,
        mappings=tuple(_mappings(reader, folder, count, names)),
        namespaces=tuple(_namespaces(reader, folder)),
        badblocks=tuple(_badblocks(reader.text(f"{folder}/badblocks") or "")),
    )


def _kind(*, is_volatile: bool, is_virtual: bool) -> RangeKind:
    """Return the kind of a range.  sysfs does not distinguish disks from CDs."""
    if is_virtual:
        return RangeKind.VOLATILE_CD if is_volatile else RangeKind.PERSISTENT_DISK
    return RangeKind.VOLATILE if is_volatile else RangeKind.PMEM


def _mappings(reader: AttributeReader, folder: str, count: int, names: dict[str, str]) -> Iterator[MappingDescription]:
    for index in range(count):
        match = _MAPPING.fullmatch(reader.text(f"{folder}/mapping{index}") or "")
        if match is not None and match[1] in names:
            position = TO_BE_CHOSEN if match[4] is None else int(match[4])
            yield MappingDescription(names[match[1]], dpa=int(match[2]), size=int(match[3]), position=position)


def _badblocks(text: str) -> Iterator[BadBlocks]:
    for line in text.splitlines():
        sector, _, count = line.partition(" ")
        if sector.isdecimal() and count.isdecimal():
            yield BadBlocks(int(sector), int(count))


def labelled_namespaces(reader: AttributeReader, region: str) -> list[str]:
    """Return the folders of a region's namespaces that labels define, in the order in which the kernel numbers them."""
    if reader.number(f"{region}/nstype", 0) != LABELLED:
        return []
    folders = [f"{region}/{name}" for name in reader.sysfs.numbered(region, "namespace")]
    present = [folder for folder in folders if reader.text(f"{folder}/uuid") and reader.number(f"{folder}/size", 0) > 0]
    return sorted(present, key=lambda folder: reader.number(f"{folder}/resource", 0))


def _namespaces(reader: AttributeReader, region: str) -> Iterator[NamespaceDescription]:
    for folder in labelled_namespaces(reader, region):
        holder_class = reader.text(f"{folder}/holder_class") or ""
        yield NamespaceDescription(
            uuid=reader.text(f"{folder}/uuid") or "",
            size=reader.number(f"{folder}/size", 0),
            start=reader.number(f"{folder}/resource", TO_BE_CHOSEN),
            alt_name=reader.text(f"{folder}/alt_name") or "",
            sector_size=reader.chosen(f"{folder}/sector_size", 0),
            holder_class=holder_class if holder_class in ("btt", "pfn", "dax") else "",
        )


def _with_flush_hints(bus: BusDescription, reader: AttributeReader, regions: list[str]) -> BusDescription:
    """Give flush hints to the DIMMs of regions that support deep flush."""
    flushed = {
        mapping.dimm
        for range_, region in zip(bus.ranges, regions, strict=True)
        if reader.number(f"{region}/deep_flush", 0) == 1
        for mapping in range_.mappings
    }
    dimms = (attrs.evolve(dimm, flush_hints=int(dimm.name in flushed)) for dimm in bus.dimms)
    return attrs.evolve(bus, dimms=tuple(dimms))


def _with_cookies(bus: BusDescription, reader: AttributeReader, regions: list[str]) -> BusDescription:
    """Set cookies that DIMMs and default offsets do not explain, versions of labels, and explicit read-only flags."""
    (whole,) = completed(MachineDescription(buses=(bus,))).buses
    ranges, versions = [], {}
    for range_, complete, region in zip(bus.ranges, whole.ranges, regions, strict=True):
        shown = reader.number(f"{region}/set_cookie", 0)
        members = interleave_set(whole, complete)
        if range_.mappings and shown in (members.cookie1, members.cookie2) and members.cookie1 != members.cookie2:
            # The kernel shows the cookie for the labels of the first DIMM (set_cookie_show, Linux 6.1).
            versions[range_.mappings[0].dimm] = "1.1" if shown == members.cookie1 else "1.2"
        read_only = range_.read_only and not bus.is_read_only(attrs.evolve(range_, read_only=False))
        ranges.append(attrs.evolve(range_, cookie=_unexplained(shown, members), read_only=read_only))
    dimms = tuple(_of_version(dimm, versions.get(dimm.name, "")) for dimm in bus.dimms)
    return attrs.evolve(bus, ranges=tuple(ranges), dimms=dimms)


def _unexplained(cookie: int, members: InterleaveSet) -> int:
    return 0 if cookie in (members.cookie1, members.cookie2) else cookie


def _of_version(dimm: DimmDescription, version: str) -> DimmDescription:
    """Return a DIMM with the version of its labels, if it has any and the version is known."""
    if not version or not dimm.label.initialised:
        return dimm
    return attrs.evolve(dimm, label=attrs.evolve(dimm.label, initialised=version))
