"""A control group with little memory: the kernel kills a process, whichever it is, and nothing is left."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import memory_limit
import mounting
import pytest
from sandboxes import tagged, wait_for_end_of

from nvdimmfs.units import MIB

#: One line, which is neither a traceback nor what an unexpected exception is reported as.
LINE = re.compile(r"nvdimmfs: (?!a bug)[^\n]+\n")

#: What the command itself says where the machine's process is killed while the command reads.
OF_THE_COMMAND = re.compile(r"^cat: [^\n]+\n", re.MULTILINE)

SIZE = "sys/bus/nd/devices/region0/size"


@pytest.fixture(autouse=True)
def groups() -> None:
    if reason := memory_limit.why_not():
        pytest.skip(reason)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where temporary files go; none may be left."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


def requires_a_line(returncode: int, errors: str) -> None:
    """Success, or the death of the process itself, or one line."""
    assert returncode in (0, -signal.SIGKILL) or LINE.fullmatch(errors), (returncode, errors)


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("mebibytes", [12, 24, 32, 40, 48, 56])
def test_run(mebibytes: int, tag: str, folder: Path) -> None:
    with memory_limit.limited_memory(mebibytes * MIB) as enter:
        argv = (*mounting.MACHINE, "run", "--memmap", "64M!4G", "--", "cat", f"/{SIZE}")
        environment = tagged(tag) | {"TMPDIR": str(folder)}
        done = mounting.command(*argv, env=environment, preexec_fn=enter)
        wait_for_end_of(tag)
    requires_a_line(done.returncode, OF_THE_COMMAND.sub("", done.stderr))
    assert done.returncode or done.stdout == f"{64 * MIB}\n"


@pytest.mark.usefixtures("fuse")
@pytest.mark.parametrize("mebibytes", [12, 24, 32, 40, 48])
def test_mount(mebibytes: int, tag: str, folder: Path, tmp_path: Path) -> None:
    """A daemon that is killed later is reported as such, and its mount can be removed."""
    mount = mounting.Mount(mounting.MACHINE, tmp_path / "mount", tmp_path / "log")
    mount.directory.mkdir()
    with memory_limit.limited_memory(mebibytes * MIB) as enter:
        try:
            argv = (*mounting.MACHINE, "mount", mount.directory, "--memmap", "64M!4G", "--log", mount.log)
            environment = tagged(tag) | {"TMPDIR": str(folder)}
            done = mounting.command(*argv, env=environment, preexec_fn=enter)
            requires_a_line(done.returncode, done.stderr)
            if mounting.is_mounted(mount.directory):
                shown = mounting.cli("show", mount.directory)
                requires_a_line(shown.returncode, shown.stderr)
                assert mounting.cli("umount", mount.directory).returncode == 0
        finally:
            mount.dispose()
            wait_for_end_of(tag)
    assert not mounting.is_mounted(mount.directory)
    assert mount.unexpected_lines() == []
