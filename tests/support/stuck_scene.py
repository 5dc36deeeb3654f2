"""The command of a sandbox in which one caller's call does not end, beside others.

    stuck_scene.py KIND [FILE]

KIND is a key of `stuck_caller.CALLS`.  FILE belongs to a `stuck_files.py` outside of the sandbox; without it there is
one inside.  Prints one line once another process has had its answers, and never ends.
"""

from __future__ import annotations

import fcntl
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import stuck_caller

HERE = Path(__file__).parent
GET_CONFIG_SIZE = 0xC00C4E04
CALLS = 20
DELETE_MODULE = {"x86_64": 176}.get(platform.machine(), 106)


def main() -> None:
    kind, *outside = sys.argv[1:]
    what = next(what for call, what in stuck_caller.CALLS.items() if call.__name__ == kind)
    folder = tempfile.mkdtemp(dir="/run")
    file, files = (outside[0], None) if outside else (f"{folder}/file", serve(folder, what))
    caller = start("stuck_caller.py", kind, file)
    assert caller.stdout.readline() == "calls\n"
    if kind == "file_of_a_dead_file_system":
        if files is not None:
            files.send_signal(signal.SIGSTOP)
    elif files is not None:
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
    return subprocess.Popen([sys.executable, HERE / program, *arguments], stdout=subprocess.PIPE, text=True)


def ask_the_machine() -> None:
    """Calls of all kinds, and a change of nodes, which the supervisor must make before the write is answered."""
    device = os.open("/dev/nmem0", os.O_RDWR)
    for _ in range(CALLS):
        fcntl.ioctl(device, GET_CONFIG_SIZE, bytes(12))
    fcntl.ioctl(os.open("/dev/nmem1", os.O_RDWR), GET_CONFIG_SIZE, bytes(12))
    number = stuck_caller.ctypes.c_long(DELETE_MODULE)
    assert stuck_caller._LIBC.syscall(number, b"device_dax", 0) == 0
    control = Path("/sys/bus/nd/drivers/nvdimm")
    control.joinpath("unbind").write_text("nmem1")
    control.joinpath("bind").write_text("nmem1")


if __name__ == "__main__":
    main()
