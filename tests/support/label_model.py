"""A DIMM with labels beside a dictionary of the expected labels."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import attrs
from hypothesis import strategies as st

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.label import LABEL_SIZE_1_1, LABEL_SIZE_1_2, LabelFlag, NamespaceLabel
from nvdimmfs.media.base import Media
from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.nd.label import LabelStorage, MappingLabels, init_label_area
from nvdimmfs.testing.strategies import a_label

MIB = 1 << 20

#: What QEMU gives a DIMM.
CONFIG_SIZE = 128 << 10

#: Few slots, so that they run out: six of version 1.1, three of 1.2.
SMALL_SIZE = 512 + 6 * LABEL_SIZE_1_1

#: How an area starts out: never written, so that Linux makes it one of version 1.2, or made by ndctl.
STARTS = (None, LABEL_SIZE_1_1, LABEL_SIZE_1_2)


def new_media(start: int | None, size: int = SMALL_SIZE, content: bytes = b"") -> MemoryMedia:
    media = MemoryMedia(size)
    media.write(0, content)
    if start:
        init_label_area(media, start)
    return media


def update(labels: MappingLabels, label: NamespaceLabel) -> None:
    """What changing a namespace means to one of its DIMMs (nd_pmem_namespace_label_update)."""
    labels.prepare(len(labels.labels) + 1)
    labels.write(attrs.evolve(label, flags=LabelFlag.UPDATING))
    labels.write(label)


def refusal(call: Callable[[], object]) -> int | None:
    """The errno with which something is refused; None when it is not."""
    try:
        call()
    except KernelError as error:
        return error.errno
    return None


@attrs.frozen
class Update:
    """Make a namespace, or give it another size and name."""

    number: int
    rawsize: int
    name: bytes


@attrs.frozen
class Delete:
    number: int


@attrs.frozen
class Rename:
    """Give a namespace another uuid; for one that is not there, or to one that is, nothing."""

    number: int
    to: int


@attrs.frozen
class Rebind:
    """Unbind the DIMM's driver and bind it again."""


Operation = Update | Delete | Rename | Rebind

NUMBERS = st.integers(1, 7)
OPERATIONS: st.SearchStrategy[list[Operation]] = st.lists(
    st.one_of(
        st.builds(Update, NUMBERS, st.integers(1, 9), st.binary(max_size=64)),
        st.builds(Update, NUMBERS, st.integers(1, 9), st.just(b"name")),
        st.builds(Delete, NUMBERS),
        st.builds(Rename, NUMBERS, NUMBERS),
        st.just(Rebind()),
    ),
    min_size=1,
    max_size=25,
)

#: What an area holds, without what changes from write to write: for each uuid size and name.
Model = dict[int, tuple[int, bytes]]


class Dimm:
    """A DIMM whose driver is bound, and a region on it."""

    def __init__(self, media: Media) -> None:
        self.media = media
        self.labels = MappingLabels(LabelStorage(media))

    def carry_out(self, operation: Operation) -> None:
        labels = self.labels
        match operation:
            case Update(number, rawsize, name):
                update(labels, a_label(number, rawsize, name))
            case Delete(number):
                labels.delete(UUID(int=number))
            case Rename(number, to) if labels.with_uuid(UUID(int=number)) and not labels.with_uuid(UUID(int=to)):
                (found,) = labels.with_uuid(UUID(int=number))
                labels.mark_outdated(UUID(int=number))
                update(labels, attrs.evolve(found, uuid=UUID(int=to)))
            case Rebind():
                self.labels = MappingLabels(LabelStorage(self.media))


def after(model: Model, operation: Operation) -> Model:
    """The model after an operation that is not refused."""
    match operation:
        case Update(number, rawsize, name):
            return {**model, number: (rawsize, name)}
        case Delete(number):
            return {key: value for key, value in model.items() if key != number}
        case Rename(number, to) if number in model and to not in model:
            return {**{key: value for key, value in model.items() if key != number}, to: model[number]}
    return model


def contents(media: Media) -> Model:
    """What a driver that binds now finds; at most one label of a uuid, and none in a slot not in use."""
    area = LabelStorage(media)
    found = area.active()
    assert len({label.uuid for label in found}) == len(found)
    assert area.nfree == area.layout.nslot - len(found)
    return {label.uuid.int: (label.rawsize, label.name.rstrip(b"\0")) for label in found}


def plain(model: Model) -> Model:
    return {number: (rawsize, name.rstrip(b"\0")) for number, (rawsize, name) in model.items()}
