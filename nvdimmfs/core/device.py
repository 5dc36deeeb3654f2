"""Devices: directory, links, and life from registration to release."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Protocol, Self, TypeVarTuple

from nvdimmfs.core.attribute import AttributeGroup, LinkGroup, attribute, create_files
from nvdimmfs.core.device_number import DeviceNumber
from nvdimmfs.core.kobject import KernelObject
from nvdimmfs.core.power import POWER_GROUP, DevicePower
from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import Action, synthesize
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, Directory
from nvdimmfs.traces.effects import DeviceAdded, DeviceRemoved

if TYPE_CHECKING:  # which few machines have
    from nvdimmfs.core.device_tree import DeviceTreeNode

ArgumentsT = TypeVarTuple("ArgumentsT")


class BusType(Protocol):
    """A bus as its devices see it; `core.driver.Bus` is the implementation.

    Attributes:
        name: SUBSYSTEM in uevents.
        directory: /sys/bus/<name>.
        devices: the directory with a link to each device.
    """

    name: str
    directory: Directory
    devices: Directory

    def device_added(self, device: Device) -> None:
        """A device of the bus was registered."""

    def device_removed(self, device: Device) -> None:
        """A device of the bus is being unregistered."""

    def unbind(self, device: Device) -> None:
        """Unbind a device from its driver."""


class DeviceDriver(Protocol):
    """A driver as its devices see it; `core.driver.Driver` is the implementation.

    Attributes:
        name: DRIVER in uevents.
    """

    name: str


class Class:
    """A device class: the directory /sys/class/<name> with a link to each member."""

    def __init__(self, system: System, name: str) -> None:
        self.system = system
        self.name = name
        self.directory = system.directory("class").add(Directory(name))
        self.kobject = KernelObject(system, self.directory, "class")
        self.kobject.announce_add()

    def unregister(self) -> None:
        """Remove the class, which has no members any more."""
        assert self.directory.is_empty, f"class {self.name} has members"
        self.kobject.announce_remove()
        self.system.directory("class").remove(self.name)


class Device:
    """A device in the tree.

    A subclass sets the class attributes, extends `groups` and `uevent_variables`, and frees its number in `release`.

    Attributes:
        device_type: DEVTYPE in uevents; None for none.
        has_device_link: a class device has a link `device` to its parent.
        bus: the bus that matches it with drivers; None for a class device.
        device_class: the class it belongs to; None for a bus device.
        driver: the driver it is bound to, or whose probe runs.
        number: device number for `dev` and /sys/dev; None for none.
        bind_uevent_pending: it is bound, and the bind uevent is not sent yet.
        first_probe_deferred: no driver probes it when it is registered; `core.driver.Bus.probe_deferred` lets them.
        dead: it is being unregistered: no driver may bind any more.
        of_node: the node of a device tree that describes it; None for none.
        opens: how many processes have its node in /dev open, of those that are known.
    """

    opens: int = 0
    device_type: str | None = None
    has_device_link: bool = True
    first_probe_deferred: bool = False
    of_node: DeviceTreeNode | None = None

    def __init__(self, system: System, name: str, parent: Device | None) -> None:
        # Python keeps the attributes of an instance in a third of the space if all are set here.
        self.system = system
        self.name = name
        self.parent = parent
        self.bus: BusType | None = None
        self.device_class: Class | None = None
        self.driver: DeviceDriver | None = None
        self.number: DeviceNumber | None = None
        self.bind_uevent_pending = False
        self.dead = False
        self._directory: Directory | None = None
        # Most devices have none, and a dictionary has 64 bytes.
        self._children: dict[Device, None] | None = None
        self._managed: tuple[tuple[Callable[..., None], tuple[object, ...]], ...] = ()
        self._power: DevicePower | None = None

    @property
    def children(self) -> Collection[Device]:
        """The devices registered below it, in the order of `move_to_tail`."""
        return () if self._children is None else self._children.keys()

    def _append_child(self, child: Device) -> None:
        if self._children is None:
            self._children = {}
        self._children[child] = None

    def _drop_child(self, child: Device) -> None:
        assert self._children is not None, f"{child.name} was registered below it"
        del self._children[child]

    @property
    def directory(self) -> Directory:
        """The device's directory in sysfs; only while it is registered."""
        assert self._directory is not None, f"{self.name} is not registered"
        return self._directory

    @property
    def registered(self) -> bool:
        return self._directory is not None

    @property
    def has_power(self) -> bool:
        """Whether power management gives it a power/ directory."""
        return True

    @property
    def power(self) -> DevicePower:
        """Its power management settings."""
        self._power = self._power or DevicePower()
        return self._power

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        """The attribute groups of this kind of device."""
        return ()

    def uevent_variables(self) -> list[tuple[str, str]]:
        """KEY, VALUE pairs in the kernel's order (dev_uevent, drivers/base/core.c, Linux 6.1)."""
        variables: list[tuple[str, str]] = []
        if self.number:
            variables += [
                ("MAJOR", str(self.number.major)),
                ("MINOR", str(self.number.minor)),
                ("DEVNAME", self.name),
            ]
        if self.device_type:
            variables.append(("DEVTYPE", self.device_type))
        if self.driver:
            variables.append(("DRIVER", self.driver.name))
        if self.of_node is not None:
            variables += self.of_node.uevent_variables
        return variables

    def release(self) -> None:
        """Free numbers and claims, once the last reference is dropped."""

    def manage(self, undo: Callable[[*ArgumentsT], None], *arguments: *ArgumentsT) -> None:
        """Call `undo` when the driver's probe fails or the driver is unbound (the kernel's devm)."""
        self._managed = (*self._managed, (undo, arguments))

    def release_managed(self, mark: int = 0) -> None:
        """Make the calls added since `mark` (see `managed_mark`), the last one first."""
        while len(self._managed) > mark:
            *left, (undo, arguments) = self._managed
            self._managed = tuple(left)
            undo(*arguments)

    @property
    def managed_mark(self) -> int:
        return len(self._managed)

    def add(self) -> None:
        """Register: create the directory with its files and links, send the uevent, let drivers probe it."""
        self._directory = self._place().add(Directory(self.name))
        if self.parent:
            self.parent._append_child(self)
        self._create_files(self._directory)
        self._create_links(self._directory)
        if (trace := self.system.trace) is not None:
            trace.report(DeviceAdded(self._directory.path))
        self.send_uevent(Action.ADD)
        if self.bus:
            self.bus.device_added(self)

    def instantiate(self) -> Directory:
        """Create the directory of a device that was registered long ago, and on which nothing has looked since.

        Its uevent was sent, and the links to it were created, by the code that registered it.
        """
        self._directory = Directory(self.name)
        if self.parent:
            self.parent._append_child(self)
        self._create_files(self._directory)
        return self._directory

    def _create_files(self, directory: Directory) -> None:
        number = (NUMBER_GROUP,) if self.number else ()
        power = (POWER_GROUP,) if self.has_power else ()
        create_files(directory, self, (DEVICE_GROUP, *number, *self.groups(), *power, *self._links()))

    def _links(self) -> tuple[LinkGroup[Device], ...]:
        """The links in its directory that stay as long as it."""
        if self.of_node is not None:
            return (SUBSYSTEM_LINK, OF_NODE_LINK)
        if self.device_class and self.parent and self.has_device_link:
            return (SUBSYSTEM_LINK, DEVICE_LINK)
        return (SUBSYSTEM_LINK,) if self.bus or self.device_class else ()

    def move_to_tail(self) -> None:
        """Move to the end of the parent's children.

        A parent lists its children in the order in which their first probes ended (device_add, drivers/base/core.c,
        Linux 6.1).
        """
        if self.parent and self.registered:
            self.parent._drop_child(self)
            self.parent._append_child(self)

    def unregister(self) -> None:
        """Unbind, send the uevent, remove the directory, release."""
        self.dead = True
        self._remove_links()
        if self.bus:
            self.bus.device_removed(self)
        if (trace := self.system.trace) is not None:
            trace.report(DeviceRemoved(self.directory.path))
        self.send_uevent(Action.REMOVE)
        self._remove_directory()
        self._directory = None
        if self.parent:
            self.parent._drop_child(self)
        self.release_managed()
        self._put()
        if self.parent and self.parent.dead:
            self.parent._put()

    def forget(self) -> None:
        """Give up the number of a device whose directory was removed with its parent's, and whose bus goes away."""
        assert self.directory.is_detached, f"{self.name} is in the tree"
        if self.number:
            self._unregister_devt(self.number)
        self.dead = True
        self._directory = None

    def notify(self, path: str) -> None:
        """Wake the pollers of one of the device's attributes (sysfs_notify, fs/sysfs/file.c, Linux 6.1).

        Args:
            path: relative to the device's directory.
        """
        file = self.directory.find(path)
        assert isinstance(file, Attribute), f"{file.path} is no attribute"
        file.notify()

    def send_uevent(self, action: Action, extra: tuple[tuple[str, str], ...] = ()) -> bool:
        """Send a uevent, if the device belongs to a bus or class.

        An unbind uevent has no MODALIAS, so that user space does not load a driver again (zap_modalias_env,
        lib/kobject_uevent.c, Linux 6.1).

        False when the event is too large to be sent, which extra variables can make it.
        """
        subsystem = self.bus or self.device_class
        if subsystem is None or (not extra and self.system.count_unheard_uevent()):
            return True
        own = (each for each in self.uevent_variables() if action is not Action.UNBIND or each[0] != "MODALIAS")
        return self.system.emit_uevent(action, self.system.devpath(self.directory), subsystem.name, (*extra, *own))

    @property
    def _has_glue(self) -> bool:
        """Whether a directory named after its class stands between a class device and its parent.

        Not below another class device.
        """
        return bool(self.device_class and (self.parent is None or self.parent.device_class is None))

    def _place(self) -> Directory:
        device_class = self.device_class
        if self.parent is None:
            above = self.system.directory("devices/virtual" if device_class else "devices")
        else:
            above = self.parent.directory
        return above.directory(device_class.name) if device_class and self._has_glue else above

    def _create_links(self, directory: Directory) -> None:
        """Create the links that lead to the device."""
        if self.device_class:
            self.device_class.directory.link(self.name, directory)
        if self.bus:
            self.bus.devices.link(self.name, directory)
        if self.number:
            self._register_devt(self.number)

    def _remove_links(self) -> None:
        if self.number:
            self._unregister_devt(self.number)
        if self.device_class:
            self.device_class.directory.remove(self.name)

    def _remove_directory(self) -> None:
        """Remove the directory, unless it was removed with the parent's."""
        place = self.directory.parent
        if place is None:
            return
        place.remove(self.name)
        if self._has_glue and place.is_empty and place.parent is not None:
            place.parent.remove(place.name)

    def _put(self) -> None:
        """Release an unregistered device, unless a registered child or an open node still refers to it."""
        if not self.registered and not self._children and not self.opens:
            self.release()

    def opened(self) -> None:
        """A process opens its node, which refers to it until it is closed."""
        self.opens += 1

    def closed(self) -> None:
        """A process closes its node."""
        self.opens -= 1
        if self.dead:
            self._put()

    def renumber(self, number: DeviceNumber) -> None:
        """Change the device number to that of a node that stands in for the device.

        EBUSY when another device has that number, EINVAL when it is out of range.
        """
        assert self.number is not None, f"{self.name} has no node"
        if not number.is_valid:
            raise KernelError(errno.EINVAL, f"{number} is not a device number")
        if number == self.number:
            return
        if number in self.system.numbered:
            raise KernelError(errno.EBUSY, f"{number} belongs to {self.system.numbered[number].name}")
        self._unregister_devt(self.number)
        self.number = number
        self._register_devt(number)

    def _register_devt(self, number: DeviceNumber) -> None:
        self.system.numbers[number.kind].link(str(number), self.directory)
        self.system.numbered[number] = self

    def _unregister_devt(self, number: DeviceNumber) -> None:
        self.system.numbers[number.kind].remove(str(number))
        del self.system.numbered[number]


@attribute("uevent")
def uevent(device: Device) -> str:
    """The variables of the device's uevents, a line each; none without a bus or class."""
    if device.bus is None and device.device_class is None:
        return ""
    return "".join(f"{key}={value}\n" for key, value in device.uevent_variables())


@uevent.on_store
def _store_uevent(device: Device, data: bytes) -> None:
    """Send a synthetic uevent.  EINVAL for an unknown action, ENOMEM when it is too large."""
    synthesize(device, data)


@attribute("dev")
def dev(device: Device) -> str:
    """The device number, major:minor."""
    return f"{device.number}\n"


DEVICE_GROUP: AttributeGroup[Device] = AttributeGroup((uevent,))
#: Of a device that has a number.
NUMBER_GROUP: AttributeGroup[Device] = AttributeGroup((dev,))


def _subsystem(device: Device) -> Directory:
    subsystem = device.bus or device.device_class
    assert subsystem is not None, "visible only with a bus or class"
    return subsystem.directory


def _parent(device: Device) -> Directory:
    assert device.parent is not None, "visible only with a parent"
    return device.parent.directory


def _of_node(device: Device) -> Directory:
    assert device.of_node is not None, "visible only with a node"
    return device.of_node.directory


SUBSYSTEM_LINK: LinkGroup[Device] = LinkGroup({"subsystem": _subsystem})
DEVICE_LINK: LinkGroup[Device] = LinkGroup({"device": _parent})
OF_NODE_LINK: LinkGroup[Device] = LinkGroup({"of_node": _of_node})
