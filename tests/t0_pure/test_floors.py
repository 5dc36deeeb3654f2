"""A module imports only from its own floor and those below: the house plan in docs/architecture.md."""

import ast
from pathlib import Path

import pytest

import nvdimmfs

PACKAGE = Path(nvdimmfs.__file__).parent

#: From the ground up.  What stands in one set stands side by side and does not know its neighbours.
FLOORS = (
    {"errors", "units"},
    {"media", "kernels"},
    {"formats"},
    {"mm"},
    {"kernfs"},
    {"core"},
    {"block", "dax"},
    {"nd"},
    {"drivers", "machine_file"},
    {"modules", "platforms"},
    {"machine"},
    {"fuse", "sandbox"},
    {"cli"},
)
#: Modules that stand in no package.
GROUND = {"errors", "units"}
LEVEL = {name: level for level, floor in enumerate(FLOORS) for name in floor}

#: Libraries that only one floor may use: the rest is plain synchronous Python.
RESERVED = {"pyfuse3": "fuse", "trio": "fuse"}

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in GROUND)


def floor_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_downwards(path):
    here = floor_of(path)
    for name in imports_of(path):
        package, *rest = name.split(".")
        if package == "nvdimmfs" and rest:
            there = rest[0]
            assert there == here or LEVEL[there] < LEVEL[here], f"{here} imports {name}"
        assert RESERVED.get(package, here) == here, f"{here} imports {name}"


def test_every_folder_has_its_floor():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert folders | GROUND == LEVEL.keys()
