"""The workflows of a public forge and those in examples/: what linters find, and what agrees with pyproject.toml."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nvdimmfs import __version__

ROOT = Path(__file__).parent.parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
EXAMPLES = ROOT / "examples"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tool(name):
    path = shutil.which(name, path=Path(sys.executable).parent)
    if path is None:
        pytest.skip(f"{name} is not installed (scripts/setup dev installs it)")
    return path


def require_clean(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_finds_nothing():
    argv = [tool("zizmor"), "--offline", "--no-config", "--persona=auditor", "--no-progress", "--quiet"]
    require_clean(*argv, *WORKFLOWS, EXAMPLES / "ci/github-workflow.yml")


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", [*WORKFLOWS, EXAMPLES / "ci/github-workflow.yml"]),
        ("vendor.gitlab-ci", [EXAMPLES / "ci/gitlab-ci.yml"]),
    ],
)
def test_the_workflows_follow_the_schema(schema, files):
    require_clean(tool("check-jsonschema"), "--builtin-schema", schema, *files)


def test_the_container_file_follows_the_rules():
    """But for pinned versions, which its users choose."""
    pins = ("--ignore", "DL3008", "--ignore", "DL3013")
    require_clean(tool("hadolint"), *pins, EXAMPLES / "container/Containerfile")


def test_every_supported_python_is_tested():
    matrix = re.search(r"^ +python: \[(.+)\]$", (ROOT / ".github/workflows/ci.yml").read_text(), re.MULTILINE)
    tested = re.findall(r"3\.\d+", matrix[1])
    assert tested == re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert PROJECT["requires-python"] == f">={tested[0]}"


def test_a_release_finds_the_version_as_its_tag_must_name_it():
    script = re.search(r"version=\$\((sed .+)\)$", (ROOT / ".github/workflows/release.yml").read_text(), re.MULTILINE)
    found = subprocess.run(["sh", "-c", script[1]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found == f"{__version__}\n"


def test_files_that_the_workflows_name_exist():
    for workflow in WORKFLOWS:
        for name in re.findall(r"\b(?:scripts|tests|nvdimmfs)/[\w/.-]+", workflow.read_text()):
            assert (ROOT / name).exists(), name
