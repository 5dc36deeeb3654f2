"""Real mounts for tests: made by the real command line, and removed afterwards in any case."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from warm import WarmServer
from watchdog import WATCHDOG

ROOT = Path(__file__).resolve().parent.parent.parent
#: The compiled modules of the programs that tests start: to compile them anew is half of a short program's time.
BYTECODE = ROOT / ".pytest_cache" / "bytecode"
MACHINE = (sys.executable, "-m", "nvdimmfs")
#: The `nvdimmfs` that `path_with_nvdimmfs` makes.
ON_PATH = (sys.executable, "-P", "-m", "nvdimmfs")
TOY = (sys.executable, str(ROOT / "tests" / "support" / "toy.py"))
#: Ranges that the default machine has memory for, so that `mount` prints no warning.
QUIET = ("--memmap", "512M!4G")

DAEMON_XATTR = "user.nvdimmfs.daemon"
MNT_DETACH = 2
ONE_LINE = re.compile(r"nvdimmfs: [^\n]+\n")


def environment() -> dict[str, str]:
    """The tests' environment, with this checkout's package first in PYTHONPATH, and without a warm server."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "NVDIMMFS_SERVE": "no"}


def warm_environment(program: tuple[str, ...] = MACHINE) -> dict[str, str]:
    """The same with a warm server of a program, for tests that are not about how a command starts."""
    return environment() | _server(program).variables


@functools.cache
def _server(program: tuple[str, ...]) -> WarmServer:
    return WarmServer(program, environment())


def path_with_nvdimmfs(commands: Path) -> str:
    """A PATH that leads to this checkout's `nvdimmfs`, made in a new folder, and to the Python of the tests."""
    commands.mkdir()
    program = commands / "nvdimmfs"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(ON_PATH)} "$@"\n')
    program.chmod(0o755)
    return os.pathsep.join((str(commands), str(Path(sys.executable).parent), os.environ["PATH"]))


def command(*argv: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    options = {"cwd": "/", "env": environment(), "capture_output": True, "text": True, "timeout": WATCHDOG} | options
    return subprocess.run(argv, check=False, **options)


def cli(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Run `nvdimmfs`."""
    return command(*MACHINE, *arguments, **options)


def warm_cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `nvdimmfs`, with a warm server."""
    return cli(*arguments, env=warm_environment())


def in_private_namespace(*lines: str) -> subprocess.CompletedProcess[str]:
    """Run shell lines in a private mount namespace."""
    if os.geteuid() != 0 or command("unshare", "-m", "true").returncode:
        pytest.skip("needs a private mount namespace")
    return command("unshare", "-m", "sh", "-ec", "\n".join(lines))


def refusal(done: subprocess.CompletedProcess[str], status: int = 1) -> str:
    """The one line that a failed command printed to stderr; it must have printed nothing else."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert ONE_LINE.fullmatch(done.stderr), done.stderr
    return done.stderr.removeprefix("nvdimmfs: ").strip()


def why_not() -> str | None:
    """The reason why nothing can be mounted here; None when mounting works."""
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        return f"/dev/fuse cannot be used: {error.strerror}"
    try:
        if os.geteuid() != 0:
            return None if shutil.which("fusermount3") else "fusermount3 is missing, and this is not root"
        return _try_to_mount(device)
    finally:
        os.close(device)


def _try_to_mount(device: int) -> str | None:
    libc = ctypes.CDLL(None, use_errno=True)
    place = Path(os.environ.get("TMPDIR", "/tmp"), f"nvdimmfs-try-{os.getpid()}")
    place.mkdir()
    try:
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
        if libc.mount(b"try", os.fsencode(place), b"fuse", 0, options.encode()):
            return f"mount(2) is refused: {os.strerror(ctypes.get_errno())}"
        libc.umount2(os.fsencode(place), MNT_DETACH)
        return None
    finally:
        place.rmdir()


def is_mounted(directory: Path) -> bool:
    """Whether the mount table has it."""
    return directory in _mount_points()


def mounted_below(directory: Path) -> list[Path]:
    """The mount points below a directory, the deepest first."""
    return sorted((point for point in _mount_points() if directory in point.parents), reverse=True)


def _mount_points() -> list[Path]:
    """All that the mount table has; blanks are written in octal there."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    octal = re.compile(r"\\([0-7]{3})")
    return [Path(octal.sub(lambda match: chr(int(match[1], 8)), line.split(" ")[4])) for line in lines]


def daemon_of(directory: Path) -> int:
    """The process that serves a mount."""
    return int(os.getxattr(directory, DAEMON_XATTR).split()[0])


def detach(directory: Path) -> None:
    """Remove a mount from the tree of files at once, whether its daemon lives or not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(directory), MNT_DETACH):
        command("fusermount3", "-u", "-z", directory)


@attrs.define(eq=False)
class Mount:
    """A mount, and how to remove it.

    Attributes:
        program: the command line, up to the sub-command.
        directory: where it is mounted.
        log: the daemon's log.
        daemon: a pidfd of the daemon, which is safe even if the kernel reuses the process id.
        pid: the daemon's id.
    """

    program: tuple[str, ...]
    directory: Path
    log: Path
    daemon: int = -1
    pid: int = 0
    may_log_warnings: bool = False

    def start(self, *options: str | Path) -> None:
        """`nvdimmfs mount`, which must succeed."""
        argv = (*self.program, "mount", self.directory, "--log", self.log, *options)
        done = command(*argv, env=warm_environment(self.program))
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        self.find_daemon()

    def find_daemon(self) -> None:
        self.pid = daemon_of(self.directory)
        self.daemon = os.pidfd_open(self.pid)

    def umount(self, *options: str) -> subprocess.CompletedProcess[str]:
        return command(*self.program, "umount", self.directory, *options)

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        """A shell in the mount's root."""
        return command("sh", "-c", script, cwd=self.directory)

    def kill(self, number: int) -> None:
        """Send the daemon a signal."""
        signal.pidfd_send_signal(self.daemon, number)

    def has_ended(self, timeout: float = WATCHDOG) -> bool:
        """Wait until the daemon has exited; whether it has."""
        poll = select.poll()
        poll.register(self.daemon, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def dispose(self) -> None:
        """Leave neither a mount nor a process behind, whatever state the mount is in."""
        if self.daemon < 0 and is_mounted(self.directory):
            with contextlib.suppress(OSError):
                self.find_daemon()
        if self.daemon >= 0:
            with contextlib.suppress(ProcessLookupError):
                self.kill(signal.SIGKILL)
            self.has_ended()
            os.close(self.daemon)
            self.daemon = -1
        if is_mounted(self.directory):
            detach(self.directory)

    def unexpected_lines(self) -> list[str]:
        """Warnings, errors and tracebacks in the daemon's log."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if any(word in line for word in ("WARNING", "ERROR", "CRITICAL", "Traceback"))]


@contextlib.contextmanager
def mounted(*options: str | Path) -> Iterator[Mount]:
    """A mount, made with these options of `nvdimmfs mount`, in a place that other users may reach, too."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        mount = Mount(MACHINE, place / "mount", place / "log")
        mount.directory.mkdir()
        try:
            mount.start(*options)
            yield mount
        finally:
            mount.dispose()
