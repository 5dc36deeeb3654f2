"""The checks of a machine that go beyond the types of single values.

`problems` yields the key path of each error, and a message that includes a correction.
"""

from __future__ import annotations

import errno
import functools
import re
from collections.abc import Iterator

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.faults.rule import RuleError
from nvdimmfs.formats.btt import LBASIZES
from nvdimmfs.kernels.kernel import EMULATED_KERNELS, KERNELS
from nvdimmfs.machine_file.defaults import completed, legacy_entries
from nvdimmfs.machine_file.dimm_checks import Problem, dimm_problems
from nvdimmfs.machine_file.effect_checks import effect_problems
from nvdimmfs.machine_file.faults import rule_of_description
from nvdimmfs.machine_file.model import (
    PCI_FOLDER,
    PLATFORM_FOLDER,
    BusDescription,
    MachineDescription,
    PersonalityDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.ram import installed_ram
from nvdimmfs.machine_file.ram_checks import ram_problems
from nvdimmfs.machine_file.range_checks import choice_problem, range_problems, uuid_problem
from nvdimmfs.machine_file.values import shown
from nvdimmfs.machine_file.words import SCRUB_COMMANDS, BusPlatform, PersonalityKind, RangeKind
from nvdimmfs.mm.memmap_option import MemmapError, check_memmap
from nvdimmfs.mm.pc_memory_map import HIGH_RAM_START, MINIMUM_RAM, Ram, build_iomem, installed_memory
from nvdimmfs.mm.resource import Resource
from nvdimmfs.units import ALIGNMENTS, GIB, align_up

_NAMESPACE = re.compile(r"namespace[0-9]+\.[0-9]+")
_PROVIDER = re.compile(r"[!-.0-~]+")

#: Devices of other kinds: folders that hold only these, and names of such devices beside those of the test platform.
_FOLDERS_OF_OTHERS = ("devices/system", "devices/virtual")
_OTHER_PLATFORM_DEVICE = re.compile(r"e820_pmem$|hmem\.")

#: The kernels that got the drivers virtio_pmem and of_pmem.
_FIRST_KERNELS = {BusPlatform.VIRTIO_PMEM: "5.3", BusPlatform.DEVICE_TREE: "4.17"}

#: The devices of a device tree and of virtio.
_TREE_DEVICE = re.compile(rf"{PLATFORM_FOLDER}/[0-9a-f]{{1,16}}\.[^./]+")
_VIRTIO_DEVICE = re.compile(r"/virtio[0-9]+$")

#: Largest length of a file name, in bytes (include/uapi/linux/limits.h).
NAME_MAX = 255


def checked(machine: MachineDescription) -> tuple[MachineDescription, tuple[Problem, ...]]:
    """Return the machine with all omitted values filled in, and its errors.

    This is done once for each machine: a command reads a file, and then selects the machine in it; a test suite boots
    few machines many times.  With files, it is done each time, as these may have changed.
    """
    has_files = any(dimm.label.file for bus in machine.buses for dimm in bus.dimms)
    return _checked(machine) if has_files else _checked_once(machine)


def _checked(machine: MachineDescription) -> tuple[MachineDescription, tuple[Problem, ...]]:
    whole = completed(machine)
    return whole, tuple(problems(whole))


_checked_once = functools.lru_cache(maxsize=16)(_checked)


def problems(machine: MachineDescription) -> Iterator[Problem]:
    """Yield all errors of a completed machine."""
    yield from _machine(machine)
    yield from _faults(machine)
    yield from _memory(machine)
    for index, bus in enumerate(machine.buses):
        yield from _bus(bus, f"bus[{index}]")
    yield from _order_of_platforms(machine)
    yield from _unique_parents(machine)
    yield from _unique_uuids(machine)
    yield from effect_problems(machine)


def _machine(machine: MachineDescription) -> Iterator[Problem]:
    for key in ("name", "description"):
        text: str = getattr(machine, key)
        if not text.isprintable():
            yield key, f"{shown(text)} has unprintable characters; remove them"
    if machine.kernel not in EMULATED_KERNELS:
        yield "kernel", f'"{machine.kernel}" is not emulated; the emulated kernels are {", ".join(EMULATED_KERNELS)}'
    if not machine.memmap and not machine.buses:
        yield "", 'the machine has no persistent memory; add a [[bus]], or memmap = "512M!4G" for a legacy machine'
    yield from ram_problems(machine)
    if machine.acpi_tables:
        from nvdimmfs.machine_file.acpi_table import table_problems  # which few machines have

        yield from table_problems(machine)
    for index, personality in enumerate(machine.personalities):
        yield from _personality(personality, f"personality[{index}]")
    for index, unreadable in enumerate(machine.unreadable):
        path = f"unreadable[{index}]"
        if not _is_relative(unreadable.path):
            yield (
                f"{path}.path",
                f'"{unreadable.path}" is not a path below /sys; write for example bus/nd/devices/nmem0/state',
            )
        if unreadable.errno not in errno.errorcode.values():
            yield f"{path}.errno", f'"{unreadable.errno}" is not the name of an errno; write for example EIO'


def _faults(machine: MachineDescription) -> Iterator[Problem]:
    names: set[str] = set()
    for index, fault in enumerate(machine.faults):
        path = f"fault[{index}]"
        try:
            rule_of_description(fault)
        except RuleError as error:
            yield f"{path}.{error.key.replace('-', '_')}" if error.key else path, error.problem
        if fault.name and fault.name in names:
            yield f"{path}.name", f'"{fault.name}" is also the name of another fault; names must be unique'
        names.add(fault.name)


def _is_relative(path: str) -> bool:
    return path.isprintable() and all(part not in ("", ".", "..") for part in path.split("/"))


def _personality(personality: PersonalityDescription, path: str) -> Iterator[Problem]:
    if not _NAMESPACE.fullmatch(personality.namespace):
        yield f"{path}.namespace", f'"{personality.namespace}" is not the name of a namespace such as namespace0.0'
    yield from uuid_problem(personality.uuid, f"{path}.uuid")
    if personality.kind is PersonalityKind.BTT:
        yield from choice_problem(personality.sector_size, LBASIZES, f"{path}.sector_size")
    else:
        yield from choice_problem(personality.align, ALIGNMENTS, f"{path}.align")


def _unique_uuids(machine: MachineDescription) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for path, text in _uuids(machine):
        first = seen.setdefault(text.lower(), path)
        if first != path:
            yield path, f'"{text}" is also the uuid of {first.removesuffix(".uuid")}; uuids must be unique'


def _uuids(machine: MachineDescription) -> Iterator[tuple[str, str]]:
    for bus_index, bus in enumerate(machine.buses):
        for range_index, range_ in enumerate(bus.ranges):
            for index, namespace in enumerate(range_.namespaces):
                yield f"bus[{bus_index}].range[{range_index}].namespace[{index}].uuid", namespace.uuid
    for index, personality in enumerate(machine.personalities):
        yield f"personality[{index}].uuid", personality.uuid


@attrs.frozen
class _Span:
    """Physical addresses that RAM, memmap or a range occupies."""

    start: int
    end: int
    owner: str

    def __str__(self) -> str:
        return f"{self.owner} ({self.start:#x}-{self.end - 1:#x})"


def _memory(machine: MachineDescription) -> Iterator[Problem]:
    """Check memmap, and that RAM, persistent memory of memmap and ranges do not overlap."""
    has_ram = next(ram_problems(machine), None) is None
    ram = installed_ram(machine) if has_ram else MINIMUM_RAM
    occupied = [_Span(span.start, span.end, "RAM") for span in installed_memory(ram) if has_ram]
    if machine.memmap:
        try:
            check_memmap(machine.memmap, ram)
        except MemmapError as error:
            yield "memmap", str(error)
        else:
            occupied += _legacy(machine)
    for bus_index, bus in enumerate(machine.buses):
        for range_index, range_ in enumerate(bus.ranges):
            path = f"bus[{bus_index}].range[{range_index}]"
            if range_.start < 0 or range_.size <= 0:
                continue
            span = _Span(range_.start, range_.end, path)
            conflict = next((other for other in occupied if other.start < span.end and span.start < other.end), None)
            if conflict is not None:
                yield f"{path}.start", f"{span.start:#x}-{span.end - 1:#x} overlaps {conflict}; {_correction(conflict)}"
            elif range_.kind is RangeKind.PMEM and has_ram and _meets_devices(span, ram):
                where = f"{span.start:#x}-{span.end - 1:#x} is partly at addresses of devices"
                yield f"{path}.start", f"{where}; start at {HIGH_RAM_START:#x} or above"
            occupied.append(span)


def _meets_devices(span: _Span, ram: Ram) -> bool:
    """Whether the kernel refuses a resource of its own for a range, because it overlaps others in part."""
    if span.start >= HIGH_RAM_START:
        return False
    try:
        build_iomem("", ram).insert(Resource("Persistent Memory", span.start, span.end - 1))
    except KernelError:
        return True
    return False


def _legacy(machine: MachineDescription) -> Iterator[_Span]:
    for entry in legacy_entries(machine):
        yield _Span(entry.start, entry.end, "memmap")


def _correction(conflict: _Span) -> str:
    return f"start at {align_up(conflict.end, GIB):#x}, or omit start"


def _unique_parents(machine: MachineDescription) -> Iterator[Problem]:
    """Check that no two buses have the same parent, and no parent contains another one."""
    parents: dict[str, str] = {}
    for index, bus in enumerate(machine.buses):
        path = f"bus[{index}]"
        if bus.parent in parents:
            yield f"{path}.parent", f'"{bus.parent}" is also the parent of {parents[bus.parent]}; choose another device'
        parents.setdefault(bus.parent, path)
    for parent, path in parents.items():
        outer = next((other for other in parents if parent.startswith(f"{other}/")), None)
        if outer is not None:
            yield f"{path}.parent", f'"{parent}" is inside the parent of {parents[outer]}; choose another device'


def _parent(parent: str, path: str) -> Iterator[Problem]:
    example = f"write for example {PLATFORM_FOLDER}/nfit_test.0"
    folder, _, name = parent.rpartition("/")
    if not _is_relative(parent) or not parent.startswith("devices/"):
        yield path, f"{shown(parent)} is not a device such as {PLATFORM_FOLDER}/nfit_test.0"
    elif any(len(word.encode()) > NAME_MAX for word in parent.split("/")):
        yield path, f"{shown(parent)} has a name of more than {NAME_MAX} bytes; {example}"
    elif parent.startswith(_FOLDERS_OF_OTHERS) or (folder == PLATFORM_FOLDER and _OTHER_PLATFORM_DEVICE.match(name)):
        yield path, f"{shown(parent)} is reserved for other devices; {example}"
    elif parent.startswith(f"{PLATFORM_FOLDER}/") and folder != PLATFORM_FOLDER:
        yield path, f"{shown(parent)} is not directly in {PLATFORM_FOLDER}; {example}"
    elif parent == PLATFORM_FOLDER:
        yield path, f"{shown(parent)} is a folder of devices; {example}"


def _platform(bus: BusDescription, path: str) -> Iterator[Problem]:
    """Check what a bus without an NFIT cannot have."""
    if bus.has_nfit:
        return
    platform = bus.platform.value
    bare = BusDescription(bus.provider, bus.platform, bus.parent, commands=(), ranges=bus.ranges)
    for field in attrs.fields(BusDescription):
        if getattr(bus, field.name) != getattr(bare, field.name):
            yield f"{path}.{field.metadata.get('key', field.name)}", f"a bus of {platform} does not have it; remove it"
    if not bus.ranges:
        yield path, f'a bus of {platform} is made of ranges; add a [[bus.range]] with size = "1G"'
    elif bus.platform is BusPlatform.VIRTIO_PMEM and len(bus.ranges) > 1:
        yield f"{path}.range[1]", "a virtio device has one range; give the other one a [[bus]] of its own"
    for index, range_ in enumerate(bus.ranges):
        yield from _plain_range(bus, range_, f"{path}.range[{index}]")
    if bus.platform is BusPlatform.DEVICE_TREE and not _TREE_DEVICE.fullmatch(bus.parent):
        yield f"{path}.parent", f"{shown(bus.parent)} is not a device such as {PLATFORM_FOLDER}/180000000.pmem"
    if bus.platform is BusPlatform.VIRTIO_PMEM and not _VIRTIO_DEVICE.search(bus.parent):
        yield f"{path}.parent", f"{shown(bus.parent)} is not a device such as {PCI_FOLDER}/0000:00:03.0/virtio0"


def _plain_range(bus: BusDescription, range_: RangeDescription, path: str) -> Iterator[Problem]:
    """Check a range without DIMMs and labels."""
    for key, values in (("dimms", range_.mappings), ("namespace", range_.namespaces)):
        if values:
            yield f"{path}.{key}", f"a range of {bus.platform.value} has no DIMMs and labels; remove it"
    kinds = {RangeKind.PMEM} | ({RangeKind.VOLATILE} if bus.platform is BusPlatform.DEVICE_TREE else set())
    if range_.kind not in kinds:
        yield f"{path}.kind", f"a range of {bus.platform.value} is {' or '.join(sorted(each.value for each in kinds))}"
    elif range_.kind is not bus.ranges[0].kind:
        yield f"{path}.kind", "all ranges of a node are of one kind; give this one a [[bus]] of its own"


def _order_of_platforms(machine: MachineDescription) -> Iterator[Problem]:
    """The kernel numbers buses in the order in which modules announce them."""
    order = list(BusPlatform)
    for index, bus in enumerate(machine.buses):
        since = _FIRST_KERNELS.get(bus.platform)
        if since and machine.kernel in KERNELS and not KERNELS[machine.kernel].has(since):
            yield f"bus[{index}].platform", f"Linux {machine.kernel} has no driver for {bus.platform.value}"
    for index in range(1, len(machine.buses)):
        before, bus = machine.buses[index - 1], machine.buses[index]
        if order.index(bus.platform) < order.index(before.platform):
            yield (
                f"bus[{index}].platform",
                f"buses of {bus.platform.value} come before those of {before.platform.value}; move it up",
            )


def _bus(bus: BusDescription, path: str) -> Iterator[Problem]:
    if not _PROVIDER.fullmatch(bus.provider):
        yield f"{path}.provider", f'"{bus.provider}" is not a word such as ACPI.NFIT or nfit_test.0'
    else:
        yield from _parent(bus.parent, f"{path}.parent")
    if bus.hw_error_scrub > 1:
        yield f"{path}.hw_error_scrub", f"{bus.hw_error_scrub} is neither 0 nor 1"
    if bus.scrubbing and not (bus.can_scrub and any(not range_.kind.is_virtual for range_ in bus.ranges)):
        needed = ", ".join(command.word for command in SCRUB_COMMANDS)
        yield f"{path}.scrubbing", f"a scrub needs the commands {needed} and a range; add them or omit scrubbing"
    if bus.revision >= 1 << 8:
        yield f"{path}.revision", f"{bus.revision} is too large; the maximum is 255"
    yield from _platform(bus, path)
    yield from dimm_problems(bus, path)
    yield from range_problems(bus, path)
