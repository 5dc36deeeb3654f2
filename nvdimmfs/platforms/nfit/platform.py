"""Registers the buses of an NFIT with all devices of their tables (drivers/acpi/nfit/core.c, Linux 6.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from nvdimmfs.core.clock import Clock
from nvdimmfs.core.device import Device
from nvdimmfs.core.module import Module
from nvdimmfs.formats.ndctl import in_order
from nvdimmfs.machine_file import model, words
from nvdimmfs.machine_file.interleave import interleave_set
from nvdimmfs.media.base import Media, label_medium
from nvdimmfs.mm.resource import Resource, ResourceDescriptor, ResourceFlag
from nvdimmfs.nd.bus import NdLayer
from nvdimmfs.nd.dimm import NvdimmDescription
from nvdimmfs.nd.mapping import Mapping
from nvdimmfs.nd.poison import poison_registered
from nvdimmfs.nd.region import RegionDescription
from nvdimmfs.platforms.nfit.bus import NfitBus, NfitDimm, NfitRegion
from nvdimmfs.platforms.nfit.qemu_labels import LabelDsm
from nvdimmfs.platforms.tables import PlatformTables, label_area_name

if TYPE_CHECKING:  # loaded when a DIMM has firmware
    from nvdimmfs.platforms.dimm_firmware.firmware import BusFirmware


class NfitPlatform:
    """Registers a bus with all devices of its table."""

    #: Whether buffers are behind its addresses instead of memory.
    has_buffers = False

    def __init__(self, layer: NdLayer, module: Module, tables: PlatformTables) -> None:
        self._layer = layer
        self._module = module
        self._tables = tables
        self._buses: dict[Device, NfitBus] = {}

    def add(self, parent: Device, table: model.BusDescription) -> NfitBus:
        """Register DIMMs by handle, then regions in the table's order; the unbind of the parent unregisters them."""
        bus = self._buses[parent] = self._new_bus(parent, table)
        bus.add()
        parent.manage(lambda: self._remove(parent))
        self._register(bus)
        if table.scrubbing:
            bus.scrub.begin()
        return bus

    def update(self, parent: Device, table: model.BusDescription) -> None:
        """Register what is new in a table, in the same order, and scrub all ranges again (acpi_nfit_init).

        A root device that is made now has the revision 0: only a table that was there at boot has a header.
        """
        bus = self._buses.get(parent)
        if bus is None:
            bus = self.add(parent, attrs.evolve(table, revision=0))
        else:
            bus.table = attrs.evolve(table, revision=bus.table.revision)
            self._register(bus)
        if table.can_scrub:
            bus.scrub.begin()

    def _register(self, bus: NfitBus) -> None:
        """Register the DIMMs and ranges of a bus's table that are not registered yet."""
        areas = self._tables.label_areas(bus.table)
        for dimm in bus.table.dimms_by_handle:
            if dimm.name not in bus.dimms:
                bus.dimms[dimm.name] = self._add_dimm(bus, dimm, areas.get(dimm.name))
        for range_ in bus.table.ranges:
            if range_.start not in bus.region_starts:
                bus.region_starts.add(range_.start)
                self._add_region(bus, range_)

    def _new_bus(self, parent: Device, table: model.BusDescription) -> NfitBus:
        activates = table.firmware_activation is not words.FirmwareActivation.NONE
        firmware = self._firmware(parent.system.clock, table) if activates else None
        return NfitBus(self._layer, parent, self._module, table, firmware)

    def _new_dimm(
        self, bus: NfitBus, table: model.DimmDescription, description: NvdimmDescription, label_area: Media | None
    ) -> NfitDimm:
        if not table.has_firmware:
            return NfitDimm(bus, table, description, LabelDsm(label_area, locked=table.locked))
        firmware = self._firmware(bus.system.clock, bus.table).dimm(table)
        dimm = NfitDimm(bus, table, description, firmware)
        firmware.connect(label_area, dimm.health_event)
        if table.has_security_functions:
            dimm.secure()
        return dimm

    def _firmware(self, clock: Clock, table: model.BusDescription) -> BusFirmware:
        """The firmware of a bus, which keeps its state while no driver is bound."""
        from nvdimmfs.platforms.dimm_firmware.firmware import BusFirmware  # which most DIMMs have no need of

        known = self._tables.firmware
        if table.parent not in known:
            known[table.parent] = BusFirmware(clock)
        return known[table.parent]

    def _remove(self, parent: Device) -> None:
        bus = self._buses.pop(parent)
        bus.unregister()
        while bus.resources:
            bus.resources.pop().remove()

    def _add_dimm(self, bus: NfitBus, table: model.DimmDescription, label_area: Media | None) -> NfitDimm:
        description = NvdimmDescription(
            commands=in_order(table.commands),
            unarmed=words.DimmFlag.NOT_ARMED in table.flags,
            flush_hints=table.flush_hints > 0,
            security=None if table.security is words.SecurityState.NONE else table.security.value,
            frozen=table.frozen,
        )
        dimm = self._new_dimm(bus, table, description, label_area)
        bus.system.faults.aliases[dimm.name] = label_medium(label_area_name(bus.table, table))
        dimm.add()
        return dimm

    def _add_region(self, bus: NfitBus, range_: model.RangeDescription) -> None:
        if range_.kind is words.RangeKind.PMEM and not self.has_buffers:
            bus.resources.append(self._insert_resource(range_))
        mappings = tuple(
            Mapping(bus.dimms[mapping.dimm], mapping.dpa, mapping.size, mapping.position) for mapping in range_.mappings
        )
        for used in range_.mappings:
            bus.dimms[used.dimm].in_use = True
        domain = bus.table.persistence_domain
        description = RegionDescription(
            start=range_.start,
            size=range_.size,
            media=self._tables.storage.media(range_.start, range_.size),
            mappings=mappings,
            interleave_set=interleave_set(bus.table, range_),
            volatile=range_.kind.is_volatile,
            persistence_domain=None if domain is words.PersistenceDomain.NONE else domain.value,
            numa_node=range_.numa_node,
            target_node=range_.target_node,
            buffered=self.has_buffers,
        )
        number = self._layer.region_numbers.allocate()
        region = NfitRegion(bus, number, description, range_.range_index)
        region.read_only = region.read_only or range_.read_only
        poison_registered(region)
        region.add()
        if not range_.kind.is_virtual:
            bus.scrub.add(region)

    def _insert_resource(self, range_: model.RangeDescription) -> Resource:
        iomem = self._layer.memory.iomem
        end = range_.start + range_.size - 1
        return iomem.insert(
            Resource("Persistent Memory", range_.start, end, ResourceFlag.MEM, ResourceDescriptor.PERSISTENT_MEMORY)
        )
