"""How the clock, the modules and the checkpoints of a mounted machine are reached: by files of the debug folder."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import threading
import weakref
from collections import deque
from decimal import Decimal

from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.testing.arguments import DEBUG
from nvdimmfs.testing.controls import Checkpoint, ClockState, Pending
from nvdimmfs.testing.mounted_files import MountedFiles

#: The lines of the file `clock`.
_MODE = re.compile(r"^mode: (\w+)$", re.MULTILINE)
_NOW = re.compile(r"^now: ([0-9.]+) s$", re.MULTILINE)
_DUE = re.compile(r"^due ([0-9.]+) s: (.*)$", re.MULTILINE)

#: The most that one write advances the clock by: a year.
_LONGEST_STEP = 365 * 24 * 60 * 60 * SECOND

#: The names of the checkpoints of this process.
_numbers = itertools.count(1)


class MountedClock:
    """The clock of a mounted machine."""

    def __init__(self, files: MountedFiles) -> None:
        self._files = files

    def state(self) -> ClockState:
        """What it shows now."""
        text = self._files.read(f"{DEBUG}/clock")
        mode, now = _MODE.search(text), _NOW.search(text)
        assert mode, text
        assert now, text
        pending = tuple(Pending(float(due), what) for due, what in _DUE.findall(text))
        return ClockState(mode[1], int(Decimal(now[1]) * SECOND), pending)

    def advance(self, nanoseconds: int) -> None:
        """Let time pass."""
        while True:
            step = min(nanoseconds, _LONGEST_STEP)
            self._files.write(f"{DEBUG}/clock", f"advance {step // SECOND}.{step % SECOND:09} s")
            nanoseconds -= step
            if not nanoseconds:
                return


class MountedModules:
    """The modules of a mounted machine."""

    def __init__(self, files: MountedFiles) -> None:
        self._files = files

    def known(self) -> tuple[str, ...]:
        """The names of those that can be loaded."""
        lines = self._files.read(f"{DEBUG}/modules").splitlines()
        return tuple(line.partition(":")[0] for line in lines)

    def loaded(self) -> tuple[str, ...]:
        """The names of the loaded ones, in the order of loading."""
        lines = self._files.read("proc/modules").splitlines()
        return tuple(line.partition(" ")[0] for line in reversed(lines))

    def load(self, name: str) -> None:
        """Load one.  OSError."""
        self._write("load", name)

    def unload(self, name: str) -> None:
        """Unload one.  OSError."""
        self._write("unload", name)

    def _write(self, verb: str, name: str) -> None:
        try:
            self._files.write(f"{DEBUG}/modules", f"{verb} {name}")
        except OSError as refusal:
            refusal.filename = name
            raise


class MountedCheckpoints:
    """The checkpoints of a mounted machine, which keeps each as long as the test has its `Checkpoint`."""

    def __init__(self, files: MountedFiles) -> None:
        self._files = files
        self._unused: deque[str] = deque()

    def take(self) -> Checkpoint:
        """Save the state.  ValueError for a machine that cannot be reset."""
        self._forget_unused()
        name = f"{os.getpid()}.{threading.get_native_id()}.{next(_numbers)}"
        self._write(f"take {name}")

        def reset() -> None:
            self._write(f"reset {name}")

        checkpoint = Checkpoint(reset)
        weakref.finalize(checkpoint, self._unused.append, name).atexit = False
        return checkpoint

    def reset(self) -> None:
        """Go back to the last one.  ValueError when there is none."""
        self._write("reset")

    def _forget_unused(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._write(f"forget {self._unused.popleft()}")

    def _write(self, order: str) -> None:
        try:
            self._files.write(f"{DEBUG}/checkpoint", order)
        except OSError as refusal:
            if refusal.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            raise ValueError("; ".join(getattr(refusal, "__notes__", [])) or str(refusal)) from None
