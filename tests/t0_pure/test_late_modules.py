"""Modules that are loaded when something of them is used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvdimmfs.late_modules import loaded_late

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


def test_servers_load_no_tls() -> None:
    program = "from nvdimmfs.cli.serve import preload; preload(); import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert "trio" in loaded
    assert not {"ssl", "_ssl", "hashlib", "_hashlib", "hmac", "idna"} & {*loaded}
