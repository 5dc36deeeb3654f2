"""The folder of `--nvdimm-report`: a page for each failing test of a run."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path

#: What the name of a page ends with.
_SUFFIX = ".nvdimm.html"

#: Characters of a test's id in the name of its page; a digest of the whole id follows.
_MOST_LETTERS = 80

_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")


def prepare(folder: Path) -> None:
    """Make the folder, and remove the pages of an earlier run.  OSError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
    for page in folder.glob(f"*{_SUFFIX}"):
        page.unlink()


def write_page(folder: Path, test: str, text: str) -> Path:
    """Write the page of a test and return its path.  OSError.

    Workers may write at the same time; a test that fails more than once has a page for each failure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    letters = _UNUSUAL.sub("-", test).strip("-")[-_MOST_LETTERS:]
    name = f"{letters}-{hashlib.sha256(test.encode(errors='surrogatepass')).hexdigest()[:8]}"
    number = 1
    while True:
        page = folder / f"{name}{f'-{number}' if number > 1 else ''}{_SUFFIX}"
        try:
            with page.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            number += 1
        else:
            return page
