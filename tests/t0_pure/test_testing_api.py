"""docs/reference/testing-api.md names everything that test suites may use, and nothing else."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import nvdimmfs.testing
from nvdimmfs.testing import pytest_plugin, strategies
from nvdimmfs.testing.plugin.factory import Factory
from nvdimmfs.testing.plugin.marks import KEYS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "testing-api.md"
CHAPTERS = dict(re.findall(r"^###? (\w+)\n(.*?)(?=^###? |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))

#: What the machine calls, not the test.
INTERNAL = {"Engine.on_checkpoint", "Engine.uevent", "Events.append", "Machine.on_checkpoint", "Refusals.append"}
#: What a class has because it is a sequence.
OF_SEQUENCES = {"count", "index"}


def public_members(name: str) -> set[str]:
    """The members of a public class that a test may use."""
    kind = getattr(nvdimmfs.testing, name)
    if not inspect.isclass(kind):
        return set()
    found = {member for member in dir(kind) if not member.startswith("_")} - OF_SEQUENCES - {*dir(RuntimeError)}
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


def cells(chapter, column):
    """What stands as code in a column of the table of a chapter, row by row."""
    rows = [row.split(" | ") for row in re.findall(r"^\| (`.*) \|$", CHAPTERS[chapter], re.MULTILINE)]
    return [word for row in rows for word in re.findall(r"`(.*?)`", row[column])]


def test_every_fixture_of_the_plugin_has_a_line():
    defined = {
        name for name, member in vars(pytest_plugin).items() if type(member).__name__ == "FixtureFunctionDefinition"
    }
    assert sorted(cells("Fixtures", 0)) == sorted(name for name in defined if not name.startswith("_"))


def test_each_method_of_the_factory_is_documented():
    public = {name for name in dir(Factory) if not name.startswith("_")} - {"close"}
    assert set(re.findall(r"`nvdimm_factory\.(\w+)\(", CHAPTERS["Fixtures"])) == public


@pytest.mark.parametrize(("make", "kind"), [(Factory.__call__, "Machine"), (Factory.engine, "Engine")])
def test_the_factory_has_the_arguments_of_what_it_makes(make, kind):
    _, *arguments = inspect.signature(make).parameters
    assert arguments == [*inspect.signature(getattr(nvdimmfs.testing, kind)).parameters]


def test_every_argument_of_the_mark_has_a_line():
    assert sorted(cells("Mark", 0)) == sorted(KEYS)


class Declared:
    """Stands in for pytest's parser, and keeps the names that are declared."""

    def __init__(self):
        self.options = []
        self.lines = []

    def getgroup(self, *names):
        return self

    def addoption(self, name, **more):
        self.options.append(name)

    def addini(self, name, *more, **named):
        self.lines.append(name)


def test_every_option_of_the_plugin_has_a_line():
    declared = Declared()
    pytest_plugin.pytest_addoption(declared)
    assert [word.partition(" ")[0] for word in cells("Options", 0)] == declared.options
    assert cells("Options", 1) == declared.lines


def test_every_strategy_has_a_line():
    rows = re.findall(r"^\| `(\w+)", CHAPTERS["strategies"], re.MULTILINE)
    assert sorted(rows) == sorted(strategies.__all__)


def test_every_name_is_loaded_on_demand():
    for name in nvdimmfs.testing.__all__:
        assert name in dir(nvdimmfs.testing)
        assert getattr(nvdimmfs.testing, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = nvdimmfs.testing.nothing
