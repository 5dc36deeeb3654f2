"""Runs of pytest with nvdimmfs's plugin, for the tests of that; other plugins take longer to load than a run lasts."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

_OPTIONS = ("-p", "no:cacheprovider", "-p", "xdist.plugin", "-p", "nvdimmfs.testing.pytest_plugin", "-W", "error")


@pytest.fixture(autouse=True)
def only_its_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load no plugins but those that are named.  Import it where these runs are made."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


class _Modules:
    """A plugin that remembers the modules of nvdimmfs that a run has loaded."""

    def __init__(self) -> None:
        self._loaded: dict[str, ModuleType] = {}

    def pytest_unconfigure(self) -> None:
        self._loaded = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "nvdimmfs"}

    def restore(self) -> None:
        """Keep what the run has loaded: `pytester` forgets it, and there would be two of each class."""
        for name, module in self._loaded.items():
            sys.modules.setdefault(name, module)


def run_here(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest in this process.  What it starts (`-n2`) are processes all the same."""
    modules = _Modules()
    done = pytester.runpytest_inprocess(*_OPTIONS, *arguments, plugins=[modules])
    modules.restore()
    return done


def run_apart(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest in a process of its own, for a run that changes or ends its process."""
    return pytester.runpytest_subprocess(*_OPTIONS, *arguments)
