"""Modules that are loaded when something of them is used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvdimmfs.late_modules import loaded_late, without_versions

LATE, USER = "nvdimmfs_test_late", "nvdimmfs_test_user"


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module, and one that imports it; neither is loaded."""
    Path(tmp_path, f"{LATE}.py").write_text("value = 6\n")
    Path(tmp_path, f"{USER}.py").write_text(f"import {LATE} as late\n\ndef used():\n    return late.value\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in (LATE, USER):
        sys.modules.pop(name, None)


def test_a_late_module_is_not_loaded_before_it_is_used() -> None:
    with loaded_late(LATE):
        user = __import__(USER)
    assert LATE not in sys.modules
    assert user.used() == 6
    assert sys.modules[LATE].__file__


def test_it_is_loaded_at_once_when_a_name_of_it_is_imported() -> None:
    with loaded_late(LATE):
        from nvdimmfs_test_late import value
    assert value == 6
    assert sys.modules[LATE].__file__


def test_it_is_loaded_at_once_when_all_its_names_are_imported() -> None:
    Path(next(iter(sys.path)), f"{LATE}.py").write_text("value = 6\n__all__ = ['value']\n")
    names: dict[str, object] = {}
    with loaded_late(LATE):
        exec(f"from {LATE} import *", names)
    assert names["value"] == 6


def test_versions_are_unknown_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "importlib.metadata")
    with without_versions():
        from importlib.metadata import PackageNotFoundError, version

        with pytest.raises(PackageNotFoundError, match="pyfuse3"):
            version("pyfuse3")
    from importlib.metadata import version as real

    assert real("pyfuse3")
    assert real is not version


def test_others_load_it_as_usual_afterwards() -> None:
    with loaded_late(LATE):
        user = __import__(USER)
    assert __import__(LATE).__file__
    assert user.used() == 6


def test_it_has_no_other_names_than_the_module() -> None:
    with loaded_late(LATE):
        late = __import__(LATE)
    with pytest.raises(AttributeError, match="other"):
        _ = late.other


def test_a_module_that_is_loaded_is_left_alone() -> None:
    before = __import__(LATE)
    with loaded_late(LATE):
        assert __import__(LATE) is before
    assert sys.modules[LATE] is before


def test_a_module_that_is_missing_is_missed_when_it_is_used(tmp_path: Path) -> None:
    Path(tmp_path, f"{LATE}.py").unlink()
    with loaded_late(LATE):
        user = __import__(USER)
    with pytest.raises(ModuleNotFoundError, match=LATE):
        user.used()


TLS = frozenset(("ssl", "_ssl", "hashlib", "_hashlib", "hmac", "idna"))
#: What else no mount has a use for, and others import.
UNUSED = frozenset(("bz2", "decimal", "email", "importlib.metadata", "ipaddress", "lzma", "tempfile"))

LOADED = "import sys; print(*sys.modules)"


def loaded_by(program: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", f"{program}\n{LOADED}"], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_servers_load_no_tls() -> None:
    loaded = loaded_by("from nvdimmfs.cli.serve import preload; preload()")
    assert "trio" in loaded
    assert not TLS & loaded


def test_a_mount_loads_nothing_that_it_does_not_use() -> None:
    loaded = loaded_by("from nvdimmfs.cli.main import parse; parse(['mount', 'x']).run.__globals__['preload_server']()")
    assert "trio" in loaded
    assert not (TLS | UNUSED) & loaded
