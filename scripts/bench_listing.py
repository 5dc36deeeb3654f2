"""`scripts/bench listing`: `ndctl list` in a sandbox, beside the same tree on tmpfs, and other system calls there.

Beside it, too: the floor of a listing (scripts/floor_tree.c), which serves a copy of the same tree.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.bench_mount import build_floor
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
#: What a sandbox may add: less than the noise of a turn.
UNNOTICED = at_most(1.05)

#: In the sandbox: shells that list on command, in turns.  Each has another /sys: the machine's, its copy on tmpfs and,
#: if it could be built, that of the floor.
_LISTER = f"""
import json, os, subprocess, sys, time
folder, floor = sys.argv[1:]
copy, served = f"{{folder}}/copy", f"{{folder}}/served"
os.mkdir(copy)
os.mkdir(served)
subprocess.run(["sh", "-c", f"cp -a /sys/bus /sys/class /sys/dev /sys/devices {{copy}} 2> /dev/null"], check=False)
trees = ["", copy]
if floor:
    server = subprocess.Popen([floor, copy, served])
    while not os.path.ismount(served):
        time.sleep(0.01)
    trees.append(served)
pipes = {{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}}
shells = [subprocess.Popen(["unshare", "--mount", "sh"], **pipes) for _ in trees]
def ask(shell, command):
    begin = time.perf_counter()
    print(f"{{command}}; echo", file=shell.stdin)
    shell.stdout.readline()
    return time.perf_counter() - begin
for shell, tree in zip(shells[1:], trees[1:]):
    ask(shell, f"mount --bind {{tree}} /sys")
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
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-bench-") as folder:
        floor = Path(folder, "floor")
        if reason := build_floor(floor, "floor_tree.c"):
            print(f"bench: nothing is listed beside the floor: {reason}", file=sys.stderr)
        floors = "" if reason else str(floor)
        return [*(row for count, goal in LISTED.items() for row in listing_of(count, goal, floors)), *rows]


def listing_of(namespaces: int, goal: Goal, floor: str) -> Iterator[Row]:
    """`ndctl list` of so many namespaces, beside tmpfs and, where it could be built, beside the floor."""
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-bench-", dir="/dev/shm") as folder:  # is a tmpfs
        machine = write_machine(Path(folder, "machine.toml"), namespaces)
        turns = json.loads(printed_by("run", "--machine", machine, "--", str(PYTHON), "-c", _LISTER, folder, floor))
    what, note = f"ndctl list -RNXv, {namespaces:,} namespaces", "beside it: the same tree on tmpfs"
    yield beside(what, "s", [each[:2] for each in turns], goal, note)
    if floor:
        yield beside(what, "s", [each[::2] for each in turns], None, "beside it: the floor")


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
