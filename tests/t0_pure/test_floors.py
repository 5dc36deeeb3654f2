"""A module imports only from its own floor and those below: the plan of the house in docs/architecture.md."""

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import nvdimmfs

PACKAGE = Path(nvdimmfs.__file__).parent

pytestmark = pytest.mark.xdist_group("floors")  # one process parses the modules (scripts/test)

#: From the ground up.  Packages of one set stand side by side and do not import each other.
FLOORS = (
    {"class_code", "errors", "host", "inherited_files", "late_modules", "snapshot", "units"},
    {"media", "kernels"},
    {"formats", "traces"},
    {"faults"},
    {"mm"},
    {"kernfs"},
    {"core"},
    {"block", "dax"},
    {"nd"},
    {"drivers", "machine_file"},
    {"modules", "platforms", "dumps"},
    {"machine"},
    {"fuse", "sandbox"},
    {"warm", "lab"},
    {"cli"},
    {"testing"},
)
#: Modules that stand in no package.
GROUND = {"class_code", "errors", "host", "inherited_files", "late_modules", "snapshot", "units"}
LEVEL = {name: level for level, floor in enumerate(FLOORS) for name in floor}

#: Packages that may import less than everything below them: what they import instead.
RESTRICTED = {
    "kernels": {"errors", "units"},
    "faults": {"errors", "units", "formats"},
    "kernfs": {"errors", "units", "formats", "faults"},
    "mm": {"errors", "units", "kernels", "media", "formats", "faults"},
    "fuse": {"errors", "host", "kernfs"},
}

#: Libraries that only one floor may use: the rest is plain synchronous Python.
RESERVED = {"pyfuse3": "fuse", "trio": "fuse"}

#: Optional libraries, and the module that alone imports each: its users have it.
OPTIONAL = {
    "pytest": "nvdimmfs.testing.pytest_plugin",
    "hypothesis": "nvdimmfs.testing.strategies",
    "distributed": "nvdimmfs.lab.executors",
}

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in GROUND)


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    return ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


NAMES = {name_of(path) for path in MODULES}


def floor_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    """The modules that a module imports anywhere: in functions and for annotations, too."""
    return frozenset(_imports_of(path))


def _imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & NAMES
            yield from inner or {node.module}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_downwards(path):
    here = floor_of(path)
    for name in imports_of(path):
        package, *rest = name.split(".")
        if package == "nvdimmfs" and rest:
            there = rest[0]
            assert there == here or LEVEL[there] < LEVEL[here], f"{here} imports {name}"
            assert there == here or there in RESTRICTED.get(here, LEVEL), f"{here} imports {name}"
        assert RESERVED.get(package, here) == here, f"{here} imports {name}"
        assert OPTIONAL.get(package, name_of(path)) == name_of(path), f"{name_of(path)} imports {name}"


def test_every_folder_has_its_floor():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert folders | GROUND == LEVEL.keys()


def test_no_modules_import_each_other():
    """Not even for annotations.  The modules of a package form a ladder: CycleError names those that do not."""
    graph = {name_of(path): NAMES.intersection(imports_of(path)) - {name_of(path)} for path in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())
