"""Everything that can be seen of a machine in process: each node of its tree, and the bytes that it has stored."""

from __future__ import annotations

from collections.abc import Iterator

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, BinaryFile, Directory, Node, Symlink
from nvdimmfs.machine.machine import Machine
from nvdimmfs.media.base import Media
from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.media.populated import PopulatedMedia

#: The file that says whether there is a checkpoint, which a description must not depend on.
CHECKPOINT = "/sys/kernel/debug/nvdimmfs/checkpoint"


def described(machine: Machine) -> list[tuple[object, ...]]:
    """The nodes in order, with modes, contents, targets and sizes; uevents sent; all stored bytes.

    Reading takes time and has effects, as user space's reads have.
    """
    system, storage = machine.system, machine.storage
    stored = sorted((str(key), _bytes(media)) for key, media in {**storage._media, **storage._label_areas}.items())
    before = [("uevents", system._uevent_sequence), ("now", system.clock.now), ("writes", system.writes), *stored]
    return [*before, *_nodes(machine.tree.root)]


def _bytes(media: Media) -> tuple[tuple[int, bytes], ...]:
    while isinstance(media, PopulatedMedia):
        media = media.media
    assert isinstance(media, MemoryMedia)
    return tuple((offset, bytes(piece)) for offset, piece in media.contents())


def _nodes(directory: Directory) -> Iterator[tuple[object, ...]]:
    for node in list(directory):
        if node.path == CHECKPOINT:
            continue
        yield (node.path, type(node).__name__, node.mode, _content(node))
        if isinstance(node, Directory):
            yield from _nodes(node)


def _content(node: Node) -> object:
    match node:
        case Attribute():
            try:
                return node.show(), node.events
            except KernelError as refusal:
                return refusal.errno
        case Symlink():
            return node.text
        case BinaryFile():
            return node.size
        case Directory():
            return node.subdirectories
    return None
