"""Drivers and buses: matching, probing, binding and unbinding."""

from __future__ import annotations

import errno

from nvdimmfs.core.attribute import AttributeGroup, attribute, write_only_attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.kobject import KernelObject
from nvdimmfs.core.module import Module
from nvdimmfs.core.parse import line
from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import Action, synthesize
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.races import BIND_UEVENT, FirstUevent
from nvdimmfs.kernfs import Directory


class Driver:
    """A driver on a bus.

    A subclass says what it matches and what probe and remove do.

    Attributes:
        name: the directory below the bus's drivers/.
        module: the module it lives in.
        devices: what is bound to it, in the order of binding.
        bind_attributes: whether user space may bind and unbind.
        shows_module: whether it and its module are linked; the ACPI bus forgets to say whose its drivers are.
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
        bus.register(self)
        self.kobject.announce_add()

    @property
    def _name_in_module(self) -> str:
        return f"{self.bus.name}:{self.name}"

    def create_files(self) -> None:
        """Make attribute files that only this kind of driver has."""

    def matches(self, device: Device) -> bool:
        """Whether the driver can handle this kind of device."""
        raise NotImplementedError

    def probe(self, device: Device) -> None:
        """Take the device into service; `KernelError` refuses it."""

    def remove(self, device: Device) -> None:
        """Take the device out of service; what `Device.manage` noted is undone afterwards."""

    def unregister(self) -> None:
        """Let go of every device, the last bound first, and vanish: when the module is unloaded."""
        self.bus.forget(self)
        for device in reversed(list(self.devices)):
            self.bus.unbind(device)
        if self.shows_module:
            self.module.directory.directory("drivers").remove(self._name_in_module)
        self.kobject.announce_remove()
        self.bus.drivers.remove(self.name)

    def attach(self) -> None:
        """Try every device of the bus that has no driver yet, as at registration."""
        for device in list(self.bus.members.values()):
            if device.driver is None and self.matches(device):
                self.bus.try_probe(self, device)


class Bus:
    """A bus: devices on one side, drivers on the other.

    Attributes:
        members: the registered devices by name.
        directory: /sys/bus/<name>.
        autoprobe: offer new devices to the drivers.
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
        """Vanish; nothing is on the bus any more."""
        assert not self.members, f"there are devices on bus {self.name}"
        assert not self._drivers, f"bus {self.name} has drivers"
        self.kobject.announce_remove()
        self.system.directory("bus").remove(self.name)

    def call_probe(self, driver: Driver, device: Device) -> None:
        """Run a driver's probe; a bus may do more around it."""
        driver.probe(device)

    def call_remove(self, driver: Driver, device: Device) -> None:
        """Run a driver's remove; a bus may do more around it."""
        driver.remove(device)

    def register(self, driver: Driver) -> None:
        """Take a driver into the list of those that are asked, and let it look at what is there."""
        self._drivers.append(driver)
        if self.autoprobe:
            driver.attach()

    def forget(self, driver: Driver) -> None:
        """Ask a driver no more."""
        self._drivers.remove(driver)

    def device_added(self, device: Device) -> None:
        """Enter a new device and offer it to the drivers."""
        self.members[device.name] = device
        if self.autoprobe:
            self.initial_probe(device)

    def device_removed(self, device: Device) -> None:
        """Unbind a leaving device and forget it."""
        self.devices.remove(device.name)
        if device.driver:
            self.unbind(device)
        del self.members[device.name]

    def initial_probe(self, device: Device) -> None:
        """Offer a new device to the drivers, but not before user space knows that the one above it works.

        In Linux a worker does, and waits for the parent's lock, which whoever binds the parent holds.
        """
        if _bind_uevent_pending(device.parent):
            self.system.schedule(lambda: self._probe_new(device))
        else:
            self._probe_new(device)

    def _probe_new(self, device: Device) -> None:
        if not device.registered or device.dead or device.driver:
            return
        self.attach_device(device)
        if device.bind_uevent_pending:
            self.system.schedule(device.move_to_tail)
        else:
            device.move_to_tail()

    def attach_device(self, device: Device) -> None:
        """Try the drivers that match until one takes the device; refusals are not reported."""
        for driver in self._drivers:
            if driver.matches(device) and self.try_probe(driver, device):
                return

    def has_driver_for(self, device: Device) -> bool:
        """Whether a driver matches, whatever its probe may say."""
        return any(driver.matches(device) for driver in self._drivers)

    def try_probe(self, driver: Driver, device: Device) -> bool:
        """Probe and say whether it worked."""
        try:
            self.bind(driver, device)
        except KernelError:
            return False
        return True

    def bind(self, driver: Driver, device: Device) -> None:
        """Probe a device with a driver.

        ENODEV when the device is leaving, EBUSY when it has a driver, ENOENT when its directory has gone with the one
        above it, else what the probe says (drivers/base/dd.c, Linux 6.1).
        """
        if device.dead or not device.registered:
            raise KernelError(errno.ENODEV, f"{device.name} is leaving")
        if device.driver:
            raise KernelError(errno.EBUSY, f"{device.name} is bound to {device.driver.name}")
        if device.directory.has_left:
            raise KernelError(errno.ENOENT, f"{device.name} has no directory for a link to its driver")
        mark, scheduled = device.managed_mark, self.system.scheduled
        self._link(driver, device)
        try:
            self.call_probe(driver, device)
        except (KernelError, OSError):  # a refusal, or a host that cannot keep what is to be written
            device.release_managed(mark)
            self._unlink(driver, device)
            raise
        driver.devices[device] = None
        self._announce_bind(device, queued=self.system.scheduled > scheduled)

    def unbind(self, device: Device) -> None:
        """Take the driver off a device."""
        driver = device.driver
        assert isinstance(driver, Driver), f"{device.name} is not bound"
        self.call_remove(driver, device)
        device.release_managed()
        del driver.devices[device]
        self._unlink(driver, device)
        self._tell(device, Action.UNBIND)

    def find(self, data: bytes) -> Device:
        """The device that was named in a write.  ENODEV when there is none."""
        name = line(data)
        device = self.members.get(name)
        if device is None:
            raise KernelError(errno.ENODEV, f"no device {name!r} on bus {self.name}")
        return device

    def _announce_bind(self, device: Device, *, queued: bool) -> None:
        """Send its uevent: at once, or after the work that the probe has `queued` and what is above the device.

        Linux has workers register the devices that a probe found or made, see `kernels.races`.
        """
        if BIND_UEVENT.taken is FirstUevent.BOUND or (not queued and not _bind_uevent_pending(device.parent)):
            self._tell(device, Action.BIND)
            return

        def tell() -> None:
            device.bind_uevent_pending = False
            if device.driver:
                self._tell(device, Action.BIND)

        device.bind_uevent_pending = True
        self.system.schedule(tell)

    def _tell(self, device: Device, action: Action) -> None:
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
    return device is not None and (device.bind_uevent_pending or _bind_uevent_pending(device.parent))


@write_only_attribute("bind")
def bind(driver: Driver, data: bytes) -> None:
    """Probe the named device.  Older kernels have one errno for every refusal.

    ENODEV: no such device, not for this driver, or on its way out.  EBUSY: bound already.  Else what the probe says.
    """
    device = driver.bus.find(data)
    if not driver.matches(device):
        raise KernelError(errno.ENODEV, f"{driver.name} does not handle {device.name}")
    try:
        driver.bus.bind(driver, device)
    except KernelError as refusal:
        number = driver.system.kernel.devices.bind_errno
        if number is None:
            raise
        raise KernelError(number, refusal.reason) from refusal


@write_only_attribute("unbind")
def unbind(driver: Driver, data: bytes) -> None:
    """Take the driver off the named device.  ENODEV when it is not bound to this driver."""
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
    """1 when new devices are offered to the drivers, else 0."""
    return f"{int(bus.autoprobe)}\n"


@drivers_autoprobe.on_store
def _store_drivers_autoprobe(bus: Bus, data: bytes) -> None:
    """Off when the first character is 0, on for anything else."""
    bus.autoprobe = data[:1] != b"0"


@write_only_attribute("drivers_probe")
def drivers_probe(bus: Bus, data: bytes) -> None:
    """Offer the named device to the drivers.  ENODEV for an unknown one; a refusal is no error.

    EINVAL when a driver matches, but the device's directory has gone with the one above it.
    """
    device = bus.find(data)
    if device.driver or device.dead:
        return
    if device.directory.has_left and bus.has_driver_for(device):
        raise KernelError(errno.EINVAL, f"{device.name} has no directory for a link to its driver")
    bus.attach_device(device)


DRIVER_GROUP: AttributeGroup[Driver] = AttributeGroup((driver_uevent,))
BIND_GROUP: AttributeGroup[Driver] = AttributeGroup((bind, unbind))
BUS_GROUP: AttributeGroup[Bus] = AttributeGroup((drivers_probe, drivers_autoprobe, bus_uevent))
