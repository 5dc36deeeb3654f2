"""Processes that hold device nodes open until they are killed.  Guests run this, too: the standard library alone."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
from pathlib import Path

from nvdimmfs.lab.asking import Answer, Call, answered

#: The questions about such processes.
QUESTIONS = ("hold", "kill")

#: How a node can be held: open, open with O_EXCL, or with a mapping of as much as its alignment.
OPEN, EXCLUSIVE, MAPPED = "open", "exclusive", "mapped"
WAYS = (OPEN, EXCLUSIVE, MAPPED)

#: Of prctl(2): a signal when the parent ends.
_PR_SET_PDEATHSIG = 1


class Holders:
    """The processes, by what they hold, the first first.

    Args:
        dev: where /dev is.
        sys_folder: where /sys is.
    """

    def __init__(self, dev: Path = Path("/dev"), sys_folder: Path = Path("/sys")) -> None:
        self._dev = dev
        self._sys = sys_folder
        self._held: list[tuple[str, int]] = []

    def answer(self, call: Call) -> Answer:
        """Answer the question `hold` or `kill`.  A refusal is the errno's name."""
        return answered(lambda: self._answer(call))

    def _answer(self, call: Call) -> Answer:
        if call["op"] == "hold":
            self.hold(call["dev"], call["way"])
        else:
            self.kill(call["dev"])
        return {"result": 0}

    def hold(self, node: str, way: str) -> None:
        """Have a new process hold a node.  OSError with what its call was refused with."""
        length = int((self._sys / f"bus/dax/devices/{node}/align").read_text()) if way == MAPPED else 0
        receiver, sender = os.pipe()
        process = os.fork()
        if not process:
            _hold(self._dev / node, way, length, sender)
        os.close(sender)
        with os.fdopen(receiver, "rb") as answer:
            refusal = int.from_bytes(answer.read(2), "little")
        if refusal:
            os.waitpid(process, 0)
            raise OSError(refusal, os.strerror(refusal))
        self._held.append((node, process))

    def kill(self, node: str) -> None:
        """Kill the process that has held a node for the longest time.  OSError (ESRCH) if there is none."""
        for held in self._held:
            if held[0] == node:
                self._held.remove(held)
                os.kill(held[1], signal.SIGKILL)
                os.waitpid(held[1], 0)
                return
        raise OSError(errno.ESRCH, f"no process holds {node}")


def _hold(path: Path, way: str, length: int, answer: int) -> None:
    """Hold a node forever, and send the errno of a refusal before, or 0."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    refusal = 0
    try:
        file = os.open(path, os.O_RDWR | (os.O_EXCL if way == EXCLUSIVE else 0))
        memory = mmap.mmap(file, length) if way == MAPPED else None  # noqa: F841  # it is mapped as long as it is known
    except OSError as error:
        refusal = error.errno or errno.EIO
    finally:
        os.write(answer, refusal.to_bytes(2, "little"))
        os.close(answer)
        while not refusal:
            signal.pause()
        os._exit(0)
