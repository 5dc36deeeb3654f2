"""The hardware of a guest: the options of QEMU and of the kernel that make the machine of a machine file.

Nothing here starts QEMU.  `qemu_machine` has what QEMU can give.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from nvdimmfs.formats.hmat import stated_types
from nvdimmfs.lab.device_names import names_in_order
from nvdimmfs.lab.nfit_test import NFIT_TEST
from nvdimmfs.lab.qemu_machine import (
    RANGE_ALIGNMENT,
    SLOTS,
    buses_of_qemu,
    machine_ram,
    memory_base,
    ram_of_nodes,
    require_possible,
)
from nvdimmfs.machine_file.model import FIRST_PCI_SLOT, BusDescription, MachineDescription, RangeDescription
from nvdimmfs.machine_file.node_access import values_of
from nvdimmfs.machine_file.words import BusPlatform, DimmFlag, PersistenceDomain
from nvdimmfs.mm.e820 import E820Type, parse_entries
from nvdimmfs.mm.pc_memory_map import LOW_RAM_LIMIT
from nvdimmfs.platforms.tables import label_area_name
from nvdimmfs.units import GIB, MIB, align_up

#: The end of the memory that fits in a guest, with room as for `SLOTS`.
_MOST_MEMORY = 256 * GIB

#: QEMU has RAM up to 2.75 GiB at address 0 unless a machine has more, or with this option (pc_q35_init).
_LOW_RAM = f"max-ram-below-4g={LOW_RAM_LIMIT // MIB}M"

_DOMAINS = {PersistenceDomain.CPU_CACHE: "cpu", PersistenceDomain.MEMORY_CONTROLLER: "mem-ctrl"}

#: The modules that announce memory, and the drivers, in the order in which a guest loads them.
_PLATFORM_MODULES = {BusPlatform.NFIT: ("nfit",), BusPlatform.VIRTIO_PMEM: ("virtio_pci", "virtio_pmem")}
_DRIVERS = ("nd_pmem", "dax_pmem", "device_dax")

#: What a PC of QEMU has by default, as on the machines of the recordings: a display and a network card take addresses
#: below 4 GiB, and for a CD drive the firmware takes a page of RAM.  The card reaches no network.
_PERIPHERALS = ("-vga", "std", "-nic", "user,model=e1000e,restrict=on", "-device", "ide-cd,bus=ide.2")


@attrs.frozen
class Backend:
    """Memory of QEMU that is a file of the host.

    Attributes:
        name: its name, in QEMU and as a file.
        size: bytes.
    """

    name: str
    size: int

    def option(self, folder: Path, *, shared: bool) -> str:
        """The value of -object; without `shared`, what the guest writes is lost when it ends."""
        path = str(folder / self.name).replace(",", ",,")
        words = ["memory-backend-file", f"id={self.name}", f"size={self.size}", f"mem-path={path}"]
        return ",".join([*words, f"share={'on' if shared else 'off'}", f"align={RANGE_ALIGNMENT}"])


@attrs.frozen
class Place:
    """Where in a file of the host some memory is.

    Attributes:
        backend: the name of the file.
        offset: the first byte in it.
        size: bytes.
        start: the physical address; -1 for a label area.
        label_area: the name of a label area, as in a folder of media; empty for memory with an address.
    """

    backend: str
    offset: int
    size: int
    start: int = -1
    label_area: str = ""


@attrs.frozen
class Hardware:
    """What a guest is made of, apart from its kernel and its programs.

    Attributes:
        machine: the machine, completed.
        backends: its memory.
        places: what is where in it.
        options: options of QEMU, without those that make the backends.
        memmap: the parameter of the kernel; empty without legacy ranges.
        platform_modules: the modules that announce its memory, to be loaded in this order.
        drivers: the modules to load after those.
        has_test_platform: whether it needs the modules of `nfit_test`.
    """

    machine: MachineDescription
    backends: tuple[Backend, ...]
    places: tuple[Place, ...]
    options: tuple[str, ...]
    memmap: str
    platform_modules: tuple[str, ...]
    drivers: tuple[str, ...]
    has_test_platform: bool = False

    @property
    def waits_for_host(self) -> bool:
        """Whether the host completes what a device does: a flush of virtio-pmem is an fsync(2) of the host."""
        return any(bus.platform is BusPlatform.VIRTIO_PMEM for bus in self.machine.buses)

    def arguments(self, folder: Path, *, shared: bool) -> list[str]:
        """The options of QEMU for a machine whose memory is in files of a folder."""
        objects = [word for each in self.backends for word in ("-object", each.option(folder, shared=shared))]
        return [*objects, *self.options]


def hardware_of(machine: MachineDescription, cpus: int = 1) -> Hardware:
    """Return the hardware of a completed machine.  ImpossibleMachineError for what QEMU cannot give.

    Args:
        machine: the machine; its kernel and clock are not a matter of hardware.
        cpus: the number of processors, all of node 0.
    """
    require_possible(machine)
    parts = [_ram(machine, cpus), *(_bus(bus) for bus in buses_of_qemu(machine))]
    return Hardware(
        machine,
        tuple(backend for part in parts for backend in part.backends),
        tuple(place for part in parts for place in part.places),
        (
            "-M",
            _board(machine),
            "-m",
            _memory(machine),
            "-smp",
            str(cpus),
            *_PERIPHERALS,
            *(word for part in parts for word in part.options),
        ),
        machine.memmap,
        tuple(_platform_modules(machine)),
        (*_DRIVERS, "dax_hmem") if E820Type.SOFT_RESERVED in _kinds_of_memmap(machine) else _DRIVERS,
        has_test_platform=buses_of_qemu(machine) != machine.buses,
    )


@attrs.frozen
class Part:
    """A part of the hardware; as in `Hardware`."""

    backends: tuple[Backend, ...]
    places: tuple[Place, ...]
    options: tuple[str, ...]


def _board(machine: MachineDescription) -> str:
    words = ["q35", "nvdimm=on"]
    if not _has_nodes(machine):
        words.append("memory-backend=ram0")
    if machine_ram(machine)[0].end == LOW_RAM_LIMIT:
        words.append(_LOW_RAM)
    if machine.node_accesses:
        words.append("hmat=on")
    buses = buses_of_qemu(machine)
    domains = [_DOMAINS[bus.persistence_domain] for bus in buses if bus.persistence_domain in _DOMAINS]
    return ",".join([*words, *(f"nvdimm-persistence={domain}" for domain in domains)])


def _memory(machine: MachineDescription) -> str:
    base = memory_base(machine)
    buses = buses_of_qemu(machine)
    end = max((range_.end - base for bus in buses for range_ in bus.ranges), default=0)
    slots = max((dimm.handle for bus in buses for dimm in bus.dimms), default=0)
    most = max(_MOST_MEMORY, align_up(machine.ram + end, GIB))
    return f"{machine.ram // MIB}M,slots={max(slots, SLOTS)},maxmem={most // MIB}M"


def _has_nodes(machine: MachineDescription) -> bool:
    return len(ram_of_nodes(machine)) > 1 or bool(machine.distances or machine.node_accesses)


def _ram(machine: MachineDescription, cpus: int) -> Part:
    """RAM, and the nodes that it belongs to.  QEMU has the nodes' RAM one after the other."""
    sizes = ram_of_nodes(machine) if _has_nodes(machine) else [machine.ram]
    backends = tuple(Backend(f"ram{node}", size) for node, size in enumerate(sizes) if size)
    return Part(backends, tuple(_ram_places(machine)), tuple(_node_options(machine, sizes, cpus)))


def _ram_places(machine: MachineDescription) -> Iterator[Place]:
    used: dict[int, int] = {}
    for span in machine_ram(machine):
        offset = used.get(span.nid, 0)
        yield Place(f"ram{span.nid}", offset, span.size, span.start)
        used[span.nid] = offset + span.size


def _node_options(machine: MachineDescription, sizes: list[int], cpus: int) -> Iterator[str]:
    if not _has_nodes(machine):
        return
    for node, size in enumerate(sizes):
        processors = f",cpus=0-{cpus - 1}" if node == 0 else ""
        if machine.node_accesses:
            processors += ",initiator=0"
        yield from ("-numa", f"node,nodeid={node}{processors}{f',memdev=ram{node}' if size else ''}")
    for one, row in enumerate(machine.distances):
        for other, distance in enumerate(row):
            if one != other:
                yield from ("-numa", f"dist,src={one},dst={other},val={distance}")
    yield from _access_options(machine)


def _access_options(machine: MachineDescription) -> Iterator[str]:
    """How fast the memory of nodes is, which QEMU's firmware writes into its HMAT."""
    targets = values_of(machine)
    for kind in stated_types(targets):
        data_type = kind.name.lower().replace("_", "-")
        for node, values in targets.items():
            if value := values[kind.directions[0]]:
                speed = f"latency={value}" if kind.is_latency else f"bandwidth={value}M"
                words = f"hmat-lb,initiator=0,target={node},hierarchy=memory,data-type={data_type},{speed}"
                yield from ("-numa", words)


def _bus(bus: BusDescription) -> Part:
    parts = [
        dimm_part(bus, range_, name) if bus.has_nfit else _virtio_device(bus, range_)
        for range_, name in zip(bus.ranges, names_in_order(len(bus.ranges)), strict=True)
    ]
    return Part(
        tuple(backend for part in parts for backend in part.backends),
        tuple(place for part in parts for place in part.places),
        tuple(option for part in parts for option in part.options),
    )


def dimm_part(bus: BusDescription, range_: RangeDescription, name: str) -> Part:
    """A DIMM.  QEMU has its label area at the end of its memory.

    Args:
        bus: the bus.
        range_: the range over the DIMM.
        name: the name of the device in QEMU.
    """
    dimm = bus.dimm(range_.mappings[0].dimm)
    backend = Backend(f"dimm{dimm.handle}", range_.size + dimm.label.size)
    words = [f"nvdimm,id={name},memdev={backend.name},slot={dimm.handle - 1},addr={range_.start:#x}"]
    places = [Place(backend.name, 0, range_.size, range_.start)]
    if range_.target_node > 0:
        words.append(f"node={range_.target_node}")
    if dimm.label.size:
        words.append(f"label-size={dimm.label.size}")
        places.append(Place(backend.name, range_.size, dimm.label.size, label_area=label_area_name(bus, dimm)))
    if DimmFlag.NOT_ARMED in dimm.flags:
        words.append("unarmed=on")
    return Part((backend,), tuple(places), ("-device", ",".join(words)))


def _virtio_device(bus: BusDescription, range_: RangeDescription) -> Part:
    """A virtio-pmem device, in the slot of PCI that the model names its parent after."""
    slot = int(bus.parent.split("/")[-2].rpartition(":")[2].partition(".")[0], 16)
    name = f"virtio{slot - FIRST_PCI_SLOT}"
    words = ["virtio-pmem-pci", f"memdev={name}", f"memaddr={range_.start:#x}", f"addr={slot:#x}"]
    place = Place(name, 0, range_.size, range_.start)
    return Part((Backend(name, range_.size),), (place,), ("-device", ",".join(words)))


def _kinds_of_memmap(machine: MachineDescription) -> set[int]:
    """The types of memory that memmap= makes."""
    return {entry.kind for entry in parse_entries(machine.memmap)} if machine.memmap else set()


def _platform_modules(machine: MachineDescription) -> Iterator[str]:
    if E820Type.PRAM in _kinds_of_memmap(machine):
        yield "nd_e820"
    yield from dict.fromkeys(module for bus in machine.buses for module in _modules_of(bus))


def _modules_of(bus: BusDescription) -> tuple[str, ...]:
    return (NFIT_TEST,) if bus.is_test_platform else _PLATFORM_MODULES[bus.platform]
