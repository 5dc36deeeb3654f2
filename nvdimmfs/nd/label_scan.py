"""Finding the namespaces that the labels on a region's DIMMs describe (scan_labels, namespace_devs.c, Linux 6.1)."""

from __future__ import annotations

import errno
import uuid

from nvdimmfs.core.sort import kernel_sorted
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.interleave import InterleaveSet
from nvdimmfs.formats.label import NamespaceLabel
from nvdimmfs.nd.label import MappingLabels
from nvdimmfs.nd.mapping import Mapping
from nvdimmfs.nd.namespace_pmem import NamespacePmem, claim_class_of, start_of
from nvdimmfs.nd.region import RegionDevice


def scan(region: RegionDevice) -> list[NamespacePmem]:
    """The namespaces of a region in the kernel's order, or one without size if there are none.

    ENODEV when labels contradict each other: a uuid that occurs twice or is missing on a DIMM, or extents outside the
    region.  Labels with another interleave set's cookie are ignored.
    """
    first = region.mappings[0]
    found: dict[uuid.UUID, list[NamespaceLabel]] = {}
    for label in _tracked(first).labels:
        if not first.start <= label.dpa <= first.end:
            continue
        if label.uuid in found:
            raise KernelError(errno.ENODEV, f"conflicting extents for {label.uuid}")
        chosen = _choose(region, label)
        if chosen:
            found[label.uuid] = chosen
    if not found:
        _tracked(first).clear()
        return [NamespacePmem(region)]
    for mapping in region.mappings:
        _tracked(mapping).keep(reversed(found))
    return _register_in_order(region, found)


def _tracked(mapping: Mapping) -> MappingLabels:
    if mapping.labels is None:
        raise KernelError(errno.ENODEV, f"{mapping.dimm.name} is disabled")
    return mapping.labels


def _choose(region: RegionDevice, label: NamespaceLabel) -> list[NamespaceLabel]:
    """A namespace's label on each DIMM; empty if the label belongs to another interleave set."""
    interleave_set = region.description.interleave_set
    cookie = _cookie(region, interleave_set) if interleave_set else 0
    if interleave_set is None or cookie == 0:
        raise KernelError(errno.ENODEV, f"{region.name} has no interleave set cookie")
    if label.isetcookie not in (cookie, interleave_set.altcookie):
        return []
    found = [_tracked(mapping).with_uuid(label.uuid) for mapping in region.mappings]
    type_guid = interleave_set.type_guid
    for position in range(len(found)):
        has_label = _has_label(found, type_guid, cookie, position)
        if not has_label and not _has_label(found, type_guid, interleave_set.altcookie, position):
            raise KernelError(errno.ENODEV, f"no label of {label.uuid} for position {position}")
    for mapping, labels in zip(region.mappings, found, strict=True):
        if not labels or not _within(labels[0], mapping):
            raise KernelError(errno.ENODEV, f"no label of {label.uuid} that fits {mapping.dimm.name}")
    chosen = [labels[0] for labels in found]
    if all(each.position for each in chosen):
        raise KernelError(errno.ENODEV, f"no label of {label.uuid} has position 0")
    return chosen


def _cookie(region: RegionDevice, interleave_set: InterleaveSet) -> int:
    data = region.mappings[0].dimm.data
    return interleave_set.cookie1 if data and data.labels.is_version_1_1 else interleave_set.cookie2


def _has_label(found: list[list[NamespaceLabel]], type_guid: uuid.UUID, cookie: int, position: int) -> bool:
    """Whether a DIMM has the label for a position, and no DIMM before it has two (has_uuid_at_pos).

    Args:
        found: the namespace's labels on each DIMM.
        type_guid: the range's.
        cookie: the interleave set's.
        position: of a DIMM in the interleave set.
    """
    for labels in found:
        candidates = [label for label in labels if label.isetcookie == cookie and label.has_type(type_guid)]
        for count, label in enumerate(candidates):
            if count:
                return False
            if label.nlabel == len(found) and label.position == position:
                return True
    return False


def _within(label: NamespaceLabel, mapping: Mapping) -> bool:
    start, end = label.dpa, label.dpa + label.rawsize
    return mapping.start <= start <= mapping.end and mapping.start < end <= mapping.end + 1


def _register_in_order(region: RegionDevice, found: dict[uuid.UUID, list[NamespaceLabel]]) -> list[NamespacePmem]:
    """The namespaces, with numbers assigned in the kernel's order.

    The kernel compares start addresses bytewise, and on x86-64 the least significant byte is the first (cmp_dpa).  A
    namespace whose extent was renamed counts as starting at the region's start.
    """

    def key(placed: tuple[int | None, list[NamespaceLabel]]) -> bytes:
        start, _ = placed
        return (region.start if start is None else start).to_bytes(8, "little")

    placed = [(start_of(region, labels[0].uuid), labels) for labels in found.values()]
    return [_namespace(region, start, labels) for start, labels in kernel_sorted(placed, key)]


def _namespace(region: RegionDevice, start: int | None, labels: list[NamespaceLabel]) -> NamespacePmem:
    first = next(label for label in labels if label.position == 0)
    namespace = NamespacePmem(region)
    namespace.uuid = first.uuid
    namespace.alt_name = first.name.partition(b"\0")[0]
    namespace.sector_size = first.lbasize
    namespace.claim_class = claim_class_of(first)
    size = sum(label.rawsize for label in labels)
    namespace.place_at(start if size else None, size)
    return namespace
