"""docs/reference/testing-api.md names everything that test suites may use, and nothing else."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import nvdimmfs.testing
from nvdimmfs.testing import strategies

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "testing-api.md"
CHAPTERS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))

#: What the machine calls, not the test.
INTERNAL = {"Engine.uevent", "Events.append"}
#: What a class has because it is a sequence.
OF_SEQUENCES = {"count", "index"}


def public_members(name: str) -> set[str]:
    """The members of a public class that a test may use."""
    kind = getattr(nvdimmfs.testing, name)
    if not inspect.isclass(kind):
        return set()
    found = {member for member in dir(kind) if not member.startswith("_")} - OF_SEQUENCES
    return {member for member in found | attributes(kind) if f"{name}.{member}" not in INTERNAL}


def attributes(kind: type) -> set[str]:
    """What the constructor sets, from the chapter "Attributes" of the docstring."""
    text = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    return set(re.findall(r"^    (\w+): ", text, re.MULTILINE))


@pytest.mark.parametrize("name", nvdimmfs.testing.__all__)
def test_every_name_has_a_chapter(name):
    assert name in CHAPTERS


@pytest.mark.parametrize("name", nvdimmfs.testing.__all__)
def test_every_member_has_a_line(name):
    rows = re.findall(r"^\| (`.*?) \|", CHAPTERS[name].partition("| member |")[2], re.MULTILINE)
    documented = {member for row in rows for member in re.findall(r"`(\w+)", row)}
    assert documented == public_members(name)


def test_every_argument_of_the_engine_has_a_line():
    arguments = {*inspect.signature(nvdimmfs.testing.Engine).parameters}
    table = CHAPTERS["Engine"].partition("| argument |")[2].partition("| member |")[0]
    assert {
        word for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for word in re.findall(r"`(\w+)`", row)
    } == (arguments)


def test_every_strategy_has_a_line():
    rows = re.findall(r"^\| `(\w+)", CHAPTERS["strategies"], re.MULTILINE)
    assert sorted(rows) == sorted(strategies.__all__)


def test_every_name_is_loaded_on_demand():
    for name in nvdimmfs.testing.__all__:
        assert name in dir(nvdimmfs.testing)
        assert getattr(nvdimmfs.testing, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = nvdimmfs.testing.nothing
