"""The running system: the sysfs tree's standing directories, queued work, uevents, device numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define

from nvdimmfs.core.device_number import DeviceNumber, Numbered
from nvdimmfs.core.keyring import Keyring, NoKeys
from nvdimmfs.core.uevent import Action, Uevent, UeventListener
from nvdimmfs.kernels.kernel import KERNEL_6_1, Kernel
from nvdimmfs.kernfs import Directory, Tree

#: The model has no clock: what the kernel finishes in the background is done, at the latest, when user space has read
#: so many attributes.  On the reference machine, a walk through one region still saw the state before (17 reads), one
#: that had read a device first and came by way of the bus did not (27).
BACKGROUND_READS = 22

#: The time, in seconds, in which the kernel does what it leaves to the background, unless it says how long it takes.
REST = 0.15


@define(eq=False)
class LongWork:
    """What takes the kernel long.  It is done when either measure of time is full: writes, or seconds without any.

    Attributes:
        writes: how often user space will have written to attributes by then, since the system came up.
        seconds: how long nothing has to be written.
        since: for how many seconds nothing had been written when the work began; they do not count.
        work: what is to be done.
    """

    writes: int
    seconds: float
    since: float
    work: Callable[[], None]

    @property
    def due(self) -> float:
        """For how many seconds nothing has been written when it is done."""
        return self.since + self.seconds


class System:
    """What every device, driver and bus shares.

    Attributes:
        kernel: whose answers it gives.
        tree: the nodes; its root holds `sys`, `dev` and `proc`.
        sys: /sys.
        dev: /dev.
        proc: /proc.
        settling: queued work is running, that is, nobody waits for what is done now.
        numbers: /sys/dev/block and /sys/dev/char.
        numbered: the devices that have a device number, by it.
        scheduled: how much work has ever been queued.
        keyring: the keys of those who write to attributes.
        reads: how many attributes have ever been read.
        writes: how many have ever been written.
    """

    def __init__(self, kernel: Kernel = KERNEL_6_1) -> None:
        self.kernel = kernel
        self.tree = Tree()
        root = self.tree.root
        self.sys = root.add(Directory("sys", 0o555))
        self.dev = root.add(Directory("dev"))
        self.proc = root.add(Directory("proc", 0o555))
        for path in ("block", "bus", "class", "devices", "module"):
            self.directory(path)
        self.numbers = {kind: self.directory(f"dev/{kind}") for kind in ("block", "char")}
        self.numbered: dict[DeviceNumber, Numbered] = {}
        self._work: deque[Callable[[], None]] = deque()
        self._last_work: deque[Callable[[], None]] = deque()
        self._background: deque[Callable[[], None]] = deque()
        self._reads_left = 0
        self.reads = 0
        self.writes = 0
        self._long_work: list[LongWork] = []
        self._rested = 0.0
        self.settling = False
        self.scheduled = 0
        self.keyring: Keyring = NoKeys()
        self._uevent_listeners: list[UeventListener] = []
        self._uevent_sequence = 0

    def directory(self, path: str) -> Directory:
        """The directory at a path below /sys, made with all that leads to it."""
        place = self.sys
        for name in path.split("/"):
            place = place.directory(name)
        return place

    def schedule(self, work: Callable[[], None]) -> None:
        """Do this once the store at hand is done: the kernel's asynchronous (un)registration."""
        self._work.append(work)
        self.scheduled += 1

    def schedule_last(self, work: Callable[[], None]) -> None:
        """Do this once nothing else is queued."""
        self._last_work.append(work)

    def after_work(self, work: Callable[[], None]) -> None:
        """Do this now, or once all that is queued is done."""
        if self._work:
            self.schedule(work)
        else:
            work()

    def settle(self) -> None:
        """Run queued work, and what that queues, until there is none."""
        self.settling = True
        try:
            while queue := self._work or self._last_work:
                queue.popleft()()
        finally:
            self.settling = False

    def finish_later(self, work: Callable[[], None]) -> None:
        """Do this in the background: user space sees the state before it for a short while."""
        self._background.append(work)
        self._reads_left = BACKGROUND_READS

    def finish_after(self, writes: int, seconds: float, work: Callable[[], None]) -> None:
        """Do this once user space has written to so many attributes, or to none for so many seconds."""
        self._long_work.append(LongWork(self.writes + writes, seconds, self._rested, work))

    def _catch_up(self) -> None:
        """Finish what was left to the background."""
        while self._background:
            self._background.popleft()()

    def attribute_written(self) -> None:
        """User space is about to write to an attribute: time has passed."""
        self._catch_up()
        self.writes += 1
        self.disturb()
        for long in [long for long in self._long_work if long.writes <= self.writes]:
            self._finish(long)

    def disturb(self) -> None:
        """User space did something that is no write, but after which the system has to come to rest again."""
        self._rested = 0.0
        for long in self._long_work:
            long.since = 0.0

    def attribute_read(self) -> None:
        """User space looked at an attribute: time passes."""
        self.reads += 1
        if not self._background:
            return
        self._reads_left -= 1
        if self._reads_left == 0:
            self._catch_up()

    def _finish(self, long: LongWork) -> None:
        self._long_work.remove(long)
        long.work()
        self.settle()

    def rest(self, seconds: float = REST) -> None:
        """Nobody wrote or disturbed for so long, so that what the kernel does in the background meanwhile is done.

        The model has no clock: a front end that has one calls this.
        """
        while due := [long for long in self._long_work if long.due <= seconds]:
            first = min(due, key=lambda long: long.due)
            self._rested = max(self._rested, first.due)
            self._finish(first)
        self._rested = max(self._rested, seconds)
        self._catch_up()

    def devpath(self, directory: Directory) -> str:
        """A directory's path below /sys, with a leading slash, as uevents have it."""
        return directory.path.removeprefix(self.sys.path)

    def listen(self, listener: UeventListener) -> None:
        """Send every uevent from now on to `listener`."""
        self._uevent_listeners.append(listener)

    def stop_listening(self, listener: UeventListener) -> None:
        """Send it no more."""
        self._uevent_listeners.remove(listener)

    def skips_uevent(self) -> bool:
        """Count a uevent that nobody would hear, and so need not be put together.  False when somebody listens."""
        if self._uevent_listeners:
            return False
        self._uevent_sequence += 1
        return True

    def emit_uevent(self, action: Action, devpath: str, subsystem: str, variables: tuple[tuple[str, str], ...]) -> bool:
        """Send one message to everybody who listens.  False when it is too large: nobody hears of it then."""
        event = Uevent(action, devpath, subsystem, variables, self._uevent_sequence + 1)
        if not event.fits:
            return False
        self._uevent_sequence += 1
        for listener in self._uevent_listeners:
            listener.uevent(event)
        return True
