"""The recorder: from the sysfs of a machine to its description.

Facts that sysfs does not show keep their defaults: without an NFIT to read, the sizes of DIMMs beyond their mappings
and region offsets (`cookie` keeps the value computed from them).  Label areas, health and firmware are asked of the
DIMMs, where that is possible.  An attribute that cannot be read is recorded with its errno, unless the state of the
machine explains the failure: an emulated machine in that state fails in the same way.
"""

from __future__ import annotations

import errno
import functools
import re
from collections.abc import Iterable, Iterator

import attrs

from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.dimm_commands import DimmCommands, DimmDevices
from nvdimmfs.machine_file.model import (
    ACPI_PROVIDER,
    BusDescription,
    MachineDescription,
    PersonalityDescription,
    RangeDescription,
    UnreadableAttribute,
)
from nvdimmfs.machine_file.record_bus import labelled_namespaces, recorded_bus
from nvdimmfs.machine_file.record_hmem import memmap_entry, soft_reserved_ranges
from nvdimmfs.machine_file.record_ram import recorded_accesses, recorded_distances, recorded_ram
from nvdimmfs.machine_file.record_tables import other_tables
from nvdimmfs.machine_file.sysfs import AttributeReader, Sysfs
from nvdimmfs.machine_file.values import TO_BE_CHOSEN, plain_size
from nvdimmfs.machine_file.words import BusPlatform, MemmapLocation, PersonalityKind
from nvdimmfs.mm.pc_memory_map import HIGH_RAM_START
from nvdimmfs.units import GIB, MIB, align_up

_DEVICES = "bus/nd/devices"
_LEGACY_PROVIDER = "e820"

#: In the order of the buses of an emulated machine.
_PLATFORMS = tuple(BusPlatform)

_PERSONALITY = re.compile(r"(btt|pfn|dax)[0-9]+\.[0-9]+")

#: Files whose reads fail while the device is not bound or is empty, or if the kernel does not know its command family.
_STATE_DEPENDENT = re.compile(
    r"(btt|pfn|dax|namespace)[0-9.]+/(size|resource)"
    r"|region[0-9]+/(init_namespaces|badblocks)"
    r"|nmem[0-9]+/(available_slots|nfit/(family|dsm_mask))"
)

#: Folders with attributes of the device itself, and a file whose read blocks and has no content.
_ATTRIBUTE_FOLDERS = ("nfit", "firmware")
_BLOCKING = "wait_probe"


@attrs.frozen
class Recording:
    """A machine as its sysfs shows it.

    Attributes:
        machine: its description, completed.
        remarks: notes for its users, one line each.
    """

    machine: MachineDescription
    remarks: tuple[str, ...]


def record_machine(sysfs: Sysfs, devices: DimmDevices | None = None) -> Recording:
    """Record the machine of a sysfs.  ValueError when it has no nvdimm bus.

    Args:
        sysfs: the sysfs.
        devices: the device nodes of its DIMMs, which show labels, health and firmware; None to do without them.
    """
    reader = AttributeReader(sysfs)
    folders = [
        folder for name in sysfs.numbered(_DEVICES, "ndbus") if (folder := sysfs.real(f"{_DEVICES}/{name}")) is not None
    ]
    reserved = soft_reserved_ranges(reader)
    if not folders and not reserved:
        raise ValueError(f"no nvdimm bus in {_DEVICES}: no persistent memory, or its driver is not loaded")
    legacy = [folder for folder in folders if reader.text(f"{folder}/provider") == _LEGACY_PROVIDER]
    # The kernel numbers regions across all buses, and on an emulated machine the legacy bus is the last one.
    in_order = [folder for folder in folders if folder not in legacy] + legacy
    buses, is_refused = _buses(reader, in_order, devices)
    first_legacy = len(in_order) - len(legacy)
    nfit = tuple(sorted(buses[:first_legacy], key=lambda bus: _PLATFORMS.index(bus.platform)))
    memory = tuple(_legacy_ranges(buses[first_legacy:]))
    known = tuple(range_ for range_ in reserved if range_.start != TO_BE_CHOSEN)
    ram = recorded_ram(reader, nfit, (*memory, *known))
    machine = MachineDescription(
        ram=ram.ram,
        ram_ranges=ram.ram_ranges,
        memmap=_memmap(memory, known),
        buses=nfit,
        personalities=tuple(_personalities(reader, in_order)),
        unreadable=tuple(_unreadable(reader, folders)),
        node_accesses=recorded_accesses(reader),
        acpi_tables=tuple(other_tables(reader)),
    )
    machine = completed(attrs.evolve(machine, distances=recorded_distances(reader, completed(machine))))
    remarks = list(_remarks(reader, nfit, in_order == folders))
    if is_refused:
        remarks.append("Only root can send commands to DIMMs, which show label areas, health and firmware.")
    if len(known) < len(reserved):
        remarks.append("Soft reserved memory that is not all in dax devices was left out: it does not show its place.")
    if ram.is_cut:
        remarks.append("RAM from 2 GiB to 4 GiB was left out: an emulated machine has devices there.")
    return Recording(machine, tuple(remarks))


def _buses(
    reader: AttributeReader, folders: list[str], devices: DimmDevices | None
) -> tuple[tuple[BusDescription, ...], bool]:
    """The buses, with what the commands of their DIMMs show; and whether this process was refused to send them."""
    buses = tuple(recorded_bus(reader, folder) for folder in folders)
    if devices is None:
        return buses, False
    try:
        return tuple(map(functools.partial(_with_firmware, reader, devices), folders, buses)), False
    except PermissionError:
        return buses, True


def _memmap(memory: Iterable[RangeDescription], reserved: Iterable[RangeDescription]) -> str:
    """The value of memmap= for ranges of a legacy bus and soft reserved ones."""
    entries = [f"{plain_size(range_.size)}!{plain_size(range_.start)}" for range_ in memory]
    entries += [memmap_entry(plain_size(range_.size), plain_size(range_.start)) for range_ in reserved]
    return ",".join(entries)


def _with_firmware(reader: AttributeReader, devices: DimmDevices, folder: str, bus: BusDescription) -> BusDescription:
    """Add what the commands of a bus's DIMMs show.  PermissionError."""
    from nvdimmfs.machine_file.record_firmware import with_firmware  # which few recordings have

    dimms = [
        with_firmware(dimm, DimmCommands(devices, name), is_tested=bus.is_test_platform)
        for name, dimm in zip(reader.sysfs.numbered(folder, "nmem"), bus.dimms, strict=False)
    ]
    return attrs.evolve(bus, dimms=tuple(dimms))


def _legacy_ranges(buses: tuple[BusDescription, ...]) -> Iterator[RangeDescription]:
    """Yield the ranges of legacy buses; those without a readable address are placed one after the other from 4 GiB."""
    start = HIGH_RAM_START
    for range_ in (range_ for bus in buses for range_ in bus.ranges if range_.size > 0):
        placed = attrs.evolve(range_, start=align_up(start, GIB)) if range_.start < 0 else range_
        start = max(start, placed.end)
        yield placed


def _personalities(reader: AttributeReader, buses: list[str]) -> Iterator[PersonalityDescription]:
    """Yield the bound btt, pfn and dax devices, whose info blocks are on media."""
    regions = [f"{bus}/{name}" for bus in buses for name in reader.sysfs.numbered(bus, "region")]
    for number, region in enumerate(regions):
        names = _names_when_new(reader, region, number)
        for device in reader.sysfs.names(region):
            match = _PERSONALITY.fullmatch(device)
            folder = f"{region}/{device}"
            if match is None or not reader.sysfs.is_link(f"{folder}/driver"):
                continue
            namespace = names.get(reader.text(f"{folder}/namespace") or "")
            if namespace is not None:
                yield _personality(reader, folder, namespace, PersonalityKind(match[1]))


def _names_when_new(reader: AttributeReader, region: str, number: int) -> dict[str, str]:
    """Return the names of a region's namespaces, and the name of each on a new machine."""
    folders = labelled_namespaces(reader, region)
    names = [folder.rpartition("/")[2] for folder in folders] or reader.sysfs.numbered(region, "namespace")
    return {name: f"namespace{number}.{index}" for index, name in enumerate(names)}


def _personality(reader: AttributeReader, folder: str, namespace: str, kind: PersonalityKind) -> PersonalityDescription:
    uuid = reader.text(f"{folder}/uuid") or ""
    if kind is PersonalityKind.BTT:
        return PersonalityDescription(namespace, kind, uuid, sector_size=reader.chosen(f"{folder}/sector_size", 4096))
    memmap = MemmapLocation.RAM if reader.text(f"{folder}/mode") == "ram" else MemmapLocation.PMEM
    return PersonalityDescription(namespace, kind, uuid, memmap, align=reader.number(f"{folder}/align", 2 * MIB))


def _unreadable(reader: AttributeReader, buses: list[str]) -> Iterator[UnreadableAttribute]:
    """Yield the attributes whose reads fail for a reason other than the state of the machine."""
    for bus in buses:
        for device in _devices(reader.sysfs, bus):
            name = device.rpartition("/")[2]
            for attribute in _attributes(reader.sysfs, device):
                number = _errno(reader.sysfs, f"{device}/{attribute}")
                if number == errno.ENXIO and _STATE_DEPENDENT.fullmatch(f"{name}/{attribute}"):
                    continue
                if number in (errno.EACCES, errno.EPERM):
                    reader.forbidden.add(f"{device}/{attribute}")
                elif number:
                    code = errno.errorcode.get(number, "EIO")
                    yield UnreadableAttribute(f"{_DEVICES}/{name}/{attribute}", code)


def _devices(sysfs: Sysfs, bus: str) -> Iterator[str]:
    """Yield the folders of a bus and of the devices on it."""
    yield bus
    for prefix in ("nmem", "region"):
        for name in sysfs.numbered(bus, prefix):
            device = f"{bus}/{name}"
            yield device
            for kind in ("namespace", "btt", "pfn", "dax"):
                yield from (f"{device}/{inner}" for inner in sysfs.numbered(device, kind))


def _attributes(sysfs: Sysfs, device: str) -> Iterator[str]:
    for name in sysfs.names(device):
        path = f"{device}/{name}"
        if sysfs.is_link(path) or name == _BLOCKING:
            continue
        if not sysfs.is_folder(path):
            yield name
        elif name in _ATTRIBUTE_FOLDERS:
            yield from (f"{name}/{inner}" for inner in sysfs.names(path) if not sysfs.is_folder(f"{path}/{inner}"))


def _errno(sysfs: Sysfs, path: str) -> int:
    """Return the errno of a read; 0 when it succeeds."""
    try:
        sysfs.read(path)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _remarks(reader: AttributeReader, nfit: tuple[BusDescription, ...], in_order: bool) -> Iterator[str]:
    yield "Recorded by nvdimmfs record.  sysfs does not show parts of DIMMs that no range uses."
    if not in_order:
        yield "The legacy bus was first on the recorded machine; here it is last."
    for bus in nfit:
        if bus.has_nfit and bus.provider != ACPI_PROVIDER and "nfit" not in bus.provider:
            yield f"{bus.provider} is not an NFIT bus; it is described as if it were one."
    forbidden = sorted({path.rpartition("/")[2] for path in reader.forbidden})
    if "resource" in forbidden:
        yield "Only root can read the start of a range (resource): the addresses below are defaults."
    elif forbidden:
        yield f"Only root can read {', '.join(forbidden)}."
