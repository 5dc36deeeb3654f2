"""Every public function, class and method of the package has a caller outside the tests.

A definition counts as used when its name stands anywhere in the package, the scripts or the build, other than in the
definition itself.  Names are compared without types, so that a method passes when one of the same name is called.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import nvdimmfs.testing
from nvdimmfs.testing import strategies

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "nvdimmfs"

#: Called by name by a library, or not called at all for a reason.
PUBLIC_API = {
    "CommandModule": "mypy: a protocol, named in a cast",
    "CommandParser.parse_known_args": "argparse",
    "MemoryMedia.resident": "measured by the tests of sparseness",
    "Operations.fsyncdir": "pyfuse3",
    "Operations.listxattr": "pyfuse3",
    "Operations.lookup": "pyfuse3",
    "Operations.opendir": "pyfuse3",
    "Operations.readdir": "pyfuse3",
    "Operations.releasedir": "pyfuse3",
    "Operations.removexattr": "pyfuse3",
    "Operations.setattr": "pyfuse3",
    "Operations.setxattr": "pyfuse3",
    "Operations.statfs": "pyfuse3",
    "Parser.format_help": "argparse",
    "_SystemLog.emit": "logging",
    "_Tracebacks.pytest_runtest_makereport": "pytest",
    "nvdimm": "a fixture",
    "nvdimm_engine": "a fixture",
    "pytest_addoption": "pytest",
    "pytest_configure": "pytest",
    "pytest_generate_tests": "pytest",
    "pytest_runtest_call": "pytest",
    "pytest_runtest_makereport": "pytest",
    "pytest_runtest_setup": "pytest",
}


@attrs.frozen
class Definition:
    """A public definition.

    Attributes:
        name: as it is referred to.
        qualified: with the class that it is a member of.
        file: relative to the repository.
        own_references: how often its own body contains its name.
    """

    name: str
    qualified: str
    file: str
    own_references: int


def sources() -> Iterator[Path]:
    yield from sorted(PACKAGE.rglob("*.py"))
    yield from sorted((ROOT / "scripts" / "distribution").glob("*.py"))
    for script in sorted((ROOT / "scripts").iterdir()):
        if script.is_file() and script.read_text().startswith("#!/usr/bin/env python"):
            yield script


def references(*trees: ast.AST) -> Counter[str]:
    """How often each name is used, or imported under another name."""
    found: Counter[str] = Counter()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Name):
            found[node.id] += 1
        elif isinstance(node, ast.Attribute):
            found[node.attr] += 1
        elif isinstance(node, ast.alias) and node.asname:
            found[node.name] += 1
        elif isinstance(node, ast.MatchClass):
            found.update(node.kwd_attrs)
        elif isinstance(node, ast.keyword) and node.arg:
            found[node.arg] += 1
    return found


def references_from_outside(tree: ast.AST) -> Counter[str]:
    """The same for a file that has names of its own: what it imports from the package, and attributes."""
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found[node.attr] += 1
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.name for alias in node.names)
    return found


def definitions(tree: ast.AST, file: str, prefix: str = "") -> Iterator[Definition]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("_"):
                own = references(*node.body)[node.name]
                yield Definition(node.name, f"{prefix}{node.name}", file, own)
            if isinstance(node, ast.ClassDef):
                yield from definitions(node, file, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try):
            yield from definitions(node, file, prefix)


@attrs.frozen
class Package:
    """All that the package defines, and how often the names are referred to.

    It is read by the test that asks for it, not by each process that collects tests.
    """

    references: Counter[str]
    definitions: list[Definition]

    @classmethod
    def read(cls) -> Package:
        package = cls(Counter(), [])
        for path in sources():
            tree = ast.parse(path.read_text())
            if path.is_relative_to(PACKAGE):
                package.references.update(references(tree))
                package.definitions.extend(definitions(tree, str(path.relative_to(ROOT))))
            else:
                package.references.update(references_from_outside(tree))
        return package

    def is_referred_to(self, definition: Definition) -> bool:
        return self.references[definition.name] > definition.own_references


@pytest.fixture(scope="module")
def package() -> Package:
    return Package.read()


#: The names that test suites use, and their members.  `test_testing_api.py` finds each in the documentation.
CONTRACT = {*nvdimmfs.testing.__all__, *strategies.__all__}


def is_used(package: Package, definition: Definition) -> bool:
    if definition.file.startswith("nvdimmfs/testing/") and definition.qualified.partition(".")[0] in CONTRACT:
        return True
    return package.is_referred_to(definition) or definition.qualified in PUBLIC_API


@pytest.mark.xdist_group("dead code")
def test_every_public_definition_has_a_caller_outside_the_tests(package):
    unused = [f"{each.file}: {each.qualified}" for each in package.definitions if not is_used(package, each)]
    assert unused == []


@pytest.mark.xdist_group("dead code")
def test_the_public_api_has_no_leftovers(package):
    qualified = {each.qualified for each in package.definitions}
    called = {each.qualified for each in package.definitions if package.is_referred_to(each)}
    assert [name for name in PUBLIC_API if name not in qualified or name in called] == []


@pytest.mark.parametrize(
    ("source", "unused"),
    [
        ("def used(): pass\nused()", []),
        ("def unused(): pass", ["unused"]),
        ("def recursive(): recursive()", ["recursive"]),
        ("class Kind:\n    def method(self): pass\nKind()", ["Kind.method"]),
        ("class Kind:\n    def method(self): pass\nKind().method()", []),
        ("def _private(): pass", []),
    ],
)
def test_definitions_without_a_caller_are_found(source, unused):
    tree = ast.parse(source)
    found = references(tree)
    assert [each.qualified for each in definitions(tree, "") if found[each.name] <= each.own_references] == unused
