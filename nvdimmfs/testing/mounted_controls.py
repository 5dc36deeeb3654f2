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

import attrs

from nvdimmfs.faults.rule import Rule
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.testing.arguments import DEBUG
from nvdimmfs.testing.controls import Checkpoint, ClockState, Pending
from nvdimmfs.testing.mounted_files import MountedFiles
from nvdimmfs.testing.refusals import reasons_of

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


class MountedFault:
    """A fault rule of a mounted machine, which is found by its name."""

    def __init__(self, files: MountedFiles, name: str) -> None:
        self._files = files
        self._line = re.compile(rf" name={re.escape(name)}  # rule [0-9]+, hits ([0-9]+)$", re.MULTILINE)
        self._name = name
        self._hits = 0

    @classmethod
    def declared(cls, files: MountedFiles, rule: Rule) -> MountedFault:
        """Declare a rule.  ValueError when there can be no such rule."""
        name = rule.name or f"fault-{os.getpid()}.{threading.get_native_id()}.{next(_numbers)}"
        try:
            files.write(f"{DEBUG}/faults", f"add {attrs.evolve(rule, name=name)}\n")
        except OSError as refusal:
            if refusal.errno not in (errno.EEXIST, errno.ENOSPC):
                raise
            raise ValueError(reasons_of(refusal)) from None
        return cls(files, name)

    def hits(self) -> int:
        """How often it has applied; once it was removed, what was seen last."""
        found = self._line.search(self._files.read(f"{DEBUG}/faults"))
        self._hits = int(found[1]) if found else self._hits
        return self._hits

    def remove(self) -> None:
        """Remove it, if it is there; a cut power stays cut."""
        self.hits()
        try:
            self._files.write(f"{DEBUG}/faults", f"remove {self._name}\n")
        except OSError as refusal:
            if refusal.errno not in (errno.ENOENT, errno.EBUSY):
                raise


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
    """The checkpoints of a mounted machine since its boot; it keeps each as long as the test has its `Checkpoint`."""

    def __init__(self, files: MountedFiles) -> None:
        self._files = files
        self._unused: deque[str] = deque()
        self._are_gone = False

    def end(self) -> None:
        """The machine boots again, and has none of them any more."""
        self._are_gone = True

    def take(self) -> Checkpoint:
        """Save the state.  ValueError for a machine that cannot be reset."""
        self._forget_unused()
        name = f"{os.getpid()}.{threading.get_native_id()}.{next(_numbers)}"
        self._write(f"take {name}")

        def reset() -> None:
            if self._are_gone:
                raise ValueError("the machine has booted again since the checkpoint")
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
            raise ValueError(reasons_of(refusal)) from None
