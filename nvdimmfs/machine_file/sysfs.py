"""Reading a sysfs, a real one or a copy, to make a machine file of it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from abc import ABC, abstractmethod
from pathlib import Path

#: No attribute is longer than a page; copies of a sysfs may be odd, but are not read for ever.
_LARGEST_ATTRIBUTE = 1 << 20

#: The chosen one of several numbers: `512 [4096]`.
_CHOSEN = re.compile(r"\[([0-9]+)\]")


class Sysfs(ABC):
    """A sysfs tree.  Paths have no leading slash; every link is followed."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """What is in a folder; nothing when it is not there."""

    @abstractmethod
    def is_folder(self, path: str) -> bool:
        """Whether a path leads to a folder."""

    @abstractmethod
    def is_link(self, path: str) -> bool:
        """Whether a path is a link itself."""

    @abstractmethod
    def real(self, path: str) -> str | None:
        """Where a path leads to, without links; None when it leads nowhere."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """The content of a file.  OSError with the errno that the kernel gave."""

    def numbered(self, folder: str, prefix: str) -> list[str]:
        """The names in a folder that are a prefix and a number, by number: nmem2 before nmem10."""
        pattern = re.compile(rf"{re.escape(prefix)}([0-9]+(?:\.[0-9]+)?)")
        matches = [match for name in self.names(folder) if (match := pattern.fullmatch(name))]
        return [match[0] for match in sorted(matches, key=lambda match: [int(part) for part in match[1].split(".")])]


class MountedSysfs(Sysfs):
    """A sysfs that is mounted somewhere, or a copy of one in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(entry.name for entry in (self._root / folder).iterdir())
        except OSError:
            return []

    def is_folder(self, path: str) -> bool:
        return (self._root / path).is_dir()

    def is_link(self, path: str) -> bool:
        return (self._root / path).is_symlink()

    def real(self, path: str) -> str | None:
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            return str((self._root / path).resolve(strict=True).relative_to(self._root))
        return None

    def read(self, path: str) -> bytes:
        """All that there is, until there is no more: sysfs says of every file that it has 4096 bytes.  OSError."""
        descriptor = os.open(self._root / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            chunks = b""
            while chunk := os.read(descriptor, _LARGEST_ATTRIBUTE):
                chunks += chunk
                if len(chunks) > _LARGEST_ATTRIBUTE:
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
            return chunks
        finally:
            os.close(descriptor)


class AttributeReader:
    """Reads attributes as values, and remembers which may only be read by root.

    Attributes:
        sysfs: where it reads.
        forbidden: attributes that this process may not read.
    """

    def __init__(self, sysfs: Sysfs) -> None:
        self.sysfs = sysfs
        self.forbidden: set[str] = set()

    def text(self, path: str) -> str | None:
        """An attribute without the newline at its end; None when it cannot be read."""
        try:
            return self.sysfs.read(path).decode(errors="replace").removesuffix("\n")
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                self.forbidden.add(path)
            return None

    def words(self, path: str) -> list[str]:
        """The words of an attribute."""
        return (self.text(path) or "").split()

    def chosen(self, path: str, default: int) -> int:
        """The number in brackets of those to choose from; `default` when there is none."""
        found = _CHOSEN.search(self.text(path) or "")
        return int(found[1]) if found else default

    def number(self, path: str, default: int) -> int:
        """A number, decimal or hexadecimal as it is; `default` when there is none."""
        try:
            return int(self.text(path) or "", 0)
        except ValueError:
            return default
