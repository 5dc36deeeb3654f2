"""The index files of libkmod, such as modules.dep.bin: sorted keys with values, searchable without reading it all.

A file is a trie.  Numbers are big-endian.  It begins with the magic, the version and a reference to the root; nodes
follow, each after its children.  A reference is the offset of a node in the low 28 bits, and in the high ones which
parts the node has, in this order:

- the prefix, a NUL-terminated text that every key below the node has next;
- the children: the first and the last character, a byte each, and a reference for each character between them, 0 for
  none;
- the values of the key that ends here: their number and, for each, its priority and its NUL-terminated text.

(libkmod/libkmod-index.c and tools/depmod.c of kmod 30.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import attrs

MAGIC = 0xB007F457
#: Version 2.1: the major number in the upper half.
VERSION = 2 << 16 | 1

_PREFIX = 0x80000000
_VALUES = 0x40000000
_CHILDREN = 0x20000000

_HEADER = struct.Struct(">III")
_NUMBER = struct.Struct(">I")


@attrs.frozen
class Entry:
    """A key with one of its values; the value with the lowest priority comes first."""

    key: str
    value: str
    priority: int = 0


@attrs.define(eq=False)
class _Node:
    prefix: bytes = b""
    children: dict[int, _Node] = attrs.Factory(dict)
    values: list[Entry] = attrs.Factory(list)

    def insert(self, key: bytes, entry: Entry) -> None:
        """Insert a value below this node; `key` begins with the prefix."""
        rest = key[len(self.prefix) :]
        if not rest:
            self._enter(entry)
            return
        child = self.children.get(rest[0])
        if child is None:
            child = self.children[rest[0]] = _Node(rest[1:])
        child.split(rest[1:])
        child.insert(rest[1:], entry)

    def split(self, key: bytes) -> None:
        """Shorten the prefix to what a key has, too; the rest moves into a child."""
        common = 0
        while common < min(len(key), len(self.prefix)) and key[common] == self.prefix[common]:
            common += 1
        if common == len(self.prefix):
            return
        child = _Node(self.prefix[common + 1 :], self.children, self.values)
        self.children, self.values = {self.prefix[common]: child}, []
        self.prefix = self.prefix[:common]

    def _enter(self, entry: Entry) -> None:
        """By priority; among equals the last comes first."""
        place = 0
        while place < len(self.values) and self.values[place].priority < entry.priority:
            place += 1
        self.values.insert(place, entry)

    def write(self, out: bytearray) -> int:
        """Append the children and the node; the reference to it."""
        references = b""
        if self.children:
            span = range(min(self.children), max(self.children) + 1)
            references = bytes((span[0], span[-1])) + b"".join(
                _NUMBER.pack(self.children[character].write(out) if character in self.children else 0)
                for character in span
            )
        reference = len(out)
        if self.prefix:
            out += self.prefix + b"\0"
            reference |= _PREFIX
        if references:
            out += references
            reference |= _CHILDREN
        if self.values:
            out += _NUMBER.pack(len(self.values))
            for entry in self.values:
                out += _NUMBER.pack(entry.priority) + entry.value.encode("ascii") + b"\0"
            reference |= _VALUES
        return reference


def write_index(entries: Iterable[Entry]) -> bytes:
    """Return the bytes of an index.  Keys and values are ASCII without NUL."""
    root = _Node()
    for entry in entries:
        root.insert(entry.key.encode("ascii"), entry)
    out = bytearray(_HEADER.size)
    reference = root.write(out)
    _HEADER.pack_into(out, 0, MAGIC, VERSION, reference)
    return bytes(out)
