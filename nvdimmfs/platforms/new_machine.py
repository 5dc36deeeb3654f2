"""What a machine file puts on media before the machine is used for the first time."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterable, Mapping

from attrs import frozen

from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.info_block import NULL_UUID
from nvdimmfs.formats.interleave import InterleaveSet
from nvdimmfs.formats.label import BTT2_GUID, BTT_GUID, DAX_GUID, PFN_GUID, PMEM_RANGE_GUID, NamespaceLabel
from nvdimmfs.kernfs import Attribute, Directory, Symlink
from nvdimmfs.machine_file.interleave import interleave_set
from nvdimmfs.machine_file.model import BusDescription, NamespaceDescription, PersonalityDescription, RangeDescription
from nvdimmfs.machine_file.words import PersonalityKind
from nvdimmfs.media.base import Media
from nvdimmfs.nd.label import LabelArea, write_new_labels

#: The type that a label gives a namespace that one kind of device alone may claim; a btt's depends on the labels.
_HOLDERS = {"": NULL_UUID, "pfn": PFN_GUID, "dax": DAX_GUID}


class NewMachineError(Exception):
    """What a machine file asks for cannot be put on media; the message is for people."""


def write_labels(bus: BusDescription, areas: Mapping[str, Media]) -> None:
    """Write the labels of a new bus's namespaces.

    Args:
        bus: the bus, completed.
        areas: the label areas, initialised, by the names of their DIMMs.
    """
    labelled = [range_ for range_ in bus.ranges if range_.namespaces]
    dimms = {mapping.dimm for range_ in labelled for mapping in range_.mappings}
    opened = {dimm: LabelArea(areas[dimm]) for dimm in dimms}
    labels: dict[str, list[NamespaceLabel]] = {dimm: [] for dimm in dimms}
    for range_ in labelled:
        members = interleave_set(bus, range_)
        for namespace in range_.namespaces:
            for position, mapping in enumerate(range_.mappings):
                label = _label(opened[mapping.dimm], range_, namespace, members, position)
                labels[mapping.dimm].append(label)
    for dimm in dimms:
        write_new_labels(areas[dimm], labels[dimm])


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
        abstraction_guid=_HOLDERS.get(namespace.holder_class, BTT_GUID if old else BTT2_GUID),
    )


@frozen
class Hands:
    """Does in /sys what a user does, to a machine that nobody uses yet."""

    system: System

    def set_up(self, personalities: Iterable[PersonalityDescription]) -> None:
        """Put info blocks on media, by binding devices."""
        for personality in personalities:
            try:
                self._set_up(personality)
            except KernelError as refusal:
                raise NewMachineError(f"no {personality.kind.value} on {personality.namespace}: {refusal}") from None

    def _set_up(self, personality: PersonalityDescription) -> None:
        number, _, _ = personality.namespace.removeprefix("namespace").partition(".")
        region, kind = f"region{number}", personality.kind.value
        device = "bus/nd/devices"
        if "driver" in self._directory(f"{device}/{personality.namespace}"):
            self._write(f"{device}/{personality.namespace}/driver/unbind", personality.namespace)
        seed = self._read(f"{device}/{region}/{kind}_seed")
        for name, value in _settings(personality).items():
            self._write(f"{device}/{seed}/{name}", value)
        driver = "dax_pmem" if personality.kind is PersonalityKind.DAX else "nd_pmem"
        self._write(f"bus/nd/drivers/{driver}/bind", seed)

    def _directory(self, path: str) -> Directory:
        """The directory at a path below /sys, links followed.  ENOENT, ENOTDIR."""
        place = self.system.sys
        for name in path.split("/"):
            node = place.find(name)
            if isinstance(node, Symlink):
                node = node.target
            if not isinstance(node, Directory):
                raise KernelError(errno.ENOTDIR, f"{node.path} is not a directory")
            place = node
        return place

    def attribute(self, path: str) -> Attribute[object]:
        """The attribute at a path below /sys, links followed.  ENOENT, ENOTDIR; EISDIR when it is none."""
        folder, _, name = path.rpartition("/")
        node = self._directory(folder).find(name)
        if not isinstance(node, Attribute):
            raise KernelError(errno.EISDIR, f"{path} is not an attribute")
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
