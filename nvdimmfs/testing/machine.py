"""`Machine`: a mounted machine in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

from nvdimmfs.dumps.difference import differences
from nvdimmfs.dumps.text import rows_of
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine_file.type_checks import require
from nvdimmfs.testing.arguments import DEBUG, AnyPath, path_of
from nvdimmfs.testing.commands import CommandResult, Word, run_on_machine
from nvdimmfs.testing.controls import Checkpoint, Clock, Modules
from nvdimmfs.testing.errors import UnavailableError
from nvdimmfs.testing.faults import Fault, FaultDetails, rule_of_arguments
from nvdimmfs.testing.mounted_channel import MountedChannel
from nvdimmfs.testing.mounted_controls import MountedCheckpoints, MountedClock, MountedFault, MountedModules
from nvdimmfs.testing.mounted_files import MountedFiles
from nvdimmfs.testing.mounted_trace import MountedTraceSource
from nvdimmfs.testing.selection import described, folder_of
from nvdimmfs.testing.serving import Serving, ended_line
from nvdimmfs.testing.trace import Trace

#: What a new interpreter executes to be `nvdimmfs`; its first argument is the search path as JSON.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from nvdimmfs.__main__ import main; sys.exit(main())"
)


class Machine(MountedFiles):
    """A machine that is mounted on a temporary folder, and served by a process of its own.

    Other processes can use it: below `path`, or in a sandbox (`run`, `shell`), which has it at /sys, /dev and /proc.
    When this process ends, even by SIGKILL, the machine is unmounted, and its process and its folder go.

    All methods may be called from several threads.  A process that is forked can use the machine, but closing it there
    does nothing.  As a context manager it closes the machine at the end.

    Args:
        machine: the name of a machine that comes with nvdimmfs (`nvdimmfs machine list`), the path of a machine file,
            or a description.  None: 4 GiB of RAM and memmap=512M!4G,256M!6G.
        memmap, ram, kernel: replace what the machine has, as the options of `nvdimmfs mount`; `ram` is bytes, or a
            text such as "8G".
        media: a folder that keeps the bytes of persistent memory in files; None keeps them in memory.
        clock: what advances the machine's clock: "real", "steps" or "manual".  None is what the machine file sets;
            where that is "real", it is "steps", so that results do not depend on the speed of the host.
        trace: whether calls are recorded from the beginning; `trace.start()` begins later.

    Raises:
        ValueError: there is no such machine, it cannot exist, or `media` cannot be used.
        UnavailableError: this host cannot mount it.

    Attributes:
        path: where it is mounted.
        sys: its /sys.
        dev: its /dev, where disks are regular files.
        proc: its /proc.
        events: the uevents since the boot.
        refusals: the requests of all processes that it has refused since the boot, with reasons.
        clock: its clock.
        modules: its modules.
        trace: the calls of all processes so far, with their answers and effects.
    """

    def __init__(
        self,
        machine: AnyPath | MachineDescription | None = None,
        *,
        memmap: str | None = None,
        ram: int | str | None = None,
        kernel: str | None = None,
        media: AnyPath | None = None,
        clock: str | None = None,
        trace: bool = True,
    ) -> None:
        require("trace", trace, (bool,), "True or False")
        description = described(machine, memmap=memmap, ram=ram, kernel=kernel, clock=clock)
        folder = folder_of(media)
        self._serving = Serving.start(description, None if folder is None else folder.absolute())
        self._is_open = True
        self._finalizer = weakref.finalize(self, self._serving.end)
        self.path = self._serving.path
        self.sys, self.dev, self.proc = self.path / "sys", self.path / "dev", self.path / "proc"
        self.trace = Trace(MountedTraceSource(self))
        try:
            channel = MountedChannel(self.path, _warn_of_lost_records)
        except BaseException:
            self._finalizer()
            raise
        super().__init__(description.name, self.path, channel)
        try:
            if trace:
                self.trace.start()
        except BaseException:
            self.close()
            raise
        self.events = channel.events
        self.refusals = channel.refusals
        self.clock = Clock(MountedClock(self))
        self.modules = Modules(MountedModules(self))
        self._checkpoints = MountedCheckpoints(self)

    def __repr__(self) -> str:
        return f"<Machine{self._name and f' {self._name}'} on {self.path}{'' if self._is_open else ', closed'}>"

    def close(self) -> None:
        """Unmount the machine, and wait for the end of its process.  Further calls do nothing.

        `events` and `refusals` keep what was received; any other use is a ValueError afterwards.
        """
        if self._is_open:
            self._is_open = False
            with self._serving.answering():
                self._channel.close()
            self._finalizer()

    # Commands

    def run(
        self,
        command: Sequence[Word],
        *,
        check: bool = False,
        timeout: float | None = None,
        stdin: str | bytes = b"",
        cwd: AnyPath | None = None,
        env: Mapping[str, str] | None = None,
        net: str = "private",
    ) -> CommandResult:
        """Run a command that finds this machine in /sys, /dev and /proc, and wait for its end.

        When it ends, whatever it has left running is killed, as below `nvdimmfs run`.

        Args:
            command: the command and its arguments.
            check: raise subprocess.CalledProcessError, with the outputs as notes, unless the status is 0.
            timeout: seconds after which the command is killed with all its children: subprocess.TimeoutExpired.
            stdin: what it reads from stdin.
            cwd: its working directory; None is that of this process.
            env: its environment; None is that of this process.
            net: "private" for a network of its own, which has no connections but receives the machine's uevents, or
                "host".

        Raises:
            OSError: there is no such working directory.
            UnavailableError: this host permits no sandbox.
        """
        self._require_open()
        words: object = command
        if isinstance(words, str | bytes) or not isinstance(words, Sequence) or not words:
            raise ValueError(f"{command!r}: write a command as a list of words")
        if net not in ("private", "host"):
            raise ValueError(f"net {net!r}: must be private or host")
        require("stdin", stdin, (str, bytes), "a text or bytes")
        require("timeout", timeout, (int, float, type(None)), "a number of seconds")
        result = run_on_machine(
            self._serving.template,
            self.path,
            command,
            stdin=stdin.encode(errors="surrogateescape") if isinstance(stdin, str) else stdin,
            timeout=timeout,
            directory=Path.cwd() if cwd is None else _folder(cwd),
            environment=os.environ if env is None else _checked(env),
            private_network=net == "private",
        )
        if check:
            result.check()
        return result

    def shell(self) -> int:
        """Run the user's shell in a sandbox on this machine, on the terminal of this process; return its status."""
        self._require_open()
        words = [sys.executable, "-c", _PROGRAM, json.dumps([*map(os.path.abspath, sys.path)])]
        shell = os.environ.get("SHELL") or "/bin/sh"
        return subprocess.call([*words, "run", "--attach", str(self.path), "--", shell])

    # The whole machine

    def dump(self) -> str:
        """What belongs to libnvdimm in /sys, as the text that `nvdimmfs dump` writes; time does not pass for it."""
        return self.read(f"{DEBUG}/dump")

    def diff(self, before: str) -> list[str]:
        """What has changed since a dump, in the words of `nvdimmfs diff`: one line for each difference.

        ValueError for a text that is no dump.
        """
        require("before", before, (str,), "the text of a dump")
        return differences(rows_of(before, "before"), rows_of(self.dump(), "now"))

    def checkpoint(self) -> Checkpoint:
        """Save the state of the machine: bytes, labels, bindings, numbers, modules, settings and the clock.

        `with machine.checkpoint():` goes back to it at the end.  ValueError for a machine with `media`.
        """
        checkpoint = self._checkpoints.take()
        self._after_checkpoint()
        return checkpoint

    def reset(self) -> None:
        """Go back to the last checkpoint.  ValueError when there is none."""
        self._checkpoints.reset()

    def power_cycle(self) -> None:
        """Cut the power, and boot the machine again from what its media have, as `Engine.power_cycle`.

        It is mounted on the same folder, by another process.  Files that are open, and sandboxes, have lost their
        machine.

        Raises:
            ValueError: the machine cannot boot, because a rule of the machine file cuts the power; it is closed then.
            UnavailableError: the host cannot mount it any more.
        """
        self._require_open()
        is_traced = self.trace.is_on
        self._channel.fetch()
        try:
            self._serving.restart()
        except (UnavailableError, ValueError):
            self.close()
            raise
        self._channel.reopen()
        self._checkpoints.end()
        self._checkpoints = MountedCheckpoints(self)
        if is_traced:
            self.trace.start()

    def fail(
        self,
        path: AnyPath,
        op: str,
        errno: int | str | None = None,
        times: int | None = None,
        after: int = 0,
        **details: Unpack[FaultDetails],
    ) -> Fault:
        """Declare that something fails from now on, until the result is removed; arguments as `Engine.fail`.

        Raises:
            ValueError: there can be no such rule.
        """
        rule = rule_of_arguments(path, op, errno, times, after, details)
        return Fault(str(rule), MountedFault.declared(self, rule))

    # Internal

    def _require_open(self) -> None:
        if not self._is_open:
            raise ValueError("the machine is closed")

    def _reasons(self, number: int, begin: int) -> tuple[str, ...]:
        """The reasons of a refusal, or why there is no answer."""
        if self._serving.is_owned and self._serving.has_ended:
            return (ended_line(self.path, self._serving.log),)
        return super()._reasons(number, begin)


def _folder(cwd: AnyPath) -> Path:
    """The absolute path of a working directory.  TypeError; OSError when there is no such directory."""
    folder = Path(path_of(cwd, "cwd")).absolute()
    os.close(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return folder


def _checked(environment: Mapping[str, str]) -> Mapping[str, str]:
    """TypeError or ValueError for what cannot be an environment."""
    require("env", environment, (Mapping,), "a mapping of texts")
    for name, value in environment.items():
        require("a name in env", name, (str,), "a text")
        require(f"{name} in env", value, (str,), "a text")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"{name!r} in env: no program can have such a variable")
    return environment


def _warn_of_lost_records(count: int) -> None:
    warnings.warn(f"{count} events and refusals are lost: the test has not looked for too long", stacklevel=2)
