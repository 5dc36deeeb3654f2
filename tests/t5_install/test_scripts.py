"""The scripts that a new user runs first: what --help prints, and that it does nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import mounting
import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def clone(tmp_path):
    """A folder with the scripts, but with nothing that they could set up or run."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(clone, script, *arguments):
    before = sorted(clone.rglob("*"))
    done = subprocess.run([clone / "scripts" / script, *arguments], capture_output=True, text=True, check=False)
    assert sorted(clone.rglob("*")) == before, "it made or removed files"
    return done


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("script", ["setup", "demo"])
def test_help_prints_the_usage_and_does_nothing_else(clone, script, option):
    done = run(clone, script, option)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: scripts/{script} [--help]")


def test_help_of_test_is_its_own_and_says_how_to_get_that_of_pytest(clone):
    done = run(clone, "test", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: scripts/test [--help | PYTEST ARGUMENT ...]")
    assert "scripts/test -h" in done.stdout


@pytest.mark.parametrize(
    ("script", "arguments", "complaint"),
    [
        ("setup", ["nonsense"], "setup: unknown argument: nonsense (see scripts/setup --help)\n"),
        ("setup", ["--frob"], "setup: unknown argument: --frob (see scripts/setup --help)\n"),
        ("setup", ["test", "lint"], "setup: more than one argument: test lint (see scripts/setup --help)\n"),
        ("setup", [""], "setup: unknown argument:  (see scripts/setup --help)\n"),
        ("demo", ["nonsense"], "demo: unknown argument: nonsense (see scripts/demo --help)\n"),
        ("demo", ["a", "b"], "demo: unknown argument: a (see scripts/demo --help)\n"),
    ],
)
def test_unknown_arguments_are_refused_in_one_line(clone, script, arguments, complaint):
    done = run(clone, script, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", complaint)


def test_setup_lists_the_dependency_groups(clone):
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert f": {', '.join(groups)}\n" in run(clone, "setup", "--help").stdout


def test_the_demonstration_works(clone, fuse):
    for name in ("nvdimmfs", "mountpoint-fixtures"):
        (clone / name).symlink_to(ROOT / name)
    (clone / "scripts/setup").write_text("#!/bin/sh\n")
    program = clone / ".venv/bin/nvdimmfs"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m nvdimmfs "$@"\n')
    program.chmod(0o755)
    done = mounting.command(clone / "scripts/demo", timeout=None)
    assert (done.returncode, done.stderr) == (0, "")
    for line in ("    526385152", "bash: line 1: echo: write error: Device or resource busy", "    pfn0.0\n"):
        assert line in done.stdout


def test_the_demonstration_names_what_forbids_a_mount_before_it_sets_up_anything(clone):
    """The file in place of /dev/fuse is missing in a copy of the package."""
    shutil.copytree(ROOT / "nvdimmfs", clone / "nvdimmfs", ignore=shutil.ignore_patterns("__pycache__"))
    requirements = clone / "nvdimmfs/fuse/requirements.py"
    requirements.write_text(requirements.read_text().replace('Path("/dev/fuse")', 'Path("/dev/missing")'))
    done = run(clone, "demo")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("demo: /dev/missing is missing; load the kernel's fuse module")
    assert done.stderr.count("\n") == 1


def test_readme_lists_the_packages_that_setup_installs():
    packages = re.findall(r"missing\+=\((\S+)\)", (ROOT / "scripts/setup").read_text())
    (line,) = re.findall(r"^\$ sudo apt-get install (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert packages
    assert set(packages) <= set(line.split())


#: Takes the place of Meson and Ninja.
FAKE_BUILD = """#!/bin/sh
case $1 in
setup) mkdir "$2" && touch "$2/build.ninja" ;;
introspect) cat "$0.json" ;;
esac
"""

#: A build of three tests on persistent memory, and one on other hardware, as Meson describes it.
FAKE_TESTS = [
    {"name": "works", "suite": ["ndctl:ndctl"], "cmd": ["sh", "-c", "ls $BUS"], "env": {"BUS": "/sys/bus/platform"}},
    {"name": "dax-dev", "suite": ["ndctl:dax"], "cmd": ["sh", "-c", "ls /dev/pmem0; echo no dax; exit 77"], "env": {}},
    {"name": "tests nothing", "suite": ["ndctl:dax"], "cmd": ["echo", "mmap: No such device"], "env": {}},
    {"name": "foreign", "suite": ["ndctl:cxl"], "cmd": ["false"], "env": {}},
]


def test_the_tests_of_ndctl_are_run_on_the_machines_that_they_need(tmp_path, sandbox):
    for name in ("meson", "ninja"):
        program = tmp_path / name
        program.write_text(FAKE_BUILD)
        program.chmod(0o755)
    (tmp_path / "meson.json").write_text(json.dumps(FAKE_TESTS))
    environment = mounting.environment() | {"PATH": f"{tmp_path}:{mounting.environment()['PATH']}"}
    script = ROOT / "scripts/ndctl-tests"
    done = mounting.command(sys.executable, script, tmp_path, "--times", "2", env=environment)
    assert (done.returncode, done.stderr) == (1, "")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "--" in line][1:]
    assert [(test, machine, words, last) for test, machine, words, _, last in rows] == [
        ("works", "--machine nfit_test --blacklist nfit_test", "passes", ""),
        ("dax-dev", "--memmap 4G!8G --ram 12G", "skips", "no dax"),
        ("tests nothing", "--machine nfit_test --blacklist nfit_test", "empty", "mmap: No such device"),
    ]
    assert done.stdout.endswith("\n1 of 3 pass 2 times in a row\n")
