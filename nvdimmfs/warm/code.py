"""The files of the code that this process runs, and whether they are still the same."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nvdimmfs

#: Time of change, size and inode number of each file; None for one that cannot be found.
Files = dict[str, tuple[int, int, int] | None]

_PACKAGE = Path(nvdimmfs.__file__).parent


def files() -> Files:
    """The files of all loaded modules, and of this package, whose other modules are loaded when they are needed."""
    loaded = {getattr(module, "__file__", None) or "" for module in [*sys.modules.values()]}
    own = {str(path) for path in _PACKAGE.rglob("*.py")}
    return {path: _state(path) for path in (loaded | own) if path}


def has_changed(known: Files) -> bool:
    """Whether a file is not what it was."""
    return any(_state(path) != state for path, state in known.items())


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  # hundreds of times a request
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
