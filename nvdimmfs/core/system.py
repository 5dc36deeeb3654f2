"""The running system: the sysfs tree's standing directories, queued work, uevents, device numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

from nvdimmfs.core.clock import Clock, ClockMode
from nvdimmfs.core.device_number import DeviceNumber, Numbered
from nvdimmfs.core.keyring import Keyring, NoKeys
from nvdimmfs.core.trace import TraceRecorder
from nvdimmfs.core.uevent import Action, Uevent, UeventListener
from nvdimmfs.faults.faults import Fault
from nvdimmfs.kernels.durations import WRITE
from nvdimmfs.kernels.kernel import KERNEL_6_1, Kernel
from nvdimmfs.kernels.races import OutcomeT, Race, Referee
from nvdimmfs.kernfs import Directory, Order, Tree
from nvdimmfs.traces.effects import FaultHit, UeventSent


class System:
    """The state that all devices, drivers and buses share.

    Attributes:
        kernel: the kernel that is emulated.
        tree: the nodes; its root holds `sys`, `dev` and `proc`.
        faults: the fault rules.
        sys: /sys.
        dev: /dev.
        proc: /proc.
        settling: queued work is running, for which no process waits.
        numbers: /sys/dev/block and /sys/dev/char.
        numbered: the devices by device number.
        queued: how often work was ever queued.
        keyring: the keys of the processes that write to attributes.
        clock: the machine's clock, with the events that are due later.
        writes: the number of writes to attributes so far.
        transaction: makes a context whose writes to media survive the end of this process together or not at all.
        recorder: keeps the trace, while it is recorded and afterwards.
        referee: decides races; None for the outcomes of the emulation.
        trace: the same while it is recorded, else None: what is not recorded costs this test.
    """

    #: Not part of a snapshot.
    UNSAVED: ClassVar[frozenset[str]] = frozenset(
        {"keyring", "referee", "trace", "_is_traced", "_trace_followers", "_uevent_listeners"}
    )

    def __init__(self, kernel: Kernel = KERNEL_6_1, clock: ClockMode = ClockMode.REAL) -> None:
        self.kernel = kernel
        self.clock = Clock(clock, after_event=self.settle)
        self.tree = Tree()
        self.faults = self.tree.faults
        self.faults.prolong = self.clock.prolong_act
        self.faults.on_hit = self._fault_hit
        self.faults.do_later = self._notify_late
        root = self.tree.root
        self.sys = root.add(Directory("sys", 0o555))
        self.dev = root.add(Directory("dev"))
        self.proc = root.add(Directory("proc", 0o555))
        self.dev.order, self.proc.order = Order.NEWEST, Order.LENGTH
        for path in ("block", "bus", "class", "devices", "module"):
            self.directory(path)
        self.numbers = {kind: self.directory(f"dev/{kind}") for kind in ("block", "char")}
        self.numbered: dict[DeviceNumber, Numbered] = {}
        self._work: deque[Callable[[], None]] = deque()
        self._last_work: deque[Callable[[], None]] = deque()
        self.writes = 0
        self.transaction: Callable[[], AbstractContextManager[None]] = nullcontext
        self.settling = False
        self.queued = 0
        self.keyring: Keyring = NoKeys()
        self.referee: Referee | None = None
        self._uevent_listeners: list[UeventListener] = []
        self._uevent_sequence = 0
        self.recorder = TraceRecorder(self.clock, self.tree)
        self.trace: TraceRecorder | None = None
        self._is_traced = False
        self._trace_followers = 0

    def _fault_hit(self, fault: Fault) -> None:
        if self.trace is not None:
            self.trace.report(FaultHit(str(fault.rule)))

    def _notify_late(self, nanoseconds: int, notify: Callable[[], None]) -> None:
        self.clock.schedule(nanoseconds, notify, "a late notification")

    def outcome(self, race: Race[OutcomeT]) -> OutcomeT:
        """The outcome of a race that is being run now."""
        usual = race.outcome(self.kernel)
        return usual if self.referee is None else self.referee.decide(race, usual)

    def start_trace(self) -> None:
        """Record calls and what happens because of them, from now on."""
        self._is_traced = True
        self._switch_trace()

    def stop_trace(self) -> None:
        """Record nothing any more, unless someone follows the trace; what was recorded is kept."""
        self._is_traced = False
        self._switch_trace()

    def follow_trace(self) -> None:
        """Record as long as someone follows the trace."""
        self._trace_followers += 1
        self._switch_trace()

    def unfollow_trace(self) -> None:
        """Someone follows the trace no longer."""
        self._trace_followers -= 1
        self._switch_trace()

    def _switch_trace(self) -> None:
        recorder = self.recorder if self._is_traced or self._trace_followers else None
        self.trace = self.tree.tracer = self.clock.tracer = recorder

    def directory(self, path: str) -> Directory:
        """The directory at a path below /sys; missing directories are created."""
        place = self.sys
        for name in path.split("/"):
            place = place.directory(name)
        return place

    def queue_work(self, work: Callable[[], None]) -> None:
        """Queue work for after the current store, as the kernel's asynchronous (un)registration."""
        self._work.append(work)
        self.queued += 1

    def queue_work_last(self, work: Callable[[], None]) -> None:
        """Queue work for when no other work is queued."""
        self._last_work.append(work)

    def after_work(self, work: Callable[[], None]) -> None:
        """Do work now, or after all queued work."""
        if self._work:
            self.queue_work(work)
        else:
            work()

    def settle(self) -> None:
        """Run queued work, and the work that it queues, until there is none."""
        self.settling = True
        try:
            while queue := self._work or self._last_work:
                queue.popleft()()
        finally:
            self.settling = False

    def begin_write(self) -> None:
        """User space is about to write to an attribute: first handle the events that are due."""
        self.clock.run_due()
        self.writes += 1

    def end_write(self) -> None:
        """User space has written to an attribute: run queued work, and let the time of a write pass."""
        self.settle()
        self.clock.spend(WRITE)

    def devpath(self, directory: Directory) -> str:
        """A directory's path below /sys, with a leading slash, as uevents have it."""
        return directory.path.removeprefix(self.sys.path)

    def listen(self, listener: UeventListener) -> None:
        """Send all uevents from now on to `listener`."""
        self._uevent_listeners.append(listener)

    def stop_listening(self, listener: UeventListener) -> None:
        """Send no more uevents to `listener`."""
        self._uevent_listeners.remove(listener)

    def count_unheard_uevent(self, count: int = 1) -> bool:
        """Count uevents without composing them, if there is no listener.  False when there is one, or a trace."""
        if self._uevent_listeners or self.trace is not None:
            return False
        self._uevent_sequence += count
        return True

    def emit_uevent(self, action: Action, devpath: str, subsystem: str, variables: tuple[tuple[str, str], ...]) -> bool:
        """Send one event to all listeners.  False, and nothing is sent, when it is too large."""
        event = Uevent(action, devpath, subsystem, variables, self._uevent_sequence + 1)
        if not event.fits:
            return False
        self._uevent_sequence += 1
        if self.trace is not None:
            self.trace.report(UeventSent(action.value, devpath, subsystem, event.sequence))
        for listener in self._uevent_listeners:
            listener.uevent(event)
        return True
