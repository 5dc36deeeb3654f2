"""The mount table (/proc/PID/mountinfo, proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

#: A character in octal, as blanks, newlines and backslashes are written.
_OCTAL = re.compile(r"\\([0-7]{3})")

#: The option in which a FUSE file system shows who mounted it (fuse_show_options in fs/fuse/inode.c).
_USER = re.compile(r"(?:^|,)user_id=(\d+)(?:,|$)")


class Mount(NamedTuple):
    """A line of the mount table.

    Attributes:
        mountpoint: where it is mounted.
        type: the type of the file system.
        device: the device number of the file system, MAJOR:MINOR, which all its mounts share.
        source: what is mounted, as the file system names it.
        user: who mounted a FUSE file system; None for others.
    """

    mountpoint: Path
    type: str
    device: str
    source: str = ""
    user: int | None = None


def parse_mounts(table: bytes) -> list[Mount]:
    """The mounts, in the order of the table.

    Only a newline ends a line: the kernel escapes no other control character in a name.  Names are decoded as those of
    arguments and files, so that they can be compared.
    """
    return [_parse(line) for line in os.fsdecode(table).split("\n") if line]


def _parse(line: str) -> Mount:
    """Parse a line: fields 3 and 5 and, after a lone dash, type and source."""
    before, _, after = line.partition(" - ")
    _, _, device, _, mountpoint, *_ = before.split(" ")
    kind, source, *options = after.split(" ")
    user = _USER.search(options[-1]) if options else None
    path = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), mountpoint))
    return Mount(path, kind, device, source, None if user is None else int(user[1]))
