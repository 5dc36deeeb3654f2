"""Each documented way to install nvdimmfs: the result has everything, and works without this checkout."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import mounting
import pytest

from nvdimmfs import __version__
from nvdimmfs.machine_file.files import machines

ROOT = Path(__file__).parent.parent.parent
COMPLETIONS = (
    "bash-completion/completions/nvdimmfs",
    "fish/vendor_completions.d/nvdimmfs.fish",
    "zsh/site-functions/_nvdimmfs",
)

#: An installation fetches packages and compiles pyfuse3; a limit here only ends what hangs, in seconds.
HANGS = 900

#: One process runs them, so that what they share is made once (scripts/test).
pytestmark = [pytest.mark.timeout(HANGS), pytest.mark.xdist_group("installation")]


def environment():
    """What installers are run with: they keep compiled modules beside the sources, of those that are imported."""
    without = ("PYTHONPATH", "PYTHONPYCACHEPREFIX")
    return {name: value for name, value in os.environ.items() if name not in without} | {"PIP_NO_COMPILE": "1"}


def succeed(*argv, cwd=None, **variables):
    """Run a program to its end and return what it printed."""
    done = subprocess.run(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=cwd,
        env=environment() | variables,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def tool(name):
    """The command line of an installer from the group `install`."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (scripts/setup dev installs it)")
    return (sys.executable, "-m", name)


@pytest.fixture(scope="session", autouse=True)
def wheels(tmp_path_factory):
    """A folder with a wheel of pyfuse3, compiled once for all tools; skip where no package can be fetched."""
    folder = tmp_path_factory.mktemp("wheels")
    argv = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, "pyfuse3")
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        pytest.skip(f"no package registry: {done.stderr.strip().splitlines()[-1]}")
    return folder


def check(prefix, program, folder):
    """That the installation below `prefix` is complete, and that its `program` works in a folder of the test's own."""
    package = next(prefix.glob("lib/python3.*/site-packages/nvdimmfs"))
    assert (package / "py.typed").is_file()
    assert (package / "machines/machine.schema.json").is_file()
    assert (prefix / "share/man/man1/nvdimmfs-machine-show.1").is_file()
    for name in COMPLETIONS:
        assert (prefix / "share" / name).is_file()

    def run(*arguments):
        return succeed(program, *arguments, cwd="/")

    assert run("--version") == f"nvdimmfs {__version__}\n"
    assert [line.split()[0] for line in run("machine", "list").splitlines()] == list(machines())
    if mounting.why_not() is None:
        mount = folder / "mount"
        mount.mkdir()
        run("mount", mount, *mounting.QUIET)
        try:
            assert (mount / "sys/bus/nd/devices/namespace0.0/mode").read_text() == "memory\n"
        finally:
            run("umount", mount)


def test_pip_install_of_a_wheel_made_from_the_source_distribution(tmp_path):
    succeed(*tool("build"), "--outdir", tmp_path, ROOT)
    (source,) = tmp_path.glob("nvdimmfs-*.tar.gz")
    (wheel,) = tmp_path.glob("nvdimmfs-*.whl")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "scripts/distribution/build_hook.py", "tests/conftest.py"} <= names
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if name.startswith("nvdimmfs/")}
    assert files >= {f"nvdimmfs/{path.relative_to(ROOT / 'nvdimmfs')}" for path in (ROOT / "nvdimmfs").rglob("*.py")}
    venv = tmp_path / "venv"
    succeed(sys.executable, "-m", "venv", "--without-pip", venv)
    succeed(sys.executable, "-m", "pip", "--python", venv / "bin/python", "install", wheel)
    check(venv, venv / "bin/nvdimmfs", tmp_path)


def test_pipx_install(wheels, tmp_path):
    """It has pip install the folder, or uv, which does not know what pip has compiled."""
    folders = {name: str(tmp_path / name) for name in ("PIPX_HOME", "PIPX_BIN_DIR", "PIPX_MAN_DIR")}
    succeed(*tool("pipx"), "install", "--python", sys.executable, ROOT, **folders, UV_FIND_LINKS=str(wheels))
    check(tmp_path / "PIPX_HOME/venvs/nvdimmfs", tmp_path / "PIPX_BIN_DIR/nvdimmfs", tmp_path)
    assert (tmp_path / "PIPX_MAN_DIR/man1/nvdimmfs.1").is_file()


def test_uv_tool_install(wheels, tmp_path):
    folders = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    argv = (*tool("uv"), "tool", "install", "--python", sys.executable, "--find-links", wheels, ROOT)
    succeed(*argv, **folders)
    check(tmp_path / "tools/nvdimmfs", tmp_path / "bin/nvdimmfs", tmp_path)
