"""The control channel of a mounted machine, as a test uses it (`formats.control`)."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.formats import control
from nvdimmfs.sandbox.control_client import CHANNEL, ArgumentMemory, ask, ask_ioctl
from nvdimmfs.testing.events import Events, Uevent
from nvdimmfs.testing.faults import THIS_PROCESS
from nvdimmfs.testing.refusals import Refusal, Refusals

#: Bytes to read at once; no read returns more.
_BUFFER_SIZE = 1 << 18


@attrs.frozen
class _Refused:
    """A refusal, and when it was, on the host's monotonic clock."""

    refusal: Refusal
    time: int
    reasons: tuple[str, ...]


class MountedChannel:
    """Receives what a machine reports without holding it up, and makes ioctls.

    Nothing is received but when the test looks: the machine keeps what it has to report until then.  Safe from threads.
    A process that forks shares the open file with its parent, so the child opens its own, and receives what is reported
    from then on.

    Attributes:
        events: the uevents.
        refusals: the refused requests.
    """

    def __init__(self, mount: Path, lost: Callable[[int], None]) -> None:
        """Begin to receive.

        Args:
            mount: where the machine is mounted.
            lost: called when so many records were not kept, because the test did not look for too long.
        """
        self._path = mount / CHANNEL
        self._lost = lost
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._last: dict[int, _Refused] = {}
        self.events = Events(self.fetch)
        self.refusals = Refusals(self.fetch)
        self._file = self._listen()

    def close(self) -> None:
        """Receive what is left, and no more."""
        self.fetch()
        with self._lock:
            if self._file >= 0:
                with contextlib.suppress(OSError):  # the machine's process may have ended
                    os.close(self._file)
                self._file = -1

    def reopen(self) -> None:
        """Receive from the machine that is mounted there now; `events` and `refusals` keep what they have."""
        self.close()
        with self._lock:
            self._file = self._listen()
            self._last.clear()

    def fetch(self) -> None:
        """Receive what the machine has reported.  Nothing happens when the machine's process has ended."""
        if os.getpid() != self._owner:
            self._begin_in_child()
        with self._lock, contextlib.suppress(OSError):
            while self._file >= 0 and (data := os.read(self._file, _BUFFER_SIZE)):
                for line in data.splitlines():
                    self._receive(control.decode(line))

    def reasons(self, number: int, since: int) -> tuple[str, ...]:
        """Why the last request of this thread was refused with an errno; empty when it was not, or not by the machine.

        Args:
            number: the errno.
            since: when the request began, on the host's monotonic clock.
        """
        self.fetch()
        last = self._last.get(threading.get_native_id())
        if last is None or last.time < since or last.refusal.errno != number:
            return ()
        return last.reasons

    def find(self, name: str) -> control.Found | None:
        """The number of the device whose node has a name; None when there is none."""
        with self._session() as file:
            reply = ask(file, control.Find(name))
        return reply if isinstance(reply, control.Found) else None

    def ioctl(
        self, device: control.Found, request: int, argument: int, memory: ArgumentMemory, *, writable: bool
    ) -> int:
        """Have the machine execute an ioctl of root, and return its result.  KernelError when it refuses."""
        call = control.Ioctl(
            device.kind,
            device.major,
            device.minor,
            request,
            argument,
            writable=writable,
            privileged=True,
            uid=THIS_PROCESS.uid,
            comm=THIS_PROCESS.command,
        )
        with self._session() as file:
            reply = ask_ioctl(file, call, memory)
        if isinstance(reply, control.Refused):
            raise KernelError(reply.errno, reply.reason)
        assert isinstance(reply, control.Result), reply
        return reply.value

    @contextlib.contextmanager
    def _session(self) -> Iterator[int]:
        file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield file
        finally:
            os.close(file)

    def _listen(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(file, control.encode(control.Listen()))
        except BaseException:
            os.close(file)
            raise
        return file

    def _begin_in_child(self) -> None:
        """In a process that was forked, perhaps while another thread held the lock."""
        self._lock = threading.Lock()
        self._owner = os.getpid()
        with contextlib.suppress(OSError):
            os.close(self._file)
        self._file = -1
        with contextlib.suppress(OSError):
            self._file = self._listen()

    def _receive(self, message: control.Message) -> None:
        match message:
            case control.DeviceEvent(_, pairs):
                properties = dict(pairs)
                self.events.append(Uevent(properties["ACTION"], properties["DEVPATH"], properties))
            case control.RefusalEvent():
                reason = "; ".join(message.reasons)
                refusal = Refusal(message.operation, message.path, message.data, message.errno, reason, message.thread)
                self.refusals.append(refusal)
                self._last[message.thread] = _Refused(refusal, message.time, message.reasons)
            case control.Lost(count):
                self._lost(count)
