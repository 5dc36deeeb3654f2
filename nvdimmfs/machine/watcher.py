"""What the sandboxes of a machine learn about its devices: uevents, and changes in directories of /sys."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator

from nvdimmfs.core.device import Device
from nvdimmfs.core.device_number import BLOCK_EXT_MAJOR, DIMM_MAJOR, DeviceNumber
from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import Action, Uevent
from nvdimmfs.errors import KernelError
from nvdimmfs.formats import control
from nvdimmfs.formats.control import Message
from nvdimmfs.kernfs import DeviceMemory, Directory, Node


def directory_at(system: System, path: str) -> Directory:
    """Return the directory at a path below /sys.  ENOENT, ENOTDIR."""
    node = system.sys.find(path)
    if not isinstance(node, Directory):
        raise KernelError(errno.ENOTDIR, f"{path} is not a directory")
    return node


def _uevent(device: Device, action: Action) -> Uevent:
    """The uevent that a device would send, for the sandbox alone: the machine does not count it."""
    subsystem = device.bus or device.device_class
    assert subsystem is not None, "a device with a number belongs to one"
    devpath = device.system.devpath(device.directory)
    return Uevent(action, devpath, subsystem.name, tuple(device.uevent_variables()), 0)


class Watcher:
    """Reports uevents of devices, and changes in some directories, to a session.

    Attributes:
        done: sequence number of the last message that the sandbox has acted on.
    """

    def __init__(self, system: System, directories: tuple[str, ...], send: Callable[[Message], None]) -> None:
        self._system = system
        self._send = send
        self._directories = {directory_at(system, path): f"{path}/" if path else "" for path in directories}
        self._sequence = 0
        self._needs_action = 0
        self._before: dict[DeviceNumber, tuple[Device, Uevent]] = {}
        self.done = 0
        system.listen(self)
        system.tree.subscribe(self)

    @property
    def has_unacknowledged(self) -> bool:
        return self.done < self._needs_action

    def close(self) -> None:
        """Stop reporting."""
        self._system.stop_listening(self)
        self._system.tree.unsubscribe(self)

    def uevent(self, event: Uevent) -> None:
        """Report a uevent.  Adding or removing a device with a number requires the sandbox to act on its node."""
        self._sequence += 1
        properties = event.properties
        if "MAJOR" in dict(properties) and event.action in (Action.ADD, Action.REMOVE):
            self._needs_action = self._sequence
        self._send(control.DeviceEvent(self._sequence, properties))

    def added(self, directory: Directory, node: Node) -> None:
        """Report a new entry."""
        self._report_entry(directory, node, present=True)

    def instantiated(self, directory: Directory, node: Node) -> None:
        """Ignored: the entry existed before."""

    def removed(self, directory: Directory, node: Node) -> None:
        """Report a removed entry."""
        self._report_entry(directory, node, present=False)

    def notified(self, node: Node) -> None:
        """Ignored: the FUSE mount wakes pollers."""

    def poll_again(self) -> None:
        """Ignored, likewise."""

    def revoked(self, node: Node) -> None:
        """Report a disk: the loop device in front of it has a page cache.  The FUSE mount has other pages."""
        if isinstance(node, DeviceMemory):
            return
        self._sequence += 1
        self._needs_action = self._sequence
        self._send(control.StaleDiskEvent(self._sequence, node.name))

    def resetting(self) -> None:
        """Remember the devices with numbers, to find out later which came or went."""
        self._before = {number: (device, _uevent(device, Action.REMOVE)) for number, device in self._numbered()}

    def restored(self) -> None:
        """Report devices with numbers that came or went.  The entries were reported one by one.

        Those that came get free numbers first: their nodes will have numbers that another one of them had.
        """
        before, self._before = self._before, {}
        after = dict(self._numbered())
        for number, (device, event) in before.items():
            if after.get(number) is not device:
                self.uevent(event)
        came = [device for number, device in after.items() if number not in before or before[number][0] is not device]
        for device in came:
            device.renumber(self._free_number(device))
        for device in came:
            self.uevent(_uevent(device, Action.ADD))

    def _free_number(self, device: Device) -> DeviceNumber:
        assert device.number is not None, "it has a number"
        kind = device.number.kind
        major = BLOCK_EXT_MAJOR if kind == "block" else DIMM_MAJOR
        candidates = (DeviceNumber(kind, major, minor) for minor in itertools.count())
        return next(number for number in candidates if number not in self._system.numbered)

    def _numbered(self) -> Iterator[tuple[DeviceNumber, Device]]:
        return ((number, device) for number, device in self._system.numbered.items() if isinstance(device, Device))

    def _report_entry(self, directory: Directory, node: Node, *, present: bool) -> None:
        path = self._directories.get(directory)
        if path is None:
            return
        self._sequence += 1
        self._needs_action = self._sequence
        self._send(control.EntryEvent(self._sequence, f"{path}{node.name}", present))
