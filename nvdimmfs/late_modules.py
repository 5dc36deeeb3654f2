"""Modules that others import and hardly use: loaded when something of them is used."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType


class _LateModule(ModuleType):
    """Takes the place of a module until one of its names is needed.

    `importlib.util.LazyLoader` has the same purpose, but before Python 3.12 the second import of a module loads it.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name != "__all__":  # what the import system looks for
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


class _NoMetadata(ModuleType):
    """Takes the place of `importlib.metadata`, and knows no package."""

    PackageNotFoundError = ModuleNotFoundError

    @staticmethod
    def version(name: str) -> str:
        raise ModuleNotFoundError(name)


@contextlib.contextmanager
def without_versions() -> Iterator[None]:
    """Have what is imported meanwhile not find the versions of packages.

    pyfuse3 looks for its own, and loads a parser of mail for it; without, `pyfuse3.__version__` is "unknown".
    """
    name = "importlib.metadata"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = _NoMetadata(name)
    try:
        yield
    finally:
        del sys.modules[name]


@contextlib.contextmanager
def loaded_late(*names: str) -> Iterator[None]:
    """Have what is imported meanwhile load some modules later, when it uses them; others load them as usual afterwards.

    A module that is loaded already, or cannot be found, is left alone.
    """
    late = {name: _LateModule(name) for name in names if name not in sys.modules}
    sys.modules.update(late)
    try:
        yield
    finally:
        for name, module in late.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
