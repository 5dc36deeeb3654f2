"""A guest: a virtual machine with a real kernel that answers questions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import attrs

from nvdimmfs.lab import frames
from nvdimmfs.lab.asking import SETTLE, Answer, Call
from nvdimmfs.lab.errors import GuestEndedError, LabError
from nvdimmfs.lab.frames import Json, Message
from nvdimmfs.lab.hardware import Hardware
from nvdimmfs.lab.kernels import GuestKernel
from nvdimmfs.lab.qemu import USUAL_SPEED, Qemu, execution_options

#: The seconds that a guest has for its boot and for each request: on a loaded host without KVM, many.
TIMEOUT = 600.0

#: Seconds for which answers are kept to be sent together.
TOGETHER = 0.2

#: Seconds between two looks at the console of a guest that does not answer.
_INTERVAL = 1.0

#: Seconds after loading the modules in which asynchronous probes end.
_REST = 0.5

#: Parameters by which a kernel that goes wrong panics, and boots again at once, which ends QEMU: without them a guest
#: whose task waits forever would be waited for until the time is up.
_ENDING = "panic=-1 oops=panic softlockup_panic=1 hung_task_panic=1"

#: What a system does last; `poweroff -f` does not wait for an init, which the guest does not have.
_POWER_OFF = "umount -a; sync; poweroff -f"


@attrs.frozen
class GuestPlan:
    """What a guest is made of.

    Attributes:
        kernel: its kernel.
        image: the archive with its programs.
        hardware: its hardware.
        accelerator: how QEMU executes it, one of `qemu.accelerators`.
        speed: the speed of an emulated processor, as in `qemu.execution_options`.
    """

    kernel: GuestKernel
    image: Path
    hardware: Hardware
    accelerator: str
    speed: int = USUAL_SPEED

    def arguments(self, folder: Path, *, shared: bool) -> list[str]:
        """The options of QEMU, with the memory in files of a folder."""
        memmap = f" memmap={self.hardware.memmap}" if self.hardware.memmap else ""
        return [
            *execution_options(self.accelerator, self.speed, waits_for_host=self.hardware.waits_for_host),
            *self.hardware.arguments(folder, shared=shared),
            *("-kernel", str(self.kernel.image), "-initrd", str(self.image)),
            *("-append", f"console=ttyS0 loglevel=4 {_ENDING}{memmap}"),
        ]


@attrs.frozen
class Finished:
    """How a shell line ended.

    Attributes:
        status: the exit status, or minus the number of the signal.
        stdout: what it printed.
        stderr: what it reported.
    """

    status: int
    stdout: bytes
    stderr: bytes


class Guest:
    """A running guest; its context ends it."""

    def __init__(self, qemu: Qemu, timeout: float) -> None:
        self._qemu = qemu
        self._timeout = timeout

    @property
    def monitor(self) -> Qemu:
        """QEMU, for commands of its monitor."""
        return self._qemu

    def wait_for_agent(self) -> None:
        """Wait until the guest has booted.  LabError."""
        if self._receive(time.monotonic() + self._timeout) != frames.READY:
            raise LabError("the guest's agent did not start")

    def load(self, modules: Sequence[str]) -> None:
        """Load modules, if any, and wait until what they begin has ended.  LabError when one cannot be loaded."""
        if not modules:
            return
        done = self.shell(f"modprobe -a {' '.join(modules)} && sleep {_REST}")
        if done.status:
            raise LabError(f"the guest cannot load its modules: {done.stderr.decode(errors='replace').strip()}")

    def ask(self, calls: Iterable[Call], settle: float = SETTLE, together: float = TOGETHER) -> Iterator[Answer]:
        """Ask questions, and yield the answers as they come.  GuestEndedError when the guest ends meanwhile.

        Args:
            calls: the questions.
            settle: seconds to leave the guest alone after each write.
            together: for how many seconds of the guest answers are kept to be sent together; those that a guest has not
                sent when it ends are lost.
        """
        deadline = self._send({"steps": cast("list[Json]", [*calls]), "settle": settle, "together": together})
        while "answers" in (message := self._receive(deadline)):
            yield from cast("list[Answer]", message["answers"])

    def shell(self, line: str) -> Finished:
        """Have the guest's shell execute a line."""
        answer = self._receive(self._send({"shell": line}))
        output, errors = cast("str", answer["stdout"]), cast("str", answer["stderr"])
        return Finished(cast("int", answer["rc"]), output.encode("latin-1"), errors.encode("latin-1"))

    def put(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest."""
        self._receive(self._send({"file": name, "hex": data.hex(), "mode": mode}))

    def _send(self, request: Message) -> float:
        """Send a request.  Returns the deadline of its answer."""
        deadline = time.monotonic() + self._timeout
        for piece in frames.pieces(frames.encoded(request)):
            try:
                self._qemu.line.sendall(piece)
            except OSError:
                raise GuestEndedError(self._qemu.epitaph()) from None
            self._some(1, deadline)
        return deadline

    def _receive(self, deadline: float) -> Message:
        message = frames.received(lambda count: self._some(count, deadline))
        if "mistake" in message:
            raise LabError(f"not a question: {message['mistake']}")
        return message

    def _some(self, count: int, deadline: float) -> bytes:
        """Receive some bytes before a deadline.  LabError."""
        while (left := deadline - time.monotonic()) > 0:
            self._qemu.line.settimeout(min(left, _INTERVAL))
            try:
                data = self._qemu.line.recv(count)
            except TimeoutError:
                self._require_sound()
                continue
            except ConnectionError:
                data = b""
            if not data:
                raise GuestEndedError(self._qemu.epitaph())
            return data
        raise LabError(f"the guest did not answer within {self._timeout:g} s")

    def _require_sound(self) -> None:
        """Raise GuestEndedError for a kernel that panicked and boots again, as it does while a machine boots again."""
        if self._qemu.has_panicked:
            self._qemu.close()
            raise GuestEndedError(self._qemu.epitaph())

    def power_off(self) -> None:
        """Have the guest unmount its file systems, write what it has cached, and end.  LabError when it goes on."""
        try:
            done = self.shell(_POWER_OFF)
        except GuestEndedError:
            return
        raise LabError(f"the guest cannot power itself off: {done.stderr.decode(errors='replace').strip()}")

    def close(self) -> None:
        """End the guest at once, as a power failure does."""
        self._qemu.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
