"""What a machine file puts on media before the machine is used for the first time."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from attrs import frozen

from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.interleave import InterleaveSet
from nvdimmfs.formats.label import BTT2_GUID, BTT_GUID, DAX_GUID, PFN_GUID, PMEM_RANGE_GUID, NamespaceLabel
from nvdimmfs.kernfs import Attribute, Directory, Symlink
from nvdimmfs.machine_file.interleave import interleave_set
from nvdimmfs.machine_file.model import (
    BusDescription,
    NamespaceDescription,
    PersonalityDescription,
    PersonalityKind,
    RangeDescription,
)
from nvdimmfs.media.base import Media
from nvdimmfs.nd.label import LabelArea

#: The namespace type that a label says, for each kind of device that alone may claim it; a btt's depends on the labels.
_HOLDERS = {"pfn": PFN_GUID, "dax": DAX_GUID}
_NOBODY = uuid.UUID(int=0)


class NewMachineError(Exception):
    """What a machine file asks for cannot be put on media; the message is for people."""


def write_labels(bus: BusDescription, areas: Mapping[str, Media]) -> None:
    """Write the labels of a new bus's namespaces.

    Args:
        bus: the bus, completed.
        areas: the label areas, initialised, by the names of their DIMMs.
    """
    opened = {name: LabelArea(media) for name, media in areas.items() if any(_labelled(bus, name))}
    for range_ in bus.ranges:
        members = interleave_set(bus, range_)
        for namespace in range_.namespaces:
            for position, mapping in enumerate(range_.mappings):
                area = opened[mapping.dimm]
                area.write(_label(area, range_, namespace, members, position))


def _labelled(bus: BusDescription, dimm: str) -> Iterable[RangeDescription]:
    """The ranges over a DIMM in which there are namespaces."""
    for range_ in bus.ranges:
        if range_.namespaces and any(mapping.dimm == dimm for mapping in range_.mappings):
            yield range_


def _label(
    area: LabelArea, range_: RangeDescription, namespace: NamespaceDescription, members: InterleaveSet, position: int
) -> NamespaceLabel:
    ways = len(range_.mappings)
    old = area.is_version_1_1
    return NamespaceLabel(
        uuid=uuid.UUID(namespace.uuid),
        name=namespace.alt_name.encode(),
        nlabel=ways,
        position=position,
        isetcookie=members.cookie1 if old else members.cookie2,
        lbasize=namespace.sector_size,
        dpa=range_.mappings[position].dpa + (namespace.start - range_.start) // ways,
        rawsize=namespace.size // ways,
        type_guid=PMEM_RANGE_GUID,
        abstraction_guid=_HOLDERS.get(namespace.holder_class, _btt_guid(old) if namespace.holder_class else _NOBODY),
    )


def _btt_guid(old: bool) -> uuid.UUID:
    return BTT_GUID if old else BTT2_GUID


@frozen
class Hands:
    """Does in /sys what a user does, to a machine that nobody uses yet."""

    system: System

    def set_up(self, personalities: Iterable[PersonalityDescription]) -> None:
        """Put info blocks on media and bind the regions again, as if the machine had booted with them there."""
        regions = []
        for personality in personalities:
            try:
                regions.append(self._set_up(personality))
            except KernelError as refusal:
                raise NewMachineError(f"no {personality.kind.value} on {personality.namespace}: {refusal}") from None
        for region in dict.fromkeys(regions):
            for verb in ("unbind", "bind"):
                self._write(f"bus/nd/drivers/nd_region/{verb}", region)
        self.system.rest()

    def _set_up(self, personality: PersonalityDescription) -> str:
        """Make a personality, and give the name of its region."""
        number, _, _ = personality.namespace.removeprefix("namespace").partition(".")
        region, kind = f"region{number}", personality.kind.value
        device = "bus/nd/devices"
        if "driver" in self._directory(f"{device}/{personality.namespace}").children:
            self._write(f"{device}/{personality.namespace}/driver/unbind", personality.namespace)
        seed = self._read(f"{device}/{region}/{kind}_seed")
        for name, value in _settings(personality).items():
            self._write(f"{device}/{seed}/{name}", value)
        driver = "dax_pmem" if personality.kind is PersonalityKind.DAX else "nd_pmem"
        self._write(f"bus/nd/drivers/{driver}/bind", seed)
        return region

    def _directory(self, path: str) -> Directory:
        """The directory at a path below /sys, links followed."""
        place = self.system.sys
        for name in path.split("/"):
            node = place.find(name)
            place_or_link = node.target if isinstance(node, Symlink) else node
            assert isinstance(place_or_link, Directory), f"{path} leads through directories"
            place = place_or_link
        return place

    def attribute(self, path: str) -> Attribute[object]:
        """The attribute at a path below /sys, links followed.  ENOENT."""
        folder, _, name = path.rpartition("/")
        node = self._directory(folder).find(name)
        assert isinstance(node, Attribute), f"{path} is an attribute"
        return node

    def _read(self, path: str) -> str:
        return self.attribute(path).show().decode().strip()

    def _write(self, path: str, text: str) -> None:
        self.attribute(path).store(f"{text}\n".encode())


def _settings(personality: PersonalityDescription) -> dict[str, str]:
    """What is written to the seed, in this order."""
    if personality.kind is PersonalityKind.BTT:
        own = {"sector_size": str(personality.sector_size)}
    else:
        own = {"mode": personality.memmap.value, "align": str(personality.align)}
    return own | {"uuid": personality.uuid, "namespace": personality.namespace}
