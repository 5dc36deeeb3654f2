"""Archives that a kernel unpacks at boot: cpio in the format newc.

Documentation/driver-api/early-userspace/buffer-format.rst (Linux 6.1) describes it.

The same files make the same archive: there are no times, owners or inode numbers of the host in it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

_MAGIC = b"070701"
_END = "TRAILER!!!"

#: What the header and the bytes of each file are padded to.
_ALIGNMENT = 4


@attrs.frozen
class Entry:
    """A file.

    Attributes:
        name: its path, without a slash at the beginning; folders precede what they contain.
        mode: type and permissions (st_mode).
        data: its bytes, or the text of a symbolic link.
    """

    name: str
    mode: int
    data: bytes = b""

    @classmethod
    def folder(cls, name: str) -> Entry:
        """A folder."""
        return cls(name, stat.S_IFDIR | 0o755)

    @classmethod
    def link(cls, name: str, target: str) -> Entry:
        """A symbolic link."""
        return cls(name, stat.S_IFLNK | 0o777, target.encode())

    @classmethod
    def file(cls, name: str, data: bytes, *, is_program: bool = False) -> Entry:
        """A regular file."""
        return cls(name, stat.S_IFREG | (0o755 if is_program else 0o644), data)


def archive(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield the parts of an archive.  ValueError for a file that the format has no room for."""
    for number, entry in enumerate(entries, 1):
        yield from _parts(entry, number)
    yield from _parts(Entry(_END, 0), 0)


def entries_below(folder: Path) -> Iterator[Entry]:
    """Yield what is in a folder of the host, by name: folders, regular files and symbolic links."""
    for path in sorted(folder.rglob("*")):
        name, mode = str(path.relative_to(folder)), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield Entry.link(name, str(path.readlink()))
        elif stat.S_ISDIR(mode):
            yield Entry.folder(name)
        elif stat.S_ISREG(mode):
            yield Entry.file(name, path.read_bytes(), is_program=bool(mode & 0o111))


def _parts(entry: Entry, inode: int) -> Iterator[bytes]:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    if len(entry.data) >> 32:
        raise ValueError(f"{entry.name}: {len(entry.data)} bytes are more than an archive can have in one file")
    header = _MAGIC + b"".join(b"%08x" % field for field in fields) + name
    yield header + bytes(-len(header) % _ALIGNMENT)
    yield entry.data + bytes(-len(entry.data) % _ALIGNMENT)
