"""What user space hears of besides devices: buses, classes, drivers and modules."""

from __future__ import annotations

from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import Action
from nvdimmfs.kernfs import Directory


class KernelObject:
    """The uevents of an object that is no device (struct kobject, include/linux/kobject.h, Linux 6.1).

    Attributes:
        subsystem: what SUBSYSTEM says: the set that it belongs to, such as `drivers`.
    """

    def __init__(self, system: System, directory: Directory, subsystem: str) -> None:
        self.subsystem = subsystem
        self._system = system
        self._devpath = system.devpath(directory)
        self._sent: set[Action] = set()

    def send_uevent(self, action: Action, extra: tuple[tuple[str, str], ...] = ()) -> bool:
        """Tell user space.  False when that is too large; its removal counts as told nevertheless."""
        sent = self._system.emit_uevent(action, self._devpath, self.subsystem, extra)
        if sent or action is Action.REMOVE:
            self._sent.add(action)
        return sent

    def announce_add(self) -> None:
        """It is there, and works: that is told last of all that its coming has set in motion."""

        def tell() -> None:
            self.send_uevent(Action.ADD)

        self._system.after_work(tell)

    def announce_remove(self) -> None:
        """It goes.  That is told if its coming was, and once: whether or not it was told because somebody wrote so to
        `uevent` (kobject_cleanup, lib/kobject.c, Linux 6.1).
        """
        if Action.ADD in self._sent and Action.REMOVE not in self._sent:
            self.send_uevent(Action.REMOVE)
