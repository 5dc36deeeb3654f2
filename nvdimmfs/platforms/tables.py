"""The tables in which platforms describe persistent memory, independent of loaded drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from nvdimmfs.core.device import Device
from nvdimmfs.core.system import System
from nvdimmfs.machine_file import model
from nvdimmfs.media.base import Media
from nvdimmfs.platforms.first_labels import write_labels
from nvdimmfs.platforms.storage import Storage

if TYPE_CHECKING:  # loaded when something is plugged in, with what reads machine files, and when a DIMM has firmware
    from nvdimmfs.machine_file.addition import Extended
    from nvdimmfs.platforms.dimm_firmware.firmware import BusFirmware


@attrs.frozen
class PlatformTables:
    """The tables of all platforms, and the memory that they describe.

    Attributes:
        storage: the bytes of the memory.
        by_device: the tables, by the name of the device that each belongs to.
        without_table: the devices that had no NFIT at boot, because there was nothing to describe.
        firmware: the firmware of the DIMMs that have some, by the parents of their buses.
    """

    storage: Storage
    by_device: dict[str, model.BusDescription]
    without_table: frozenset[str] = attrs.field(init=False)
    firmware: dict[str, BusFirmware] = attrs.field(factory=dict, init=False)
    _labelled: set[str] = attrs.field(factory=set, init=False)

    @without_table.default
    def _devices_without_table(self) -> frozenset[str]:
        return frozenset(name for name, table in self.by_device.items() if not table.has_table)

    def extend(self, addition: Extended) -> str:
        """Describe memory that was plugged in, and write the labels of its namespaces, unless it has labels already.

        Returns the name of the device whose table has changed.
        """
        table = addition.bus
        device = table.parent.rpartition("/")[2]
        writes_all = self._is_new(table)
        names = {dimm.name: label_area_name(table, dimm) for dimm in addition.new_dimms if dimm.label.size}
        new = {name for name, area in names.items() if not self.storage.keeps_label_area(area)}
        for range_ in addition.new_ranges:
            self.storage.install(range_.start, range_.end)
        areas = self.label_areas(table)
        labelled = tuple(
            range_
            for range_ in addition.new_ranges
            if range_.namespaces and {mapping.dimm for mapping in range_.mappings} <= new
        )
        if labelled and not writes_all:
            with self.storage.faults.suspended(), self.storage.transaction():
                write_labels(attrs.evolve(table, ranges=labelled), areas)
        self.by_device[device] = table
        return device

    def label_areas(self, table: model.BusDescription) -> dict[str, Media]:
        """The label areas of a bus's DIMMs, by name.

        The first call, on new media, writes the labels that the machine file describes.
        """
        is_new = self._is_new(table)
        areas = {
            dimm.name: self.storage.label_area(label_area_name(table, dimm), dimm.label)
            for dimm in table.dimms
            if dimm.label.size
        }
        if is_new:
            with self.storage.faults.suspended():
                write_labels(table, areas)
        self._labelled.add(table.parent)
        return areas

    def _is_new(self, table: model.BusDescription) -> bool:
        """Whether no labels were written for a bus: not by these tables, nor before the machine booted again."""
        names = (label_area_name(table, dimm) for dimm in table.dimms)
        is_labelled = table.parent in self._labelled or any(map(self.storage.keeps_label_area, names))
        return self.storage.is_new and not is_labelled

    def forget(self, table: model.BusDescription) -> None:
        """Discard all bytes of a bus, whose memory belonged to the driver and is freed."""
        self.storage.forget(
            (label_area_name(table, dimm) for dimm in table.dimms),
            ((range_.start, range_.size) for range_ in table.ranges),
        )


def label_area_name(table: model.BusDescription, dimm: model.DimmDescription) -> str:
    """The name of a DIMM's label area in the storage."""
    return f"{table.provider}-{dimm.handle:x}"


class FirmwareDevice(Device):
    """A device above a bus's parent in /sys/devices, such as LNXSYSTM:00."""


def firmware_parent(system: System, path: str, known: dict[str, Device]) -> Device | None:
    """The parent device in a path below /sys; missing devices are created.  None without a parent."""
    parent: Device | None = None
    names = path.removeprefix("devices/").split("/")
    for depth in range(1, len(names)):
        key = "/".join(names[:depth])
        if key not in known:
            known[key] = FirmwareDevice(system, names[depth - 1], parent)
            known[key].add()
        parent = known[key]
    return parent
