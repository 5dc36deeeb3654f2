"""Trials: `mount` and `run` made as a user makes them, but in processes of their own and bounded in time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import field, frozen

from nvdimmfs.cli.errors import CommandError, one_line
from nvdimmfs.cli.umount import detach
from nvdimmfs.fuse.requirements import MountError, require_fuse

#: How long to wait for a trial whose processes use no processor time, in seconds.  On an emulated processor a trial
#: takes longer, but then it is at work.
TIMEOUT = 30.0

#: Processor time that is no work: of a process that waits, and looks from time to time.
_IDLE = 0.1

#: A file of the machine that every kernel has, and its content after the boot.
_FILE, _CONTENT = "/sys/bus/nd/drivers_autoprobe", "1\n"

#: What begins a warning.
_WARNING = "nvdimmfs: warning: "

#: What the command of a trial prints about the machine's disk.
_BLOCK_DEVICE = "block device"


@frozen
class Outcome:
    """What a trial has shown.

    Attributes:
        error: the reason why it failed and, after a semicolon, a remedy; empty when it succeeded.
        has_block_device: whether the disk of the machine was a block device.
        warning: the first warning that was printed, without its beginning; empty for none.
    """

    error: str = ""
    has_block_device: bool = False
    warning: str = ""


def try_mount() -> Outcome:
    """Mount a tree of one file on a temporary directory, read the file, and unmount it."""
    try:
        temporary = tempfile.TemporaryDirectory(prefix="nvdimmfs-doctor-", ignore_cleanup_errors=True)
    except OSError as failure:
        return Outcome(_about_temporary_directory(failure))
    with temporary as folder:
        return Outcome(_mount_error(Path(folder)).removeprefix(f"cannot mount on {folder}: "))


def try_run() -> Outcome:
    """Run a command that reads a file of a machine, in a sandbox."""
    script = f"cat {_FILE}; if test -b /dev/pmem0; then echo {_BLOCK_DEVICE}; fi"
    with _process(lambda _ready: _call(["run", "--", "/bin/sh", "-c", script])) as process:
        error = process.error_at_exit("a command in a sandbox did not end")
        output, warning = process.output(), process.warning()
    if not error and not output.startswith(_CONTENT):
        error = f"{_FILE} has the content {output!r} in a sandbox instead of {_CONTENT!r}"
    return Outcome(error, _BLOCK_DEVICE in output, warning)


def _mount_error(mountpoint: Path) -> str:
    try:
        require_fuse()
    except MountError as failure:
        return str(failure)
    try:
        with _process(lambda ready: _serve(mountpoint, ready)) as server:
            if not server.is_ready():
                return server.error_at_exit("the mount did not answer")
            with _process(lambda _ready: _read_and_unmount(mountpoint)) as client:
                error = client.error_at_exit("the mount was not read and unmounted")
            return error or server.error_at_exit("the daemon did not end")
    finally:
        with contextlib.suppress(CommandError):  # it is unmounted already, unless the trial has failed
            detach(mountpoint)


def _serve(mountpoint: Path, ready: Callable[[], None]) -> None:
    from nvdimmfs.fuse.mount import serve
    from nvdimmfs.kernfs import Tree

    serve(Tree(), mountpoint, on_ready=ready)


def _read_and_unmount(mountpoint: Path) -> None:
    list(mountpoint.iterdir())
    _call(["umount", str(mountpoint)])


def _call(arguments: list[str]) -> None:
    """Call the command line, as a user does."""
    from nvdimmfs.cli.main import main

    os._exit(main(arguments))


@frozen
class _Process:
    """A child process in a session of its own.

    Attributes:
        number: the process.
        descriptor: a pidfd of it.
        readiness: a pipe that it writes to once it serves.
        outputs: files with what it prints to stdout and stderr.
    """

    number: int
    descriptor: int
    readiness: int
    outputs: tuple[int, int] = field(repr=False)

    def is_ready(self) -> bool:
        """Wait until it reports that it serves; False when it ends or takes too long."""
        ready = self._wait(self.readiness, self.descriptor)
        return self.readiness in ready and bool(os.read(self.readiness, 1))

    def error_at_exit(self, late: str) -> str:
        """Wait until it ends, and return the error that it printed; empty when it ended with status 0.

        Args:
            late: what to report when it does not end in time.
        """
        begin = time.monotonic()
        if not self._wait(self.descriptor):
            return f"{late} within {time.monotonic() - begin:.0f} s"
        result = os.waitid(os.P_PIDFD, self.descriptor, os.WEXITED | os.WNOWAIT)
        assert result is not None, "it has ended"
        if result.si_code == os.CLD_EXITED and result.si_status == 0:
            return ""
        lines = self._read(self.outputs[1]).strip().splitlines()
        if lines:
            return lines[-1].removeprefix("nvdimmfs: ")
        if result.si_code == os.CLD_EXITED:
            return f"its process ended with status {result.si_status}"
        return f"its process was killed by {signal.Signals(result.si_status).name}"

    def _wait(self, *files: int) -> list[int]:
        """Wait until some files are readable, and return these; none if the trial uses no processor time any more."""
        used = 0.0
        while not (ready := select.select(files, [], [], TIMEOUT)[0]):
            before, used = used, processor_time(self.number)
            if used - before < _IDLE:
                break
        return ready

    def output(self) -> str:
        return self._read(self.outputs[0])

    def warning(self) -> str:
        """The first warning that it printed."""
        lines = self._read(self.outputs[1]).splitlines()
        return next((line.removeprefix(_WARNING) for line in lines if line.startswith(_WARNING)), "")

    def _read(self, file: int) -> str:
        return os.pread(file, 65536, 0).decode(errors="replace")


def processor_time(session: int) -> float:
    """The processor time that the processes of a session have used, with that of children that have ended; seconds."""
    ticks = 0
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            with contextlib.suppress(OSError):  # it has just ended
                # After the name, from the state on (proc(5)): the session is the fourth, then come the times.
                fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[3]) == session:
                    ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _process(act: Callable[[Callable[[], None]], None]) -> Iterator[_Process]:
    """A process that carries out `act`, which gets a function to call once it serves; killed at the end."""
    sys.stdout.flush()
    sys.stderr.flush()
    readiness, report = os.pipe()
    outputs = os.memfd_create("stdout"), os.memfd_create("stderr")
    number = os.fork()
    if number == 0:
        _carry_out(act, report, outputs)
    os.close(report)
    descriptor = os.pidfd_open(number)
    try:
        yield _Process(number, descriptor, readiness, outputs)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)  # it may not have its session yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(number, signal.SIGKILL)
        os.waitpid(number, 0)
        for file in (descriptor, readiness, *outputs):
            os.close(file)


def _carry_out(act: Callable[[Callable[[], None]], None], report: int, outputs: tuple[int, int]) -> None:
    """In the child process."""
    try:
        os.setsid()
        for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), *outputs)):
            os.dup2(file, number)
        act(lambda: os.close(report) if os.write(report, b"+") else None)
        os._exit(0)
    except Exception as failure:
        text = str(failure) if isinstance(failure, MountError) else one_line(failure)
        os.write(2, text.encode(errors="replace"))
    finally:
        os._exit(1)


def _about_temporary_directory(failure: OSError) -> str:
    place = f"{failure.filename}: " if failure.filename else ""
    return f"cannot make a temporary directory: {place}{failure.strerror}; set TMPDIR to a folder that you can write to"
