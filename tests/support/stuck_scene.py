"""The command of a sandbox in which one caller's call does not end, beside others.

    stuck_scene.py KIND [FILE]

KIND is a key of `stuck_caller.CALLS`.  FILE belongs to a `stuck_files.py` outside of the sandbox; then this prints
"opened", makes the call after a line on stdin, and goes on after another one.  Without FILE, the file system is inside.
Prints one line once another process has had its answers, and never ends.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import stuck_caller
from stuck_caller import DELETE_MODULE, GET_CONFIG_SIZE, system_call

HERE = Path(__file__).parent
CALLS = 20


def main() -> None:
    kind, *outside = sys.argv[1:]
    what = next(what for call, what in stuck_caller.CALLS.items() if call.__name__ == kind)
    folder = tempfile.mkdtemp(dir="/run")
    file, files = (outside[0], None) if outside else (f"{folder}/file", serve(folder, what))
    caller = start("stuck_caller.py", kind, file)
    assert caller.stdout.readline() == "opened\n"
    if files is None:
        print("opened", flush=True)
        call(caller, sys.stdin.readline())
        sys.stdin.readline()
    elif kind == stuck_caller.file_of_a_dead_file_system.__name__:
        files.send_signal(signal.SIGSTOP)
        call(caller, "\n")
    else:
        call(caller, "\n")
        assert files.stdout.readline() == "asked\n"
    ask_the_machine()
    assert caller.poll() is None, "the caller is not stuck"
    print("others are answered", flush=True)
    signal.pause()


def serve(folder: str, what: str) -> subprocess.Popen[str]:
    files = start("stuck_files.py", folder, what)
    assert files.stdout.readline() == "mounted\n"
    return files


def start(*command: str) -> subprocess.Popen[str]:
    program, *arguments = command
    return subprocess.Popen([sys.executable, HERE / program, *arguments], stdin=-1, stdout=-1, text=True)


def call(caller: subprocess.Popen[str], line: str) -> None:
    caller.stdin.write(line)
    caller.stdin.flush()


def ask_the_machine() -> None:
    """Calls of all kinds, and a change of nodes, which the supervisor must make before the write is answered."""
    device = os.open("/dev/nmem0", os.O_RDWR)
    for _ in range(CALLS):
        fcntl.ioctl(device, GET_CONFIG_SIZE, bytes(12))
    fcntl.ioctl(os.open("/dev/nmem1", os.O_RDWR), GET_CONFIG_SIZE, bytes(12))
    assert system_call(DELETE_MODULE, b"device_dax", 0) == 0
    control = Path("/sys/bus/nd/drivers/nvdimm")
    control.joinpath("unbind").write_text("nmem1")
    control.joinpath("bind").write_text("nmem1")


if __name__ == "__main__":
    main()
