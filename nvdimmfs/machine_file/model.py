"""The classes of a machine file, which describe a machine with persistent memory.

A machine has buses, a bus has DIMMs and ranges of system physical addresses, and a range is interleaved over mappings
of DIMMs.  A value that the file omits has its default here.  Defaults that depend on the rest of the machine are filled
in by `defaults.completed`, before `load_machine` returns.  The classes of a DIMM are in `dimm_model`, the number types
in `values`, the words in `words`.

Terms are those of ACPI 6.4, section 5.2.25 (NFIT), and of drivers/acpi/nfit and drivers/nvdimm in Linux 6.1.
Identification numbers (vendor, serial, ...) are written as sysfs shows them, which is in the byte order of the SPD:
QEMU's vendor 0x8086 reads as 0x8680.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypeVar

import attrs

from nvdimmfs.core.clock import ClockMode
from nvdimmfs.faults.rule import Operation
from nvdimmfs.formats.ndctl import BusCommand, command_mask

# Users find all classes of a file here.
from nvdimmfs.machine_file.dimm_model import DimmDescription as DimmDescription
from nvdimmfs.machine_file.dimm_model import FirmwareDescription as FirmwareDescription
from nvdimmfs.machine_file.dimm_model import HealthDescription as HealthDescription
from nvdimmfs.machine_file.dimm_model import LabelAreaDescription as LabelAreaDescription
from nvdimmfs.machine_file.values import (
    NODE_TO_BE_CHOSEN,
    TO_BE_CHOSEN,
    Address,
    Count,
    Hexadecimal32,
    Hexadecimal64,
    Index,
    NumaNode,
    Size,
    lists_as_tuples,
)
from nvdimmfs.machine_file.words import (
    SCRUB_COMMANDS,
    BusPlatform,
    DimmFlag,
    FirmwareActivation,
    MemmapLocation,
    PersistenceDomain,
    PersonalityKind,
    RangeKind,
)
from nvdimmfs.units import GIB

#: Mappings that a region can have (ND_MAX_MAPPINGS, include/linux/libnvdimm.h, Linux 6.1).
MAXIMUM_MAPPINGS = 32

#: The parent of the bus of the ACPI driver (drivers/acpi/nfit), below /sys.
ACPI_PARENT = "devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00"
PLATFORM_FOLDER = "devices/platform"
#: The folder of the PCI devices of a machine, and the number of the first one that is a virtio device.
PCI_FOLDER = "devices/pci0000:00"
FIRST_PCI_SLOT = 3
ACPI_PROVIDER = "ACPI.NFIT"

_T = TypeVar("_T")


def section(key: str) -> tuple[Any, ...]:
    """A field that is an array of tables in the file, with a key in the singular: [[bus]]."""
    sections: tuple[Any, ...] = attrs.field(default=(), metadata={"key": key})
    return sections


@attrs.frozen
class MappingDescription:
    """The part of a DIMM that a range uses.  In a file, the DIMM's name alone is enough.

    Attributes:
        dimm: the name of a DIMM on the same bus.
        dpa: the first address within the DIMM; by default the first one after those of previous ranges.
        size: bytes on the DIMM; by default an equal share of the range, or the rest of the DIMM.
        position: position in the interleave set, from 0; by default the order of the region offsets if they are given,
            else that of the list.
        region_offset: offset in the range of the DIMM's first line (NFIT region offset), a part of the cookies.  By
            default 4 KiB times the position, so 0 with one DIMM.
    """

    dimm: str
    dpa: Address = TO_BE_CHOSEN
    size: Size = TO_BE_CHOSEN
    position: Index = TO_BE_CHOSEN
    region_offset: Address = TO_BE_CHOSEN


@attrs.frozen
class BadBlocks:
    """Bad sectors of 512 bytes.

    Attributes:
        sector: the first one, counted from the start of the range.
        count: number of sectors.
    """

    sector: Count
    count: Count = 1


@attrs.frozen(weakref_slot=False)
class NamespaceDescription:
    """A namespace that labels define when the machine is new.  Its DIMMs' label areas must be initialised.

    Attributes:
        uuid: its UUID.
        size: bytes, over all DIMMs of the range.
        start: its first physical address; by default the first one after the previous namespace.
        alt_name: its name, up to 63 bytes.
        sector_size: 512 or 4096; 0 if the label does not specify it.
        holder_class: the only kind of device that may claim it; empty for any.
    """

    uuid: str
    size: Size
    start: Address = TO_BE_CHOSEN
    alt_name: str = ""
    sector_size: Count = 0
    holder_class: str = ""

    def placed(self, start: int) -> Self:
        """The same at an address; attrs.evolve takes three times as long, and there may be ten thousand."""
        return type(self)(self.uuid, self.size, start, self.alt_name, self.sector_size, self.holder_class)

    def __reduce__(self) -> tuple[type[Self], tuple[str, int, int, str, int, str]]:
        """As its arguments, which takes less than half of the time: a daemon may be sent ten thousand."""
        return (
            type(self),
            (self.uuid, self.size, self.start, self.alt_name, self.sector_size, self.holder_class),
        )


@attrs.frozen(field_transformer=lists_as_tuples)
class RangeDescription:
    """A range of system physical addresses.  The kernel creates a region for each, in the order of the file.

    Attributes:
        start: its first physical address; by default the first multiple of 1 GiB above RAM and all previous ranges.
        size: size in bytes; by default the sum of its mappings.
        kind: the kind of memory.
        range_index: its number in the NFIT, unique on its bus, from 1; by default the largest previous one plus 1.
            Virtual kinds have 0.
        numa_node: the nearest NUMA node; by default 0, and none where no NFIT announces the range.
        target_node: the node that the memory belongs to when used as System RAM; -1 for none, and no such file.  By
            default numa_node, and 0 for a virtio device.
        read_only: whether its region is initially read-only; always so if one of its DIMMs is not armed.
        cookie: the value of the region's set_cookie, for all versions of labels; 0 computes it from DIMMs and offsets.
        mappings: the DIMMs that it is interleaved over, in the order of the NFIT (mapping0, mapping1, ...).
        namespaces: namespaces that labels define.
        badblocks: bad sectors.
    """

    start: Address = TO_BE_CHOSEN
    size: Size = TO_BE_CHOSEN
    kind: RangeKind = RangeKind.PMEM
    range_index: Index = TO_BE_CHOSEN
    numa_node: NumaNode = NODE_TO_BE_CHOSEN
    target_node: NumaNode = NODE_TO_BE_CHOSEN
    read_only: bool = False
    cookie: Hexadecimal64 = 0
    mappings: tuple[MappingDescription, ...] = section("dimms")
    namespaces: tuple[NamespaceDescription, ...] = section("namespace")
    badblocks: tuple[BadBlocks, ...] = ()

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.start + self.size


@attrs.frozen(field_transformer=lists_as_tuples)
class BusDescription:
    """An nvdimm bus.  The kernel names buses ndbusN in the order of the file.

    A bus of virtio-pmem or of a device tree has ranges without DIMMs, and nothing else.

    Attributes:
        provider: the name of its provider, for example ACPI.NFIT or nfit_test.0.  By default ACPI.NFIT, virtio-pmem, or
            the name of the device of a device tree, such as 180000000.pmem.
        platform: what announces its memory.
        parent: the sysfs folder of the bus's parent device, without /sys.  By default the ACPI device for ACPI.NFIT,
            the next virtio device, else a platform device with the name of the provider.
        revision: revision of the NFIT.
        commands: commands that the bus supports; with all of ars_cap, ars_start, ars_status it has nfit/scrub.
        dsm_mask: functions of the NFIT root device that the kernel allows, one bit each.
        hw_error_scrub: whether a memory error starts a full scrub: 0 or 1.
        scrubs: number of completed scrubs.
        scrubbing: whether a scrub is running; nfit/scrub then ends in "+".
        persistence_domain: how far a store must get to survive a power failure; shown by regions.
        firmware_activation: whether and how the bus activates the DIMMs' firmware.
        test_dimms: handles of the devices that nfit_test adds beside the bus to inject failures (nfit_test_dimm).
        dimms: its DIMMs.
        ranges: its ranges.
    """

    provider: str = ACPI_PROVIDER
    platform: BusPlatform = BusPlatform.NFIT
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
        """The commands as the kernel stores them: bit ND_CMD_... for each."""
        return command_mask(self.commands)

    @property
    def can_scrub(self) -> bool:
        """Whether it supports all commands that a scrub needs."""
        return set(self.commands) >= set(SCRUB_COMMANDS)

    @property
    def has_table(self) -> bool:
        """Whether the firmware has an NFIT for it at boot; without one it appears when a DIMM is plugged in."""
        return bool(self.dimms or self.ranges)

    def dimm(self, name: str) -> DimmDescription:
        """Return the DIMM with that name.  KeyError."""
        return _first(self.dimms, lambda dimm: dimm.name == name, name)

    def is_read_only(self, range_: RangeDescription) -> bool:
        """Whether the region of a range is initially read-only, by itself or because a DIMM is not armed."""
        return range_.read_only or any(
            DimmFlag.NOT_ARMED in self.dimm(mapping.dimm).flags for mapping in range_.mappings
        )

    @property
    def is_test_platform(self) -> bool:
        """Whether `nfit_test` creates its parent: no other platform device has an NFIT."""
        return self.has_nfit and self.parent.startswith(f"{PLATFORM_FOLDER}/")

    @property
    def has_nfit(self) -> bool:
        """Whether an NFIT announces its memory."""
        return self.platform is BusPlatform.NFIT

    @property
    def dimms_by_handle(self) -> tuple[DimmDescription, ...]:
        """The DIMMs in the order in which the kernel numbers them."""
        return tuple(sorted(self.dimms, key=lambda dimm: dimm.handle))


@attrs.frozen
class PersonalityDescription:
    """A btt, pfn or dax device whose info block is on a namespace when the machine is new.

    Attributes:
        namespace: the sysfs name of the namespace that it claims, for example namespace0.0.
        kind: the kind of device.
        uuid: its UUID.
        memmap: where the struct pages of a pfn or dax device are stored.
        align: alignment of a pfn or dax device, in bytes.
        sector_size: bytes of a btt's sector, including metadata.
    """

    namespace: str
    kind: PersonalityKind
    uuid: str
    memmap: MemmapLocation = MemmapLocation.PMEM
    align: Size = 0x200000
    sector_size: Count = 4096


@attrs.frozen
class UnreadableAttribute:
    """An attribute whose reads fail.

    Attributes:
        path: the file, without /sys, for example bus/nd/devices/nmem0/nfit/dirty_shutdown; links are followed.
        errno: the name of the errno of a read, for example EIO.
    """

    path: str
    errno: str


@attrs.frozen(field_transformer=lists_as_tuples)
class FaultDescription:
    """Something that fails on order, from the boot on.  It has one action: errno, short, garbage, delay, status,
    result, sectors, power_cut, notified or lost.

    Attributes:
        operation: what fails: a request of a process (open, read, write, ioctl, poll), or an act of the kernel.
        path: where: for a request, a shell pattern of paths below the mount, such as sys/bus/nd/devices/*/size; for an
            act of the kernel, one of names: a device, a medium (region0, nmem0), a DIMM or a bus.
        errno: the name or number of the errno with which it fails.
        short: the most bytes that it reads or writes.
        garbage: the seed of the bytes that replace those that it reads or writes.
        delay: the time by which it is prolonged, such as 500ms.
        status: the status that the firmware reports instead of executing a command.
        result: the result of a command that was executed: a negative errno, or bytes that were left alone.
        sectors: sectors of 512 bytes that are bad until they are written, first and number, such as 8+3.
        power_cut: whether the power of the machine is cut, so that no medium takes a write any more.
        notified: whether poll(2) reports a notification that there was none of.
        lost: whether poll(2) never reports a notification.
        command: the commands that fail, as words or numbers, cmd_call:N for one function; all without it.
        uid: the user whose requests fail.
        comm: the name of the processes whose requests fail.
        times: how often it fails; always without it.
        after: how often it works before it fails for the first time.
        name: a name with which the rule can be removed.
    """

    operation: Operation
    path: str
    errno: str = ""
    short: Index = TO_BE_CHOSEN
    garbage: Index = TO_BE_CHOSEN
    delay: str = ""
    status: Hexadecimal32 = TO_BE_CHOSEN
    result: str = ""
    sectors: str = ""
    power_cut: bool = False
    notified: bool = False
    lost: bool = False
    command: tuple[str, ...] = ()
    uid: Index = TO_BE_CHOSEN
    comm: str = ""
    times: Count = 0
    after: Count = 0
    name: str = ""


@attrs.frozen
class RamRangeDescription:
    """RAM, and the node that it belongs to.

    Attributes:
        size: bytes.
        start: its first physical address.  By default it follows the previous RAM, from address 0 on, around the hole
            for devices (2 GiB to 4 GiB) and the ranges whose start is given.
        numa_node: its node.
    """

    size: Size
    start: Address = TO_BE_CHOSEN
    numa_node: NumaNode = 0

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.start + self.size


@attrs.frozen
class NodeAccessDescription:
    """How fast the nearest processors reach the memory of a node, as in the HMAT.  What is 0 is not known.

    Attributes:
        node: the node of the memory.
        read_latency: nanoseconds.
        write_latency: nanoseconds; by default read_latency.
        read_bandwidth: MB/s.
        write_bandwidth: MB/s; by default read_bandwidth.
    """

    node: NumaNode
    read_latency: Count = 0
    write_latency: Index = TO_BE_CHOSEN
    read_bandwidth: Count = 0
    write_bandwidth: Index = TO_BE_CHOSEN


@attrs.frozen
class AcpiTableDescription:
    """A table of the firmware beside those that describe the machine's memory, such as Intel's PCAT.

    Attributes:
        signature: its name, of four capital letters or digits.
        revision: its revision.
        body: the bytes after its header, two hexadecimal digits each; spaces between them are ignored.
    """

    signature: str
    revision: Count = 1
    body: str = ""


@attrs.frozen(field_transformer=lists_as_tuples)
class MachineDescription:
    """A machine.

    Attributes:
        name: a short name; by default that of the file.
        description: the purpose of the machine.
        kernel: the Linux version that it runs.
        ram: bytes of System RAM: up to 2 GiB at address 0, the rest from 4 GiB upward, around the ranges whose start is
            given.  With ram_range, the sum of its sizes.
        ram_ranges: where that RAM is, and of which node; without it, all is of node 0.
        distances: the distance of each node to each, row by row, as in the SLIT: 10 to itself; by default 20 to others.
        node_accesses: how fast the memory of nodes is; without it, the machine has no HMAT.
        acpi_tables: what other tables the firmware has, for programs that read them; the kernel does nothing with them.
        memmap: parts of that RAM that are persistent memory of a legacy machine, as on the kernel's command line:
            "512M!4G,256M!6G".
        clock: the mode of its clock: wall time, the steps of user space, or advanced by hand.
        buses: its buses, except that of memmap=: those of an NFIT first, then those of virtio-pmem, then those of a
            device tree.
        personalities: btt, pfn and dax devices that exist when the machine is new.
        unreadable: attributes whose reads fail.
        faults: what else fails on order.
    """

    name: str = ""
    description: str = ""
    kernel: str = "6.1"
    ram: Size = 4 * GIB
    ram_ranges: tuple[RamRangeDescription, ...] = section("ram_range")
    distances: tuple[tuple[Count, ...], ...] = ()
    node_accesses: tuple[NodeAccessDescription, ...] = section("node_access")
    acpi_tables: tuple[AcpiTableDescription, ...] = section("acpi_table")
    memmap: str = ""
    clock: ClockMode = ClockMode.REAL
    buses: tuple[BusDescription, ...] = section("bus")
    personalities: tuple[PersonalityDescription, ...] = section("personality")
    unreadable: tuple[UnreadableAttribute, ...] = section("unreadable")
    faults: tuple[FaultDescription, ...] = section("fault")

    @property
    def ranges(self) -> tuple[RangeDescription, ...]:
        """The ranges of all buses."""
        return tuple(range_ for bus in self.buses for range_ in bus.ranges)


#: Every class of a file, from the machine down.
CLASSES: tuple[type[Any], ...] = (
    MachineDescription,
    RamRangeDescription,
    NodeAccessDescription,
    AcpiTableDescription,
    BusDescription,
    DimmDescription,
    LabelAreaDescription,
    HealthDescription,
    FirmwareDescription,
    RangeDescription,
    MappingDescription,
    NamespaceDescription,
    BadBlocks,
    PersonalityDescription,
    UnreadableAttribute,
    FaultDescription,
)

for _class in CLASSES:  # those of a DIMM are resolved already
    attrs.resolve_types(_class, globals(), include_extras=True)


def _first(items: tuple[_T, ...], accepts: Callable[[_T], bool], name: str) -> _T:
    for item in items:
        if accepts(item):
            return item
    raise KeyError(name)
