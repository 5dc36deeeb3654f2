r"""The text of a dump: one line for each file, directory and link.

    # nvdimmfs dump 1
    drwxr-xr-x bus/nd/devices
    lrwxrwxrwx bus/nd/devices/region0 -> ../../../devices/platform/e820_pmem/ndbus0/region0
    -r--r--r-- devices/platform/e820_pmem/ndbus0/region0/size "536870912\n"
    -rw-r--r-- devices/platform/e820_pmem/ndbus0/region0/deep_flush ENXIO

docs/reference/dump.md describes it to users.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

import attrs

from nvdimmfs.errors import ERRNO_NAMES

#: The first line.  The number changes when an older release could not read the lines that follow.
HEADER = "# nvdimmfs dump 1"

_LINE = re.compile(
    r'(?P<mode>[-dlcbps][-rwxsStT]{9}) (?P<path>\S+)(?: -> (?P<target>\S*)| (?P<text>".*")| (?P<errno>E[A-Z0-9]+))?'
)
_UNSAFE = re.compile(rb"[^!-\[\]-~]")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


class DumpError(ValueError):
    """A text that is no dump; str() is one line with the place."""


@attrs.frozen
class Row:
    """A file, directory or link.

    Attributes:
        mode: type and permissions, as `ls -l` prints them.
        path: the path below /sys, without a leading slash.
        content: what a read returns; None for a directory, a link, and a file that cannot be read.
        target: the text of a link; None for all others.
        errno: the name of the errno with which a read fails; empty when none failed.
    """

    mode: str
    path: str
    content: bytes | None = None
    target: str | None = None
    errno: str = ""

    @property
    def is_directory(self) -> bool:
        return self.mode.startswith("d")

    @property
    def text(self) -> str:
        """The line."""
        if self.target is not None:
            rest = f" -> {_escaped(self.target)}"
        elif self.content is not None:
            rest = f" {json.dumps(self.content.decode('latin-1'))}"
        else:
            rest = f" {self.errno}" if self.errno else ""
        return f"{self.mode} {_escaped(self.path)}{rest}"


def errno_name(number: int) -> str:
    """The name of an errno, as a row has it."""
    return ERRNO_NAMES.get(number, f"E{number}")


def text_of(rows: Iterable[Row]) -> str:
    """The text of a dump: sorted by path, each directory before what it contains."""
    lines = [row.text for row in sorted(rows, key=lambda row: row.path.split("/"))]
    return "".join(f"{line}\n" for line in (HEADER, *lines))


def rows_of(text: str, name: str) -> Iterator[Row]:
    """The rows of a dump.  DumpError.

    Args:
        text: the dump.
        name: its name in errors.
    """
    header, *lines = text.split("\n")
    if header != HEADER:
        raise DumpError(f"{name}: not a dump: it does not begin with `{HEADER}`")
    if not lines or lines.pop():
        raise DumpError(f"{name}: not a whole dump: the last line has no end")
    for number, line in enumerate(lines, 2):
        row = _row(line)
        if row is None:
            raise DumpError(f"{name}: line {number} is not the line of a dump")
        yield row


def _row(line: str) -> Row | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    target, text = match["target"], match["text"]
    try:
        content = None if text is None else json.loads(text).encode("latin-1")
    except ValueError:
        return None
    target = None if target is None else _unescaped(target)
    return Row(match["mode"], _unescaped(match["path"]), content, target, match["errno"] or "")


def _escaped(text: str) -> str:
    r"""A path without spaces, backslashes, and what is no printable ASCII: each such byte becomes \xNN."""
    data = text.encode(errors="surrogateescape")
    return _UNSAFE.sub(lambda match: b"\\x%02x" % match[0][0], data).decode("ascii")


def _unescaped(text: str) -> str:
    data = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text).encode("latin-1", errors="replace")
    return data.decode(errors="surrogateescape")
