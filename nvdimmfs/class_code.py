"""The code of the methods that attrs writes: compiled once, instead of in each process.

attrs writes the source of a class's methods when the class is made, and has Python compile it.  A mount loads 280 such
classes, of which compiling is two thirds.  Python keeps the code of a module beside the module, in `__pycache__`; this
module keeps the code of such sources there as well.  It finds them by their hash, as Python does in a pyc file that is
checked by hash (PEP 552), so that nothing that is found can be outdated.

Nothing depends on it: where the file cannot be read or written, the sources are compiled.

attrs also keeps each source, for debuggers: a megabyte, which no command has a use for.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import marshal
import os
import re
import sys
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import cast

#: The code of sources, by the name that tracebacks show for them, and their hash.
Codes = dict[tuple[str, bytes], CodeType]

#: The number with which a hash begins differs from process to process (attrs takes it from the name of the class).
_HASH_SEED = re.compile(r"(?<=hash\(\()(\s*)-?[0-9]+(?=,)")

#: Sources that were changed stay in the file; with more than so many, it begins again.
_MOST = 1000


class ClassCode:
    """The code of a file, and what was compiled beyond it.

    Args:
        file: where the code is kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._codes: Codes | None = None
        self._has_new = False
        self._is_saved = False

    def compile(self, source: str, filename: str, mode: str) -> CodeType:
        """As the built-in function, with mode `exec`."""
        if self._is_saved:  # few classes follow: reading the file again would take longer, and memory
            return builtins.compile(source, filename, mode)
        if self._codes is None:
            self._codes = _read(self._file)
        key = filename, importlib.util.source_hash(_HASH_SEED.sub(r"\1", source).encode())
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = builtins.compile(source, filename, mode)
            self._has_new = True
        return code

    def save(self) -> None:
        """Write what was compiled, unless Python is to write no code (PYTHONDONTWRITEBYTECODE); free the memory.

        What is compiled later in this process is not kept.
        """
        used, self._codes, self._is_saved = self._codes, None, True
        if not self._has_new or used is None or sys.dont_write_bytecode:
            return
        self._has_new = False
        codes = {**_read(self._file), **used}  # another process may have written since
        new = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            new.write_bytes(_header() + marshal.dumps(codes))
            new.replace(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()


def _header() -> bytes:
    """What a file begins with that this interpreter can read."""
    return importlib.util.MAGIC_NUMBER


def _read(file: Path) -> Codes:
    """The code of a file; none of one that cannot be read, was written by another interpreter, or is to begin again."""
    try:
        content = file.read_bytes()
        if not content.startswith(_header()):
            return {}
        codes = cast("Codes", marshal.loads(content[len(_header()) :]))  # noqa: S302  # as Python's own code
    except (OSError, ValueError, EOFError, TypeError):
        return {}
    return codes if len(codes) <= _MOST else {}


class _Forgetful(dict[str, object]):
    """Takes what attrs adds to the cache of `linecache`, and keeps nothing."""

    def setdefault(self, _name: str, lines: object, /) -> object:  # type: ignore[override]  # as attrs calls it
        return lines


_of_this_process = ClassCode(Path(importlib.util.cache_from_source(__file__)).with_suffix(".attrs"))


def keep_class_code() -> None:
    """Have attrs use the kept code, and keep no sources, from now on."""
    import attr._make

    attr._make.compile = _of_this_process.compile  # type: ignore[attr-defined]  # in place of the built-in function
    attr._make.linecache = SimpleNamespace(cache=_Forgetful())  # type: ignore[assignment, attr-defined]  # in its place


def save_class_code() -> None:
    """Keep what has been compiled since, in the file."""
    _of_this_process.save()
