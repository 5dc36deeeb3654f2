"""Kernel objects other than devices that send uevents: buses, classes, drivers and modules."""

from __future__ import annotations

from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import Action
from nvdimmfs.kernfs import Directory


class KernelObject:
    """The uevents of an object that is not a device (struct kobject, include/linux/kobject.h, Linux 6.1).

    Attributes:
        subsystem: SUBSYSTEM in its uevents: the kset that it belongs to, such as `drivers`.
    """

    def __init__(self, system: System, directory: Directory, subsystem: str) -> None:
        self.subsystem = subsystem
        self._system = system
        self._directory = directory
        self._sent: set[Action] = set()

    def send_uevent(self, action: Action, extra: tuple[tuple[str, str], ...] = ()) -> bool:
        """Send a uevent.  False when it is too large to be sent; a removal counts as sent even so."""
        sent = not extra and self._system.count_unheard_uevent()
        devpath = self._system.devpath
        sent = sent or self._system.emit_uevent(action, devpath(self._directory), self.subsystem, extra)
        if sent or action is Action.REMOVE:
            self._sent.add(action)
        return sent

    def announce_add(self) -> None:
        """Send the add uevent, after those of all work that is queued: the object is usable."""

        def send() -> None:
            self.send_uevent(Action.ADD)

        self._system.after_work(send)

    def announce_remove(self) -> None:
        """Send the remove uevent, if an add uevent was sent and no remove uevent.

        Synthetic uevents count (kobject_cleanup, lib/kobject.c, Linux 6.1).
        """
        if Action.ADD in self._sent and Action.REMOVE not in self._sent:
            self.send_uevent(Action.REMOVE)
