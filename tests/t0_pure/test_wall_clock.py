"""A jump of the host's wall clock (date -s, NTP) changes times of files and of a trace, and nothing that waits."""

import ast

from mounting import ROOT

#: The modules that ask for the time of day, to show it.
SHOWING = {"core/trace.py", "fuse/inode.py", "fuse/members.py"}

#: Names of functions and clocks of the time of day; `strftime` and `localtime` get a time that was asked for before.
WALL_CLOCK = {"time", "time_ns", "now", "utcnow", "today", "CLOCK_REALTIME"}
MODULES = {"time", "datetime", "date"}


def asks(tree: ast.Module) -> bool:
    """Whether a module asks for the time of day."""
    imported = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module in MODULES)
    if any(name.name in WALL_CLOCK for node in imported for name in node.names):
        return True
    used = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in WALL_CLOCK)
    return any(isinstance(node.value, ast.Name) and node.value.id in MODULES for node in used)


def test_only_what_shows_the_time_of_day_asks_for_it():
    package = ROOT / "nvdimmfs"
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if asks(ast.parse(path.read_text()))}
    assert found == SHOWING
