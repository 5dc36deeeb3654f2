"""Sandboxes for tests: commands under `nvdimmfs run`, and the reasons why none can be run."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mounting
import pytest
from watchdog import WATCHDOG

from nvdimmfs.lab.recording import Header
from nvdimmfs.lab.recording_text import load_header

#: A machine with memory behind both of its ranges.
TWO_RANGES = ("--memmap", "512M!4G,256M!6G", "--ram", "8G")

#: Debian packages of the tools that tests call.
PACKAGES = {
    "acpidump": "acpica-tools",
    "bats": "bats",
    "blockdev": "util-linux",
    "cc": "gcc",
    "cryptsetup": "cryptsetup-bin",
    "daxctl": "daxctl",
    "daxio": "pmdk-tools",
    "dbus-daemon": "dbus-daemon",
    "fio": "fio",
    "fuse2fs": "fuse2fs",
    "fuser": "psmisc",
    "gi.overrides.BlockDev": "python3-blockdev",
    "go": "golang-go",
    "hwinfo": "hwinfo",
    "iasl": "acpica-tools",
    "iostat": "sysstat",
    "ipmctl": "ipmctl",
    "jq": "jq",
    "keyctl": "keyutils",
    "lscpu": "util-linux",
    "lsmem": "util-linux",
    "lsmod": "kmod",
    "lsof": "lsof",
    "lstopo-no-graphics": "hwloc-nox",
    "make": "make",
    "memkind-auto-dax-kmem-nodes": "libmemkind-progs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "modprobe": "kmod",
    "ndctl": "ndctl",
    "numactl": "numactl",
    "parted": "parted",
    "pmempool": "pmdk-tools",
    "pvcreate": "lvm2",
    "pyudev": "python3-pyudev",
    "sfdisk": "fdisk",
    "sgdisk": "gdisk",
    "udevadm": "udev",
    "udisksctl": "udisks2",
}


def why_not() -> str | None:
    """The reason why nothing can be run here; None when it can."""
    reason = mounting.why_not()
    if reason:
        return reason
    done = mounting.command(*mounting.MACHINE, "doctor", "--for", "run")
    return "; ".join(line for line in done.stdout.splitlines() if line.startswith("NO")) or None


def run(*command: str | Path, options: tuple[str | Path, ...] = (), **more) -> subprocess.CompletedProcess[str]:
    """Run a command on a machine and wait for it."""
    more = {"env": mounting.warm_environment()} | more
    return mounting.command(*mounting.MACHINE, "run", *options, "--", *command, **more)


def sh(script: str, *options: str | Path, **more) -> subprocess.CompletedProcess[str]:
    """Run a shell script on a machine, which must succeed silently.

    It runs in /run, where the files that a program drops are the sandbox's and end with it.
    `not COMMAND` requires that a command fails.  `! COMMAND` does not: `sh -e` ignores its result.
    """
    done = run("sh", "-ec", f'cd /run; not() {{ ! "$@"; }}\n{script}', options=options, **more)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}\n{done.stderr}"
    return done


def start(*command: str | Path, options: tuple[str | Path, ...] = (), **more) -> subprocess.Popen[str]:
    """Start a command on a machine."""
    argv = (*mounting.MACHINE, "run", *options, "--", *command)
    defaults = {"cwd": "/", "env": mounting.environment(), "text": True, "stdout": subprocess.PIPE}
    defaults["preexec_fn"] = _restore_signals
    return subprocess.Popen(argv, **(defaults | more))


def tagged(word: str) -> dict[str, str]:
    """The tests' environment with the variable of the fixture `tag`."""
    name, _, value = word.partition("=")
    return mounting.environment() | {name: value}


def _restore_signals() -> None:
    """Restore the default actions: shells and nohup(1) make their background processes ignore these signals."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def as_ordinary_user(*folders: Path) -> tuple[str, ...]:
    """The prefix of a command that makes an ordinary user run it (`tests/support/ordinary_user.py`).

    Args:
        folders: the folders that the command needs besides this checkout and Python.
    """
    needed = (mounting.ROOT, Path(sys.prefix), Path(sys.base_prefix), *folders)
    return (sys.executable, str(mounting.ROOT / "tests" / "support" / "ordinary_user.py"), *map(str, needed), "--")


def why_no_ordinary_user() -> str | None:
    """The reason why no ordinary user can run commands on a machine here; None when one can."""
    if not is_root():
        return "needs root, to become an ordinary user"
    done = mounting.command(*as_ordinary_user(), *mounting.MACHINE, "doctor")
    if done.returncode not in (0, 1) or done.stderr:
        return f"an ordinary user may not run this Python: {done.stderr.strip()}"
    return "; ".join(line for line in done.stdout.splitlines() if line.startswith("NO")) or None


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll a condition that no event announces until it holds."""
    deadline = time.monotonic() + WATCHDOG
    while not condition():
        assert time.monotonic() < deadline, "hung"
        time.sleep(0.01)


def wait_for_end_of(word: str) -> None:
    """Wait until no process has a variable in its environment."""
    while processes := processes_with(word):
        for process in processes:
            try:
                descriptor = os.pidfd_open(process)
            except ProcessLookupError:
                continue
            try:
                assert select.select([descriptor], [], [], WATCHDOG)[0], f"process {process} is left"
            finally:
                os.close(descriptor)


def processes_with(word: str) -> list[int]:
    """The processes that have a variable, `NAME=value`, in their environment."""
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


def processes_of(sandbox: subprocess.Popen[str]) -> dict[str, int]:
    """The ids of a sandbox's own processes, by what they are."""
    (supervisor,) = _children(sandbox.pid)
    children = _children(supervisor)
    # In the order in which they are started; there is a reaper where there are block devices.
    names = ("server", "reaper", "init") if len(children) == 3 else ("server", "init")[-len(children) :]
    found = {"front": sandbox.pid, "supervisor": supervisor, **dict(zip(names, children, strict=True))}
    command, *_ = _children(found["init"])
    return {**found, "command": command}


def stop(process: int) -> None:
    """Stop a process, and wait until it has stopped: until then another signal may end it at once."""
    os.kill(process, signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T")


def _children(process: int) -> list[int]:
    """The processes that the main thread of a process has started."""
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def version(tool: str) -> str:
    """The output of a tool's --version; empty when the tool is not installed."""
    return mounting.command(tool, "--version").stdout.strip() if has(tool) else ""


RECORDINGS = mounting.ROOT / "tests" / "recordings"

#: Replays a story where it runs.
REPLAY = (sys.executable, "-m", "nvdimmfs", "lab", "replay", "--sys", "/sys")

#: Runs a test with each recorded story that calls tools.
stories_with_tools = pytest.mark.parametrize(
    "story",
    [story for story in sorted(RECORDINGS.rglob("*.recording")) if load_header(story).programs],
    ids=lambda story: f"{story.parent.name}-{story.stem}",
)


def header_with_tools(story: Path) -> Header:
    """A story's header.  Skips the test where the tools are not the versions with which the story was recorded."""
    header = load_header(story)
    for tool, recorded in header.programs.items():
        if version(tool) != recorded:
            pytest.skip(f"{tool} {recorded} is not installed")
    return header


def has(tool: str) -> bool:
    """Whether a tool is installed."""
    return shutil.which(tool) is not None


def is_root() -> bool:
    """Whether this is root outside any user namespace."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split() == ["0", "0", str(2**32 - 1)]


needs_root = pytest.mark.skipif(not is_root(), reason="needs root")
needs_block_devices = pytest.mark.skipif(
    not is_root() or not Path("/dev/loop-control").exists(), reason="needs root and loop devices"
)


def needs(*tools: str) -> pytest.MarkDecorator:
    """Skip a test where one of some tools is not installed."""
    missing = [f"{tool} (Debian package {PACKAGES[tool]})" for tool in tools if not has(tool)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def needs_module(name: str, python: str) -> pytest.MarkDecorator:
    """Skip a test where a Python lacks a module."""
    program = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    lacks = subprocess.run([python, "-c", program], stderr=subprocess.DEVNULL, check=False).returncode != 0
    return pytest.mark.skipif(lacks, reason=f"{python} lacks {name} (Debian package {PACKAGES[name]})")
