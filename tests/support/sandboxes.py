"""Sandboxes for tests: commands under `nvdimmfs run`, and why there can be none."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mounting
import pytest
from recording import Header, load_header

#: A command in a sandbox takes no longer than this, in seconds.
PATIENCE = 60

#: A machine with memory behind both of its ranges.
TWO_RANGES = ("--memmap", "512M!4G,256M!6G", "--ram", "8G")

#: Debian's packages of the tools that tests call.
PACKAGES = {
    "blockdev": "util-linux",
    "keyctl": "keyutils",
    "lsmod": "kmod",
    "mkfs.ext4": "e2fsprogs",
    "modprobe": "kmod",
    "ndctl": "ndctl",
}


def why_not() -> str | None:
    """Why nothing can be run here; None when it can."""
    reason = mounting.why_not()
    if reason:
        return reason
    done = mounting.command(*mounting.MACHINE, "doctor")
    return "; ".join(line for line in done.stdout.splitlines() if line.startswith("NO")) or None


def run(*command: str | Path, options: tuple[str | Path, ...] = (), **more) -> subprocess.CompletedProcess[str]:
    """Run a command on a machine and wait for it."""
    return mounting.command(*mounting.MACHINE, "run", *options, "--", *command, **({"timeout": PATIENCE} | more))


def sh(script: str, *options: str | Path, **more) -> subprocess.CompletedProcess[str]:
    """Run a shell script on a machine, which must succeed silently.

    `not COMMAND` says that a command must fail, which `! COMMAND` does not: `sh -e` takes any end of that.
    """
    done = run("sh", "-ec", f'not() {{ ! "$@"; }}\n{script}', options=options, **more)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}\n{done.stderr}"
    return done


def start(*command: str | Path, options: tuple[str | Path, ...] = (), **more) -> subprocess.Popen[str]:
    """Start a command on a machine."""
    argv = (*mounting.MACHINE, "run", *options, "--", *command)
    defaults = {"cwd": "/", "env": mounting.environment(), "text": True, "stdout": subprocess.PIPE}
    defaults["preexec_fn"] = _heed_signals
    return subprocess.Popen(argv, **(defaults | more))


def tagged(word: str) -> dict[str, str]:
    """An environment with a word in it, as the fixture `tag` gives one."""
    name, _, value = word.partition("=")
    return mounting.environment() | {name: value}


def _heed_signals() -> None:
    """As a shell would not, nor nohup(1): they let what they start in the background ignore them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def as_ordinary_user(*folders: Path) -> tuple[str, ...]:
    """What to put before a command so that an ordinary user runs it (`tests/support/ordinary_user.py`).

    Args:
        folders: those that the command needs besides this checkout and Python.
    """
    needed = (mounting.ROOT, Path(sys.prefix), Path(sys.base_prefix), *folders)
    return (sys.executable, str(mounting.ROOT / "tests" / "support" / "ordinary_user.py"), *map(str, needed), "--")


def why_no_ordinary_user() -> str | None:
    """Why no ordinary user can run commands on a machine here; None when one can."""
    if not is_root():
        return "needs root, to be somebody else"
    done = mounting.command(*as_ordinary_user(), *mounting.MACHINE, "doctor")
    if done.returncode not in (0, 1) or done.stderr:
        return f"another user may not run this Python: {done.stderr.strip()}"
    return "; ".join(line for line in done.stdout.splitlines() if line.startswith("NO")) or None


def eventually(what: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Wait until something is so."""
    end = time.monotonic() + patience
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def processes_with(word: str) -> list[int]:
    """The processes that have a word in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            if word.encode() in environment:
                found.append(int(folder.name))
    return found


def version(tool: str) -> str:
    """What a tool says of its version; empty when it is not installed."""
    return mounting.command(tool, "--version").stdout.strip() if has(tool) else ""


RECORDINGS = mounting.ROOT / "tests" / "recordings"

#: Runs a test with each recorded story in which tools are called.
told_with_tools = pytest.mark.parametrize(
    "story",
    [story for story in sorted(RECORDINGS.rglob("*.recording")) if load_header(story).programs],
    ids=lambda story: f"{story.parent.name}-{story.stem}",
)


def header_with_tools(story: Path) -> Header:
    """A story's header; skips the test where the tools are not those that the story was told with."""
    header = load_header(story)
    for tool, told in header.programs.items():
        if version(tool) != told:
            pytest.skip(f"{tool} {told} is not installed")
    return header


def has(tool: str) -> bool:
    """Whether a tool is installed."""
    return shutil.which(tool) is not None


def is_root() -> bool:
    """Whether this is root, outside of any user namespace."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split() == ["0", "0", str(2**32 - 1)]


needs_root = pytest.mark.skipif(not is_root(), reason="needs root")
needs_block_devices = pytest.mark.skipif(
    not is_root() or not Path("/dev/loop-control").exists(), reason="needs root and loop devices"
)


def needs(tool: str) -> pytest.MarkDecorator:
    """Skips a test where a tool is not installed."""
    return pytest.mark.skipif(not has(tool), reason=f"{tool} (Debian's package {PACKAGES[tool]}) is not installed")
