"""What a platform's firmware lists, whether or not a driver is there to read it."""

from __future__ import annotations

import attrs

from nvdimmfs.core.device import Device
from nvdimmfs.core.system import System
from nvdimmfs.machine_file import model
from nvdimmfs.media.base import Media
from nvdimmfs.platforms.first_labels import write_labels
from nvdimmfs.platforms.storage import Storage


@attrs.frozen
class PlatformTables:
    """What the platform lists and the bytes behind it.

    Attributes:
        storage: the bytes.
        by_device: the tables, by the name of the device that each belongs to.
    """

    storage: Storage
    by_device: dict[str, model.BusDescription]
    _labelled: set[str] = attrs.field(factory=set, init=False)

    def label_areas(self, table: model.BusDescription) -> dict[str, Media]:
        """The label areas of a bus's DIMMs, by name.

        The first time, on new media, the labels that the machine file asks for are written to them.
        """
        areas = {
            dimm.name: self.storage.label_area(label_area_name(table, dimm), dimm.label)
            for dimm in table.dimms
            if dimm.label.size
        }
        if self.storage.is_new and table.parent not in self._labelled:
            write_labels(table, areas)
        self._labelled.add(table.parent)
        return areas

    def forget(self, table: model.BusDescription) -> None:
        """Lose all bytes of a bus: its memory was the driver's own and is free again."""
        for dimm in table.dimms:
            self.storage.forget_label_area(label_area_name(table, dimm))
        for range_ in table.ranges:
            self.storage.forget(range_.start, range_.size)


def label_area_name(table: model.BusDescription, dimm: model.DimmDescription) -> str:
    """What the storage calls a DIMM's label area."""
    return f"{table.provider}-{dimm.handle:x}"


class FirmwareDevice(Device):
    """A device of the firmware's tree, on the way to a bus."""


def firmware_parent(system: System, path: str, known: dict[str, Device]) -> Device | None:
    """What a path below /sys leads through before its last name, made where it is not known; None for nothing."""
    parent: Device | None = None
    names = path.removeprefix("devices/").split("/")
    for depth in range(1, len(names)):
        key = "/".join(names[:depth])
        if key not in known:
            known[key] = FirmwareDevice(system, names[depth - 1], parent)
            known[key].add()
        parent = known[key]
    return parent
