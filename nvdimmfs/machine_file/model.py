"""What a machine file says: the classes that a machine with persistent memory is described with.

A machine has buses, a bus has DIMMs and ranges of system physical addresses, a range is interleaved over mappings of
DIMMs.  The classes are those of a file: whatever was left out there has its default here.  Where the default depends on
the rest of the machine, `defaults.completed` has filled it in by the time `load_machine` returns.  The kinds of numbers
are in `values`, the words in `words`.

Terms are those of ACPI 6.4, section 5.2.25 (NFIT), and of drivers/acpi/nfit and drivers/nvdimm in Linux 6.1.  Numbers
of identification (vendor, serial, ...) are written as sysfs shows them, which is in the byte order of the SPD: QEMU's
vendor 0x8086 reads as 0x8680.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs

from nvdimmfs.core.clock import ClockMode
from nvdimmfs.formats.ndctl import BusCommand, DimmCommand, command_mask
from nvdimmfs.machine_file.values import (
    Address,
    Count,
    Hexadecimal16,
    Hexadecimal32,
    Hexadecimal64,
    MaybeHexadecimal8,
    MaybeHexadecimal16,
    Node,
    Number,
    Size,
)
from nvdimmfs.machine_file.words import (
    SCRUB_COMMANDS,
    DimmFlag,
    FirmwareActivation,
    MemmapLocation,
    PersistenceDomain,
    PersonalityKind,
    RangeKind,
    Security,
)
from nvdimmfs.units import GIB, KIB

#: "Left out", for a number whose default depends on the rest of the machine; `completed` leaves none behind.
TO_BE_CHOSEN = -1

#: Bytes of a label area that does not say otherwise, and the least that hold two index blocks and two labels.
DEFAULT_LABEL_AREA = 128 * KIB
MINIMUM_LABEL_AREA = 1 * KIB

#: Bytes of the largest label area: the DIMM says its size in 32 bits (GET_CONFIG_SIZE).
LARGEST_LABEL_AREA = (1 << 32) - 1

#: Mappings that a region can have (ND_MAX_MAPPINGS, include/linux/libnvdimm.h, Linux 6.1).
MAXIMUM_MAPPINGS = 32

#: Where the kernel puts the bus of the ACPI driver (drivers/acpi/nfit), below /sys.
ACPI_PARENT = "devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00"
PLATFORM_FOLDER = "devices/platform"
ACPI_PROVIDER = "ACPI.NFIT"

_T = TypeVar("_T")


def section(key: str) -> tuple[Any, ...]:
    """An array of tables, which a file spells in the singular: [[bus]]."""
    sections: tuple[Any, ...] = attrs.field(default=(), metadata={"key": key})
    return sections


@attrs.frozen
class LabelArea:
    """The label area of a DIMM, and what is in it when the machine is new.

    At most one of `initialised`, `text`, `hex` and `file` is given; with none the area is full of zeros, and after
    `text`, `hex` and `file` zeros follow.

    Attributes:
        size: bytes; 0 is a DIMM without a label area.
        initialised: the version of empty index blocks, "1.1" or "1.2", as `ndctl init-labels` writes them.
        text: text at the beginning of the area.
        hex: bytes at the beginning of the area, two hexadecimal digits each; blanks between them do not count.
        file: a file with the area's bytes, relative to the machine file.
    """

    size: Size = DEFAULT_LABEL_AREA
    initialised: str = ""
    text: str = ""
    hex: str = ""
    file: str = ""

    def first_bytes(self) -> bytes:
        """What `text`, `hex` or `file` put at the beginning; empty for `initialised` and for zeros.  OSError."""
        if self.file:
            return Path(self.file).read_bytes()
        return bytes.fromhex(self.hex) if self.hex else self.text.encode()


@attrs.frozen
class DimmDescription:
    """A DIMM.  The kernel calls the DIMMs of a bus nmemN in the order of their handles.

    Attributes:
        name: what ranges call it; by default its handle, for example "0x1".
        handle: the NFIT device handle, unique on its bus; by default one more than that of the DIMM before it, from 1.
        size: bytes of the DIMM, mapped or not; by default as far as ranges reach into it.
        phys_id: the SMBIOS handle.
        vendor: vendor ID of the module; 0x8680 is Intel.
        device: device ID of the module.
        rev_id: revision of the module.
        subsystem_vendor: vendor ID of its controller.
        subsystem_device: device ID of its controller.
        subsystem_rev_id: revision of its controller.
        serial: serial number; it goes into the interleave-set cookies.  By default one that QEMU would give.
        manufacturing_location: where it was made; -1, with the date: the NFIT does not say.
        manufacturing_date: when it was made, week and year as packed decimal numbers in the SPD.
        format: region format interface code; 0x0301 is byte addressable, energy backed.
        control_region: whether the NFIT has its control region.  Without one, nothing identifies the DIMM, and no
            range can use it.
        family: command family: 0 Intel, 1 and 2 HPE, 3 Microsoft, 4 Hyper-V; -1 is none that the kernel knows.
        dsm_mask: functions of that family that the kernel lets through, a bit each.
        commands: commands that the DIMM answers.
        flags: what the platform reports about it; with not_armed, regions on it are read-only.
        flush_hints: flush hint addresses; regions over a DIMM with any can be flushed deeply.
        label: its label area.
        security: state of its security.
        frozen: whether its security is frozen until the next reset.
        locked: whether it refuses to have its labels read, so that it cannot be enabled (the word `lock` of `flags`).
        dirty_shutdown: unclean shutdowns that it counted; -1: it does not count them, and the file is not there.
    """

    name: str = ""
    handle: Hexadecimal32 = TO_BE_CHOSEN
    size: Size = TO_BE_CHOSEN
    phys_id: Hexadecimal16 = 0
    vendor: Hexadecimal16 = 0x8680
    device: Hexadecimal16 = 0x0100
    rev_id: Hexadecimal16 = 0x0100
    subsystem_vendor: Hexadecimal16 = 0
    subsystem_device: Hexadecimal16 = 0
    subsystem_rev_id: Hexadecimal16 = 0
    serial: Hexadecimal32 = TO_BE_CHOSEN
    manufacturing_location: MaybeHexadecimal8 = -1
    manufacturing_date: MaybeHexadecimal16 = -1
    format: Hexadecimal16 = 0x0301
    control_region: bool = True
    family: Number = 0
    dsm_mask: Hexadecimal64 = 0x70
    commands: tuple[DimmCommand, ...] = (
        DimmCommand.GET_SIZE,
        DimmCommand.GET_DATA,
        DimmCommand.SET_DATA,
        DimmCommand.CMD_CALL,
    )
    flags: tuple[DimmFlag, ...] = ()
    flush_hints: Count = 0
    label: LabelArea = LabelArea()
    security: Security = Security.NONE
    frozen: bool = False
    locked: bool = False
    dirty_shutdown: Number = -1

    @property
    def command_mask(self) -> int:
        """The commands as the kernel keeps them: bit ND_CMD_... for each."""
        return command_mask(self.commands)

    @property
    def has_manufacturing(self) -> bool:
        """Whether the NFIT says where and when it was made; both numbers are in nfit/id then."""
        return self.manufacturing_date >= 0

    @property
    def identifier(self) -> str:
        """What nmemN/nfit/id shows."""
        if not self.has_manufacturing:
            return f"{self.vendor:04x}-{self.serial:08x}"
        made = f"{self.manufacturing_location:02x}-{self.manufacturing_date:04x}"
        return f"{self.vendor:04x}-{made}-{self.serial:08x}"


@attrs.frozen
class MappingDescription:
    """The part of a DIMM that a range is interleaved over.  In a file it may be just the DIMM's name.

    Attributes:
        dimm: the name of a DIMM on the same bus.
        dpa: the first address within the DIMM; by default the first that no range before this one uses.
        size: bytes of the DIMM; by default an equal share of the range, or all that is left of the DIMM.
        position: place in the interleave set, from 0; by default the order of the region offsets if they are given,
            else that of the list.
        region_offset: where in the range the DIMM's first line lies (NFIT region offset); it goes into the cookies.
            By default 4 KiB times the position, and 0 with one DIMM.
    """

    dimm: str
    dpa: Address = TO_BE_CHOSEN
    size: Size = TO_BE_CHOSEN
    position: Number = TO_BE_CHOSEN
    region_offset: Address = TO_BE_CHOSEN


@attrs.frozen
class BadBlocks:
    """Sectors of 512 bytes that cannot be read.

    Attributes:
        sector: the first, counted from the start of the range.
        count: how many.
    """

    sector: Count
    count: Count = 1


@attrs.frozen
class NamespaceDescription:
    """A namespace that labels define when the machine is new.  Its DIMMs' label areas must be initialised.

    Attributes:
        uuid: its UUID.
        size: bytes, over all DIMMs of the range.
        start: its first physical address; by default the first that no namespace before this one uses.
        alt_name: its name, up to 63 bytes.
        sector_size: 512 or 4096; 0: the label does not say.
        holder_class: the kind of device that alone may claim it; empty: any.
    """

    uuid: str
    size: Size
    start: Address = TO_BE_CHOSEN
    alt_name: str = ""
    sector_size: Count = 0
    holder_class: str = ""


@attrs.frozen
class RangeDescription:
    """A range of system physical addresses.  The kernel makes a region of it, in the order of the file.

    Attributes:
        start: its first physical address; by default the first multiple of 1 GiB above RAM and all ranges before it.
        size: bytes; by default those of its mappings.
        kind: the kind of memory.
        range_index: the NFIT's number for it, unique on its bus, from 1; by default one more than the largest before.
            Virtual kinds have 0.
        numa_node: the node it is near to.
        target_node: the node it would be as System RAM; -1 is none, and the file is not there.
        read_only: whether its region begins as read-only; a DIMM that is not armed makes it so anyway.
        cookie: what region set_cookie shows, whichever version the labels have; 0: computed from DIMMs and offsets.
        mappings: the DIMMs it is interleaved over, in the order in which the NFIT lists them (mapping0, mapping1, ...).
        namespaces: namespaces that labels define.
        badblocks: sectors that cannot be read.
    """

    start: Address = TO_BE_CHOSEN
    size: Size = TO_BE_CHOSEN
    kind: RangeKind = RangeKind.PMEM
    range_index: Number = TO_BE_CHOSEN
    numa_node: Node = 0
    target_node: Node = 0
    read_only: bool = False
    cookie: Hexadecimal64 = 0
    mappings: tuple[MappingDescription, ...] = section("dimms")
    namespaces: tuple[NamespaceDescription, ...] = section("namespace")
    badblocks: tuple[BadBlocks, ...] = ()

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.start + self.size


@attrs.frozen
class BusDescription:
    """An nvdimm bus.  The kernel calls them ndbusN in the order of the file.

    Attributes:
        provider: what the bus calls its provider: ACPI.NFIT, nfit_test.0.
        parent: the sysfs folder of the device that the bus belongs to, without /sys.  By default the ACPI device for
            ACPI.NFIT, else a platform device named as the provider.
        revision: revision of the NFIT.
        commands: commands that the bus answers; with all of ars_cap, ars_start, ars_status it has nfit/scrub.
        dsm_mask: functions of the NFIT root device that the kernel lets through, a bit each.
        hw_error_scrub: whether a memory error starts a full scrub: 0 or 1.
        scrubs: scrubs that have been completed.
        scrubbing: whether one runs; then nfit/scrub ends in "+".
        persistence_domain: how far a store must get to outlive a loss of power; regions show it.
        firmware_activation: whether and how the bus activates the DIMMs' firmware.
        test_dimms: handles of the devices that nfit_test adds beside the bus to inject failures (nfit_test_dimm).
        dimms: its DIMMs.
        ranges: its ranges.
    """

    provider: str = ACPI_PROVIDER
    parent: str = ""
    revision: Count = 1
    commands: tuple[BusCommand, ...] = (BusCommand.CMD_CALL,)
    dsm_mask: Hexadecimal64 = 0
    hw_error_scrub: Count = 0
    scrubs: Count = 0
    scrubbing: bool = False
    persistence_domain: PersistenceDomain = PersistenceDomain.NONE
    firmware_activation: FirmwareActivation = FirmwareActivation.NONE
    test_dimms: tuple[Hexadecimal32, ...] = ()
    dimms: tuple[DimmDescription, ...] = section("dimm")
    ranges: tuple[RangeDescription, ...] = section("range")

    @property
    def command_mask(self) -> int:
        """The commands as the kernel keeps them: bit ND_CMD_... for each."""
        return command_mask(self.commands)

    @property
    def can_scrub(self) -> bool:
        """Whether it answers all that a scrub takes."""
        return set(self.commands) >= set(SCRUB_COMMANDS)

    def dimm(self, name: str) -> DimmDescription:
        """The DIMM of a name; KeyError."""
        return _first(self.dimms, lambda dimm: dimm.name == name, name)

    def is_read_only(self, range_: RangeDescription) -> bool:
        """Whether the region of one of its ranges begins as read-only, which a DIMM that is not armed makes it, too."""
        return range_.read_only or any(
            DimmFlag.NOT_ARMED in self.dimm(mapping.dimm).flags for mapping in range_.mappings
        )

    @property
    def is_test_platform(self) -> bool:
        """Whether `nfit_test` makes its parent: no other platform device has an NFIT."""
        return self.parent.startswith(f"{PLATFORM_FOLDER}/")

    @property
    def dimms_by_handle(self) -> tuple[DimmDescription, ...]:
        """The DIMMs in the order in which the kernel numbers them."""
        return tuple(sorted(self.dimms, key=lambda dimm: dimm.handle))


@attrs.frozen
class PersonalityDescription:
    """A btt, pfn or dax device whose info block is on a namespace when the machine is new.

    Attributes:
        namespace: the namespace that it claims, by its sysfs name: namespace0.0.
        kind: the kind of device.
        uuid: its UUID.
        memmap: where a pfn or dax device keeps its struct pages.
        align: alignment of a pfn or dax device, bytes.
        sector_size: bytes of a btt's sector, metadata included.
    """

    namespace: str
    kind: PersonalityKind
    uuid: str
    memmap: MemmapLocation = MemmapLocation.PMEM
    align: Size = 0x200000
    sector_size: Count = 4096


@attrs.frozen
class UnreadableAttribute:
    """An attribute that fails to be read.

    Attributes:
        path: the file, without /sys; links are followed: bus/nd/devices/nmem0/nfit/dirty_shutdown.
        errno: the name of the errno that a read gets: EIO.
    """

    path: str
    errno: str


@attrs.frozen
class MachineDescription:
    """A machine.

    Attributes:
        name: a short name; by default the file's.
        description: what it is good for.
        kernel: the Linux version that it runs.
        ram: bytes of System RAM: up to 2 GiB from 0 on, the rest from 4 GiB upward.
        memmap: ranges of that RAM that are persistent memory of a legacy machine, as on the kernel's command line:
            "512M!4G,256M!6G".
        clock: what moves its clock: real, steps or manual.
        buses: its NFIT buses.
        personalities: btt, pfn and dax devices that are there from the beginning.
        unreadable: attributes that fail to be read.
    """

    name: str = ""
    description: str = ""
    kernel: str = "6.1"
    ram: Size = 4 * GIB
    memmap: str = ""
    clock: ClockMode = ClockMode.REAL
    buses: tuple[BusDescription, ...] = section("bus")
    personalities: tuple[PersonalityDescription, ...] = section("personality")
    unreadable: tuple[UnreadableAttribute, ...] = section("unreadable")


#: Every class of a file, from the machine down.
CLASSES: tuple[type[Any], ...] = (
    MachineDescription,
    BusDescription,
    DimmDescription,
    LabelArea,
    RangeDescription,
    MappingDescription,
    NamespaceDescription,
    BadBlocks,
    PersonalityDescription,
    UnreadableAttribute,
)

for _class in CLASSES:
    attrs.resolve_types(_class, globals(), include_extras=True)


def _first(items: tuple[_T, ...], accepts: Callable[[_T], bool], name: str) -> _T:
    for item in items:
        if accepts(item):
            return item
    raise KeyError(name)
