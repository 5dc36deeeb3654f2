"""Reads the index files of kmod that `nvdimmfs.formats.kmod_index` writes (layout: there)."""

import struct

from nvdimmfs.formats.kmod_index import MAGIC, VERSION, Entry

HEADER = struct.Struct(">III")
NUMBER = struct.Struct(">I")
OFFSET, PREFIX, VALUES, CHILDREN = 0x0FFFFFFF, 0x80000000, 0x40000000, 0x20000000


def read_index(data):
    """All entries of an index, by key, each key's in their order."""
    magic, version, root = HEADER.unpack_from(data)
    assert (magic, version) == (MAGIC, VERSION)
    return list(_read(data, root, b""))


def _read(data, reference, key):
    place = reference & OFFSET
    if reference & PREFIX:
        prefix, place = _text(data, place)
        key += prefix
    children, first = b"", 0
    if reference & CHILDREN:
        first, last = data[place], data[place + 1]
        children = data[place + 2 : place + 2 + (last - first + 1) * NUMBER.size]
        place += 2 + len(children)
    if reference & VALUES:
        (count,) = NUMBER.unpack_from(data, place)
        place += NUMBER.size
        for _ in range(count):
            (priority,) = NUMBER.unpack_from(data, place)
            value, place = _text(data, place + NUMBER.size)
            yield Entry(key.decode("ascii"), value.decode("ascii"), priority)
    for character, (child,) in enumerate(NUMBER.iter_unpack(children), first):
        if child:
            yield from _read(data, child, key + bytes((character,)))


def _text(data, place):
    """A NUL-terminated text, and where it ends."""
    end = data.index(b"\0", place)
    return data[place:end], end + 1
