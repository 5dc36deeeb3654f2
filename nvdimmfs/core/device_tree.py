"""Nodes of a device tree, in sysfs and in the uevents of the devices that they describe (drivers/of, Linux 6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from nvdimmfs.kernfs import BinaryFile, Directory
from nvdimmfs.media.memory import MemoryMedia

if TYPE_CHECKING:
    from nvdimmfs.core.system import System

#: Where sysfs shows the root of the tree.
ROOT = "firmware/devicetree/base"


@attrs.frozen(eq=False)
class DeviceTreeNode:
    """A node directly below the root.

    Attributes:
        name: its name, without the address.
        full_name: its path.
        compatible: the kind of device.
        directory: its directory in sysfs.
    """

    name: str
    full_name: str
    compatible: str
    directory: Directory

    @classmethod
    def create(
        cls, system: System, name: str, address: int, compatible: str, properties: Mapping[str, bytes]
    ) -> DeviceTreeNode:
        """Add a node, with a file for each property: its value as it is in the tree."""
        directory = system.directory(f"{ROOT}/{name}@{address:x}")
        known = {"compatible": f"{compatible}\0".encode(), "name": f"{name}\0".encode()}
        for key, value in (known | dict(properties)).items():
            content = MemoryMedia(len(value))
            content.write(0, value)
            directory.add(BinaryFile(key, 0o444, content))
        return cls(name, f"/{name}@{address:x}", compatible, directory)

    @property
    def uevent_variables(self) -> list[tuple[str, str]]:
        """The variables of a device that the node describes (of_device_uevent, drivers/of/device.c)."""
        return [
            ("OF_NAME", self.name),
            ("OF_FULLNAME", self.full_name),
            ("OF_COMPATIBLE_0", self.compatible),
            ("OF_COMPATIBLE_N", "1"),
        ]

    @property
    def alias(self) -> str:
        """The alias by which modprobe finds a driver (of_device_modalias); the tree gives it no device type."""
        return f"of:N{self.name}T(null)C{self.compatible}"
