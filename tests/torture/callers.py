"""Several users of a sandbox make random and malformed system calls on the machine's devices.

    python tests/torture/callers.py --seed N --minutes M

Each turn starts a sandbox with `tests/support/hostile_callers.py`.  No caller may get what its user may not, and no
page that is not writable may be written.  The supervisor may log nothing and must still answer, and after the calls it
may have no more open files and threads than before, but for the few that it keeps for the next calls.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import _paths  # noqa: F401  # before the modules that it makes importable
import hostile_callers
import mounting
import sandboxes
from torturing import Trial, run, shrink
from watchdog import WATCHDOG

_PROGRAM = mounting.ROOT / "tests" / "support" / "hostile_callers.py"

_MACHINES = (
    ("--machine", "qemu-nfit"),
    ("--machine", "nfit_test"),
    ("--machine", "two-socket-6way"),
    ("--memmap", "512M!4G,256M!6G", "--ram", "8G"),
)

#: Calls of a turn.
_CALLS = 1200

#: Open files and threads that the supervisor may keep for the next calls: two for each of four threads, and of the
#: caller that each of these answered last its directory, its status, one file and what shows that one.
_KEPT = 4 * (2 + 4)


def body(trial: Trial) -> None:
    while trial.goes_on():
        machine = trial.random.choice(_MACHINES)
        features = [name for name in hostile_callers.FEATURES if trial.random.random() < 0.8]
        if not sandboxes.is_root() and "strangers" in features:
            features.remove("strangers")
        seed = trial.random.getrandbits(32)
        reason = turn(machine, features, seed, trial)
        if reason is None:
            continue

        def fails(fewer: Sequence[str], machine: tuple[str, ...] = machine, seed: int = seed) -> bool:
            return turn(machine, fewer, seed) is not None

        trial.failed(reason, [" ".join((*machine, "--", str(seed), str(_CALLS), *shrink(features, fails)))])


def turn(machine: tuple[str, ...], features: Sequence[str], seed: int, trial: Trial | None = None) -> str | None:
    """One sandbox; why it failed, or None."""
    argv = (*mounting.MACHINE, "run", *machine, "--", sys.executable, _PROGRAM, str(seed), str(_CALLS), *features)
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            argv, cwd="/", env=mounting.environment(), stdin=-1, stdout=-1, stderr=errors, text=True
        )
        try:
            before = _open_and_threads(process) if _next_line(process) == "ready\n" else 0
            process.stdin.write("\n")
            process.stdin.flush()
            line = _next_line(process)
            after = _open_and_threads(process) if _next_line(process) == "done\n" else 0
            process.communicate("\n", timeout=WATCHDOG)
        finally:
            process.kill()
            process.communicate()
        errors.seek(0)
        printed = errors.read()
    figures = json.loads(line) if line.startswith("{") else {}
    if trial is not None:
        trial.count("sandboxes")
        for name in ("calls", "succeeded", "killed"):
            trial.count(name, figures.get(name, 0))
        trial.highest("kept files and threads", after - before)
    return _judge(process.returncode, figures, printed, after - before)


def _judge(status: int, figures: dict[str, int], printed: str, kept: int) -> str | None:
    if printed or status:
        return f"status {status}, and the sandbox printed {printed!r}"
    if figures["gained"]:
        return f"{figures['gained']} calls of an ordinary user succeeded"
    if figures["written"]:
        return "a page was written that is not writable"
    if kept > _KEPT:
        return f"the supervisor has {kept} more open files and threads than before"
    return None


def _next_line(process: subprocess.Popen[str]) -> str:
    line: str = process.stdout.readline()
    return line


def _open_and_threads(process: subprocess.Popen[str]) -> int:
    folder = Path(f"/proc/{sandboxes.processes_of(process)['supervisor']}")
    return len(os.listdir(folder / "fd")) + len(os.listdir(folder / "task"))  # noqa: PTH208  # names only


if __name__ == "__main__":
    sys.exit(run("Random and malformed system calls of several users on the machine's devices.", body))
