"""Drivers and buses: matching, probing, binding and unbinding."""

from __future__ import annotations

import errno
import logging

from nvdimmfs.core.attribute import AttributeGroup, attribute, write_only_attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.kobject import KernelObject
from nvdimmfs.core.module import Module
from nvdimmfs.core.parse import line
from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import Action, synthesize
from nvdimmfs.errors import KernelError, refused_by_host
from nvdimmfs.kernels.durations import MISMATCH
from nvdimmfs.kernels.races import BIND_UEVENT, FirstUevent
from nvdimmfs.kernfs import Directory
from nvdimmfs.traces.effects import Unbound

log = logging.getLogger(__name__)


class Driver:
    """A driver on a bus.

    A subclass implements `matches`, `probe` and `remove`.

    Attributes:
        name: the directory below the bus's drivers/.
        module: the module that contains it.
        devices: the devices bound to it, in the order of binding.
        bind_attributes: whether user space may bind and unbind.
        shows_module: whether it and its module link to each other; drivers of the ACPI bus do not name their module.
    """

    name: str
    bind_attributes: bool = True
    shows_module: bool = True

    def __init__(self, bus: Bus, module: Module) -> None:
        self.system = bus.system
        self.bus = bus
        self.module = module
        self.devices: dict[Device, None] = {}
        self.directory = bus.drivers.add(Directory(self.name))
        self.kobject = KernelObject(self.system, self.directory, "drivers")
        DRIVER_GROUP.create(self.directory, self)
        if self.bind_attributes:
            BIND_GROUP.create(self.directory, self)
        self.create_files()
        if self.shows_module:
            self.directory.link("module", module.directory)
            module.directory.directory("drivers").link(self._name_in_module, self.directory)
        module.at_exit(self.unregister)
        bus.add_driver(self)
        self.kobject.announce_add()

    @property
    def _name_in_module(self) -> str:
        return f"{self.bus.name}:{self.name}"

    def create_files(self) -> None:
        """Create the attribute files that only this kind of driver has."""

    def matches(self, device: Device) -> bool:
        """Whether the driver can handle this kind of device."""
        raise NotImplementedError

    def probe(self, device: Device) -> None:
        """Put the device into service; a `KernelError` refuses it."""

    def remove(self, device: Device) -> None:
        """Take the device out of service; the undo functions of `Device.manage` run afterwards."""

    def unregister(self) -> None:
        """Unbind every device, the last bound first, and unregister the driver: when the module is unloaded."""
        self.bus.remove_driver(self)
        for device in reversed(list(self.devices)):
            self.bus.unbind(device)
        if self.shows_module:
            self.module.directory.directory("drivers").remove(self._name_in_module)
        self.kobject.announce_remove()
        self.bus.drivers.remove(self.name)

    def attach(self) -> None:
        """Probe every matching device of the bus that has no driver, as at registration."""
        for device in list(self.bus.members.values()):
            if device.driver is None and self.matches(device):
                self.bus.try_probe(self, device)


class Bus:
    """A bus: devices on one side, drivers on the other.

    Attributes:
        members: the registered devices by name.
        directory: /sys/bus/<name>.
        autoprobe: whether drivers probe new devices.
    """

    def __init__(self, system: System, name: str) -> None:
        self.system = system
        self.name = name
        self.autoprobe = True
        self.members: dict[str, Device] = {}
        self.directory = system.directory("bus").add(Directory(name))
        self.kobject = KernelObject(system, self.directory, "bus")
        self.kobject.announce_add()
        self.devices = self.directory.add(Directory("devices"))
        self.drivers = self.directory.add(Directory("drivers"))
        self._drivers: list[Driver] = []
        BUS_GROUP.create(self.directory, self)

    def unregister(self) -> None:
        """Remove the bus, which has no devices and drivers any more."""
        assert not self.members, f"there are devices on bus {self.name}"
        assert not self._drivers, f"bus {self.name} has drivers"
        self.kobject.announce_remove()
        self.system.directory("bus").remove(self.name)

    def call_probe(self, driver: Driver, device: Device) -> None:
        """Call a driver's probe; a bus may extend this."""
        driver.probe(device)

    def call_remove(self, driver: Driver, device: Device) -> None:
        """Call a driver's remove; a bus may extend this."""
        driver.remove(device)

    def add_driver(self, driver: Driver) -> None:
        """Add a driver, and let it probe the devices that are there."""
        self._drivers.append(driver)
        if self.autoprobe:
            driver.attach()

    def remove_driver(self, driver: Driver) -> None:
        """Remove a driver, which probes no device any more."""
        self._drivers.remove(driver)

    def device_added(self, device: Device) -> None:
        """Add a new device and let drivers probe it."""
        self.members[device.name] = device
        if self.autoprobe and not device.first_probe_deferred:
            self.initial_probe(device)

    def probe_deferred(self, device: Device) -> None:
        """Let drivers probe a device whose first probe was deferred."""
        device.first_probe_deferred = False
        if self.autoprobe and device.registered:
            self.initial_probe(device)

    def device_removed(self, device: Device) -> None:
        """Unbind a device that is being unregistered, and remove it."""
        self.devices.remove(device.name)
        if device.driver:
            self.unbind(device)
        del self.members[device.name]

    def initial_probe(self, device: Device) -> None:
        """Let drivers probe a new device, but not before the bind uevent of its parent was sent.

        In Linux a worker does this.  It waits for the parent's lock, which is held while the parent is bound.
        """
        if _bind_uevent_pending(device.parent):
            self.system.queue_work(lambda: self._probe_new(device))
        else:
            self._probe_new(device)

    def _probe_new(self, device: Device) -> None:
        if not device.registered or device.dead or device.driver:
            return
        self.attach_device(device)
        if device.bind_uevent_pending:
            self.system.queue_work(device.move_to_tail)
        else:
            device.move_to_tail()

    def attach_device(self, device: Device) -> None:
        """Probe with each driver that matches until one binds; refusals are not reported (device_attach)."""
        for driver in self._drivers:
            if driver.matches(device) and self.try_probe(driver, device):
                return

    def has_driver_for(self, device: Device) -> bool:
        """Whether a driver matches, regardless of its probe."""
        return any(driver.matches(device) for driver in self._drivers)

    def try_probe(self, driver: Driver, device: Device) -> bool:
        """Probe, and return whether the device was bound: not if the driver refuses, or a medium of the host fails.

        OSError at boot: there is no machine without its media.
        """
        try:
            self.bind(driver, device)
        except KernelError:
            return False
        except OSError as failure:
            if self.system.clock.is_booting:
                raise
            log.warning("%s does not bind %s: %s", driver.name, device.name, refused_by_host(failure))
            return False
        return True

    def bind(self, driver: Driver, device: Device) -> None:
        """Probe a device with a driver.

        ENODEV when the device is being unregistered, EBUSY when it has a driver, ENOENT when its directory was removed
        with its parent's, else the error of the probe (drivers/base/dd.c, Linux 6.1).
        """
        if device.dead or not device.registered:
            raise KernelError(errno.ENODEV, f"{device.name} is being unregistered")
        if device.driver:
            raise KernelError(errno.EBUSY, f"{device.name} is bound to {device.driver.name}")
        if device.directory.is_detached:
            raise KernelError(errno.ENOENT, f"{device.name} has no directory for a link to its driver")
        if (trace := self.system.trace) is None:
            self._bind(driver, device)
            return
        with trace.probe(driver.name, device.name):
            self._bind(driver, device)

    def _bind(self, driver: Driver, device: Device) -> None:
        mark, queued = device.managed_mark, self.system.queued
        self._link(driver, device)
        try:
            self.call_probe(driver, device)
        except (KernelError, OSError):  # a refusal, or a host that cannot store the bytes
            device.release_managed(mark)
            self._unlink(driver, device)
            raise
        driver.devices[device] = None
        self._announce_bind(device, queued=self.system.queued > queued)

    def unbind(self, device: Device) -> None:
        """Unbind a device from its driver."""
        driver = device.driver
        assert isinstance(driver, Driver), f"{device.name} is not bound"
        self.call_remove(driver, device)
        device.release_managed()
        del driver.devices[device]
        self._unlink(driver, device)
        if (trace := self.system.trace) is not None:
            trace.report(Unbound(driver.name, device.name))
        self._send_uevent(device, Action.UNBIND)

    def member(self, name: str) -> Device | None:
        """The registered device with that name, or None."""
        return self.members.get(name)

    def find(self, data: bytes) -> Device:
        """The device that was named in a write.  ENODEV when there is none."""
        name = line(data)
        device = self.member(name)
        if device is None:
            raise KernelError(errno.ENODEV, f"no device {name!r} on bus {self.name}")
        return device

    def _announce_bind(self, device: Device, *, queued: bool) -> None:
        """Send the bind uevent: at once, or after the work that the probe `queued` and the bind uevent of the parent.

        In Linux, workers register the devices that a probe found or created, see `kernels.races`.
        """
        if BIND_UEVENT.taken is FirstUevent.BOUND or (not queued and not _bind_uevent_pending(device.parent)):
            self._send_uevent(device, Action.BIND)
            return

        def send() -> None:
            device.bind_uevent_pending = False
            if device.driver:
                self._send_uevent(device, Action.BIND)

        device.bind_uevent_pending = True
        self.system.queue_work(send)

    def _send_uevent(self, device: Device, action: Action) -> None:
        if device.registered and self.system.kernel.devices.bind_uevents:
            device.send_uevent(action)

    def _link(self, driver: Driver, device: Device) -> None:
        device.driver = driver
        driver.directory.link(device.name, device.directory)
        device.directory.link("driver", driver.directory)

    def _unlink(self, driver: Driver, device: Device) -> None:
        device.directory.remove("driver")
        driver.directory.remove(device.name)
        device.driver = None


def _bind_uevent_pending(device: Device | None) -> bool:
    while device is not None:
        if device.bind_uevent_pending:
            return True
        device = device.parent
    return False


@write_only_attribute("bind")
def bind(driver: Driver, data: bytes) -> None:
    """Probe the named device.  Older kernels have one errno for every refusal.

    ENODEV: no such device, no match with this driver, or being unregistered.  EBUSY: already bound.  Else the error of
    the probe: EINVAL, ENXIO and EOPNOTSUPP for metadata or settings that the driver does not take, ENOMEM and EEXIST
    where memory or its struct pages cannot be had, and what the firmware of a DIMM answers, such as EIO or E2BIG.
    """
    device = driver.bus.find(data)
    if not driver.matches(device):
        driver.system.clock.price_act(MISMATCH)
        raise KernelError(errno.ENODEV, f"{driver.name} does not match {device.name}")
    try:
        driver.bus.bind(driver, device)
    except KernelError as refusal:
        number = driver.system.kernel.devices.bind_errno
        if number is None:
            raise
        raise KernelError(number, refusal.reason) from refusal


@write_only_attribute("unbind")
def unbind(driver: Driver, data: bytes) -> None:
    """Unbind the named device.  ENODEV when it is not bound to this driver."""
    device = driver.bus.find(data)
    if device.driver is not driver:
        raise KernelError(errno.ENODEV, f"{device.name} is not bound to {driver.name}")
    driver.bus.unbind(device)


@write_only_attribute("uevent")
def driver_uevent(driver: Driver, data: bytes) -> None:
    """Send a synthetic uevent.  EINVAL for an unknown action, ENOMEM when it is too large."""
    synthesize(driver.kobject, data)


@write_only_attribute("uevent")
def bus_uevent(bus: Bus, data: bytes) -> None:
    """Send a synthetic uevent.  EINVAL for an unknown action, ENOMEM when it is too large."""
    synthesize(bus.kobject, data)


@attribute("drivers_autoprobe")
def drivers_autoprobe(bus: Bus) -> str:
    """1 when drivers probe new devices, else 0."""
    return f"{int(bus.autoprobe)}\n"


@drivers_autoprobe.on_store
def _store_drivers_autoprobe(bus: Bus, data: bytes) -> None:
    """Off when the first character is 0, on for anything else."""
    bus.autoprobe = data[:1] != b"0"


@write_only_attribute("drivers_probe")
def drivers_probe(bus: Bus, data: bytes) -> None:
    """Let drivers probe the named device.  ENODEV for an unknown one; a refused probe is no error.

    EINVAL when a driver matches, but the device's directory was removed with its parent's; before Linux 5.15 that is no
    error, either.
    """
    device = bus.find(data)
    if device.driver or device.dead:
        return
    if device.directory.is_detached and bus.has_driver_for(device):
        if not bus.system.kernel.devices.failed_link_fails_probe:
            return
        raise KernelError(errno.EINVAL, f"{device.name} has no directory for a link to its driver")
    bus.attach_device(device)


DRIVER_GROUP: AttributeGroup[Driver] = AttributeGroup((driver_uevent,))
BIND_GROUP: AttributeGroup[Driver] = AttributeGroup((bind, unbind))
BUS_GROUP: AttributeGroup[Bus] = AttributeGroup((drivers_probe, drivers_autoprobe, bus_uevent))
