"""A session of the control channel, as the supervisor of a sandbox has one, without a mount."""

from __future__ import annotations

from nvdimmfs.formats import control
from nvdimmfs.kernfs import Attribute, Channel
from nvdimmfs.kernfs.path import resolve


class ControlSession:
    """One end of a session.

    Attributes:
        machine: the machine at the other end.
        sys: its /sys.
        session: the other end.
    """

    def __init__(self, machine):
        self.machine = machine
        self.sys = machine.system.sys
        channel = self.sys.find("kernel/debug/nvdimmfs/control")
        assert isinstance(channel, Channel)
        self.session = channel.open_session(channel)

    def request(self, message):
        """Send a message, and return the answer."""
        self.session.write(control.encode(message))
        return self.receive()

    def receive(self):
        data = self.session.read()
        return control.decode(data) if data else None

    def events(self):
        return list(iter(self.receive, None))

    def write(self, path, text):
        attribute = resolve(self.sys, path)
        assert isinstance(attribute, Attribute)
        attribute.store(text.encode())

    def number(self, kind, name):
        """The major and minor number of a device."""
        (number,) = (n for n, device in self.machine.system.numbered.items() if (n.kind, device.name) == (kind, name))
        return number.major, number.minor
