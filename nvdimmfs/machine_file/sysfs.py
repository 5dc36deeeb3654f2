"""Access to a sysfs, a real one or a copy, for recording a machine."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from abc import ABC, abstractmethod
from pathlib import Path

#: Size limit of a file, in bytes.  No attribute exceeds a page, but a copy of a sysfs can contain any file.
_LARGEST_ATTRIBUTE = 1 << 20

#: The selected one of several numbers: `512 [4096]`.
_CHOSEN = re.compile(r"\[([0-9]+)\]")


class Sysfs(ABC):
    """A sysfs tree.  Paths have no leading slash; links are followed."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """The names in a folder; empty when it does not exist."""

    @abstractmethod
    def is_folder(self, path: str) -> bool:
        """Whether a path, or the target of the link there, is a folder."""

    @abstractmethod
    def is_link(self, path: str) -> bool:
        """Whether the path itself is a link."""

    @abstractmethod
    def real(self, path: str) -> str | None:
        """The path with all links resolved; None when it does not exist in this sysfs."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """The content of a file.  OSError with the kernel's errno."""

    def numbered(self, folder: str, prefix: str) -> list[str]:
        """The names in a folder that consist of a prefix and a number, sorted by number: nmem2 before nmem10."""
        pattern = re.compile(rf"{re.escape(prefix)}([0-9]+(?:\.[0-9]+)?)")
        matches = [match for name in self.names(folder) if (match := pattern.fullmatch(name))]
        return [match[0] for match in sorted(matches, key=lambda match: [int(part) for part in match[1].split(".")])]


class MountedSysfs(Sysfs):
    """A mounted sysfs, or a copy of one in a folder."""

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
        """Read until the end of the file: the size that sysfs reports is always 4096 bytes.  OSError."""
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
    """Reads attributes as values, and records which ones only root can read.

    Attributes:
        sysfs: the sysfs that it reads.
        forbidden: attributes that this process has no permission to read.
    """

    def __init__(self, sysfs: Sysfs) -> None:
        self.sysfs = sysfs
        self.forbidden: set[str] = set()

    def text(self, path: str) -> str | None:
        """The content of an attribute without its final newline; None when it cannot be read."""
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
        """The number in brackets, which is the selected one; `default` when there is none."""
        found = _CHOSEN.search(self.text(path) or "")
        return int(found[1]) if found else default

    def number(self, path: str, default: int) -> int:
        """The value of an attribute that is a number, decimal or hexadecimal; `default` when it is not."""
        try:
            return int(self.text(path) or "", 0)
        except ValueError:
            return default
