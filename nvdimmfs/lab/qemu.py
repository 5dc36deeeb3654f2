"""A process of QEMU, and its monitor."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from nvdimmfs.lab import tools
from nvdimmfs.lab.console import ending, has_panicked
from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.frames import Json, Message

#: Seconds within which the monitor answers; a machine with swapped memory takes long.
_TIMEOUT = 120.0

#: The flags of a processor that runs guests itself, in /proc/cpuinfo.
_VIRTUALIZATION = {"vmx", "svm"}

#: The usual speed of an emulated processor, as in `execution_options`: that of a small computer.
USUAL_SPEED = 1


def execution_options(accelerator: str, speed: int = USUAL_SPEED, *, waits_for_host: bool = False) -> list[str]:
    """The options of QEMU for how a guest is executed.

    Emulated, its time is the number of instructions that it has executed, and it does not wait when it is idle.  So its
    answers do not depend on the load of the host: a race has the same outcome each time.

    Args:
        accelerator: one of `accelerators`.
        speed: an emulated instruction lasts 2**speed ns; another speed gives other outcomes of races.
        waits_for_host: whether the host completes what devices do, such as an fsync(2).  Then an idle guest waits as
            long as it should: otherwise minutes of its time would pass until the host is done.
    """
    if accelerator == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    sleep = "on" if waits_for_host else "off"
    return ["-accel", "tcg,thread=single", "-cpu", "max", "-icount", f"shift={speed},sleep={sleep}"]


def accelerators() -> list[str]:
    """The accelerators that work on this host, the fastest first.

    /dev/kvm alone does not decide: a virtual machine without nested virtualization may have one that emulates.
    """
    words = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].split()
    has_kvm = os.access("/dev/kvm", os.R_OK | os.W_OK) and not _VIRTUALIZATION.isdisjoint(words)
    return ["kvm", "tcg"] if has_kvm else ["tcg"]


class Qemu:
    """A running QEMU.  It ends when this object is closed, and when the thread that made it ends.

    Attributes:
        line: the serial line of the agent.
    """

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        """Start QEMU.  LabError if it ends at once.

        Args:
            arguments: the options that are not the same for all guests.
            folder: where what it reports and what the guest's kernel prints is written.
        """
        self._console, self._errors = folder / "console", folder / "errors"
        self.line, line = socket.socketpair()
        self._monitor, monitor = socket.socketpair()
        with line, monitor, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                self._command(arguments, line.fileno(), monitor.fileno()),
                pass_fds=(line.fileno(), monitor.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self._monitor.settimeout(_TIMEOUT)
        self._answers = self._monitor.makefile("rb")
        try:
            self._receive()  # the greeting
            self.execute("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def _command(self, arguments: Sequence[str], line: int, monitor: int) -> list[str]:
        """The kernel kills QEMU (prctl(2), PR_SET_PDEATHSIG) when the process that wants it is killed."""
        console = str(self._console).replace(",", ",,")
        return [
            *(str(tools.require("setpriv")), "--pdeathsig", "KILL", "--"),
            *(str(tools.require("qemu-system-x86_64")), "-nodefaults", "-no-user-config", "-display", "none"),
            "-no-reboot",
            *("-chardev", f"file,id=console,path={console}", "-serial", "chardev:console"),
            *("-chardev", f"socket,id=line,fd={line}", "-serial", "chardev:line"),
            *("-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"),
            *arguments,
        ]

    def execute(self, command: str, **arguments: Json) -> Json:
        """Have the monitor execute a command, and return its result.  LabError if it fails."""
        self._monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        return self._result(command)

    def command(self, line: str) -> None:
        """Have the monitor execute a line that a person would type, and that prints nothing.  LabError if it fails."""
        printed = self.execute("human-monitor-command", **{"command-line": line})
        if printed:
            raise LabError(f"QEMU refuses {line.split()[0]}: {str(printed).strip()}")

    def pass_file(self, name: str, file: int) -> None:
        """Give QEMU an open file, which commands call `fd:NAME`."""
        request = json.dumps({"execute": "getfd", "arguments": {"fdname": name}}).encode()
        socket.send_fds(self._monitor, [request], [file])
        self._result("getfd")

    def _result(self, command: str) -> Json:
        """The result of a command, after the events that precede it."""
        while True:
            answer = self._receive()
            if "error" in answer:
                raise LabError(f"QEMU refuses {command}: {cast('Message', answer['error'])['desc']}")
            if "return" in answer:
                return answer["return"]

    def _receive(self) -> Message:
        line = self._answers.readline()
        if not line:
            raise LabError(self.epitaph())
        message: Message = json.loads(line)
        return message

    @property
    def has_panicked(self) -> bool:
        """Whether the guest's kernel panicked, whether or not it boots again."""
        return has_panicked(_lines(self._console))

    def epitaph(self) -> str:
        """Why it has ended: its own message, or what the guest's kernel printed."""
        self._process.wait()
        if errors := _errors_in(_lines(self._errors)):
            return f"QEMU ended: {errors[-1]}"
        return ending(_lines(self._console))

    def close(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        self.line.close()
        self._answers.close()
        self._monitor.close()


def _errors_in(reported: list[str]) -> list[str]:
    """What QEMU reports without the name of its program; a warning is no reason why it ends."""
    texts = [line.removeprefix("qemu-system-x86_64: ") for line in reported]
    return [text for text in texts if not text.startswith("warning: ")]


def _lines(file: Path) -> list[str]:
    return file.read_text(errors="replace").strip().splitlines() if file.exists() else []
