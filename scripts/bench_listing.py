"""`scripts/bench listing`: `ndctl list` in a sandbox, beside the same tree on tmpfs, and other system calls there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.bench_table import ROUNDS, Goal, Row, at_most, beside
from scripts.measuring import ENVIRONMENT, NVDIMMFS, printed_by, write_machine
from scripts.own_python import PYTHON, ROOT

#: How many namespaces `ndctl list` has to list, and how many times as long as on tmpfs it may take.
LISTED = {100: at_most(6), 1_000: at_most(10)}

#: System calls of a command that have nothing to do with persistent memory.
CALLS = {
    "getpid": "os.getpid()",
    "openat + close": "os.close(os.open('/', os.O_RDONLY))",
    "TCGETS of stderr": "termios.tcgetattr(2)",
}
#: How often each is made in a turn.
TURN = 20_000
#: What a sandbox may add: less than can be told from the noise of a turn.
UNNOTICED = at_most(1.05)

#: In the sandbox: shells that list on command, one with the machine's /sys and one with its copy on tmpfs, in turns.
_LISTER = f"""
import json, subprocess, sys, time
folder = sys.argv[1]
subprocess.run(["sh", "-c", f"cp -a /sys/bus /sys/class /sys/dev /sys/devices {{folder}} 2> /dev/null"], check=False)
pipes = {{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}}
shells = [subprocess.Popen(["unshare", "--mount", "sh"], **pipes) for _ in range(2)]
def ask(shell, command):
    begin = time.perf_counter()
    print(f"{{command}}; echo", file=shell.stdin)
    shell.stdout.readline()
    return time.perf_counter() - begin
ask(shells[1], f"mount --bind {{folder}} /sys")
turns = [[ask(shell, "ndctl list -RNXv > /dev/null") for shell in shells] for _ in range({ROUNDS} + 1)]
print(json.dumps(turns[1:]))
"""

#: Makes system calls whenever it reads a line, and prints the nanoseconds that a processor works for each.
_CALLER = f"""
import os, sys, termios, time
os.dup2(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY), 2)
for line in sys.stdin:
    call = compile("for _ in turns: " + line, "call", "exec")
    scope = {{"os": os, "termios": termios, "turns": range({TURN})}}
    begin = time.thread_time_ns()
    exec(call, scope)
    print((time.thread_time_ns() - begin) / {TURN}, flush=True)
"""


def listing_rows(_seconds: float) -> list[Row]:
    """`ndctl list` of some sizes, then system calls."""
    rows = [system_call_row(name, call) for name, call in CALLS.items()]
    if shutil.which("ndctl") is None:
        print("bench: ndctl is not installed, so nothing is listed", file=sys.stderr)
        return rows
    return [*(listing_row(count, goal) for count, goal in LISTED.items()), *rows]


def listing_row(namespaces: int, goal: Goal) -> Row:
    """`ndctl list` of so many namespaces."""
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-bench-", dir="/dev/shm") as folder:  # is a tmpfs
        machine = write_machine(Path(folder, "machine.toml"), namespaces)
        turns = json.loads(printed_by("run", "--machine", machine, "--", str(PYTHON), "-c", _LISTER, folder))
    what, note = f"ndctl list -RNXv, {namespaces:,} namespaces", "beside it: the same tree on tmpfs"
    return beside(what, "s", turns, goal, note)


def system_call_row(name: str, call: str) -> Row:
    """Nanoseconds of a system call that is made from Python, in a sandbox and outside, in turns."""
    inside = [*NVDIMMFS, "run", "--", str(PYTHON), "-c", _CALLER]
    outside = [str(PYTHON), "-c", _CALLER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with (
        subprocess.Popen(inside, cwd=ROOT, env=ENVIRONMENT, **pipes) as first,
        subprocess.Popen(outside, **pipes) as second,
    ):
        turns = [[nanoseconds(process, call) for process in (first, second)] for _ in range(3 * ROUNDS + 1)][1:]
    return beside(f"{name} in a sandbox", "ns", turns, UNNOTICED, "from Python; beside it: outside")


def nanoseconds(process: subprocess.Popen[str], call: str) -> float:
    """How long a processor works for one call of a process."""
    assert process.stdin is not None, "it is a pipe"
    assert process.stdout is not None, "it is a pipe"
    print(call, file=process.stdin, flush=True)
    return float(process.stdout.readline())
