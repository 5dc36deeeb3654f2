"""The labels of a new machine, as its machine file describes them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from nvdimmfs.formats.info_block import NULL_UUID
from nvdimmfs.formats.interleave import InterleaveSet
from nvdimmfs.formats.label import BTT2_GUID, BTT_GUID, DAX_GUID, PFN_GUID, PMEM_RANGE_GUID, NamespaceLabel
from nvdimmfs.machine_file.interleave import interleave_set
from nvdimmfs.machine_file.model import BusDescription, NamespaceDescription, RangeDescription
from nvdimmfs.media.base import Media
from nvdimmfs.nd.label import LabelStorage, write_new_labels

#: The abstraction GUID for each holder class; that for a btt depends on the labels' version.
_HOLDERS = {"": NULL_UUID, "pfn": PFN_GUID, "dax": DAX_GUID}


def write_labels(bus: BusDescription, areas: Mapping[str, Media]) -> None:
    """Write the labels of a new bus's namespaces.

    Args:
        bus: the bus, completed.
        areas: the label areas, initialised, by the names of their DIMMs.
    """
    labelled = [range_ for range_ in bus.ranges if range_.namespaces]
    dimms = {mapping.dimm for range_ in labelled for mapping in range_.mappings}
    opened = {dimm: LabelStorage(areas[dimm]) for dimm in dimms}
    labels: dict[str, list[NamespaceLabel]] = {dimm: [] for dimm in dimms}
    for range_ in labelled:
        members = interleave_set(bus, range_)
        places = [
            (position, opened[mapping.dimm].is_version_1_1, labels[mapping.dimm])
            for position, mapping in enumerate(range_.mappings)
        ]
        for namespace in range_.namespaces:
            for position, old, of_dimm in places:
                of_dimm.append(_label(range_, namespace, members, position, old=old))
    for dimm in dimms:
        write_new_labels(areas[dimm], labels[dimm])


def _label(
    range_: RangeDescription, namespace: NamespaceDescription, members: InterleaveSet, position: int, *, old: bool
) -> NamespaceLabel:
    """The label of a namespace on one DIMM; `old`: of version 1.1."""
    ways = len(range_.mappings)
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
