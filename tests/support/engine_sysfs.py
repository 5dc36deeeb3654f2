"""The sysfs and the device nodes of a machine of the engine, for recording it."""

from __future__ import annotations

import errno

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, Directory, Symlink
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.sysfs import Sysfs
from nvdimmfs.nd.ioctl import ioctl_target, nd_ioctl
from nvdimmfs.testing.user_memory import UserMemory


class EngineSysfs(Sysfs):
    """The tree of a machine of the engine."""

    def __init__(self, root):
        self.root = root

    def node(self, path):
        """The node at a path, all links followed; None when there is none."""
        node = self.root
        for part in path.split("/"):
            if part == "..":
                node = node.parent
            elif part not in ("", "."):
                node = (
                    next((child for child in node if child.name == part), None) if isinstance(node, Directory) else None
                )
            if isinstance(node, Symlink):
                node = node.target
            if node is None:
                return None
        return node

    def path(self, node):
        parts = []
        while node is not self.root:
            parts.append(node.name)
            node = node.parent
        return "/".join(reversed(parts))

    def names(self, folder):
        node = self.node(folder)
        return [child.name for child in node] if isinstance(node, Directory) else []

    def is_folder(self, path):
        return isinstance(self.node(path), Directory)

    def is_link(self, path):
        folder, _, name = path.rpartition("/")
        return any(child.name == name and isinstance(child, Symlink) for child in self.node(folder))

    def real(self, path):
        node = self.node(path)
        return None if node is None else self.path(node)

    def read(self, path):
        node = self.node(path)
        if not isinstance(node, Attribute):
            raise FileNotFoundError(errno.ENOENT, path)
        if not node.mode & 0o444:
            raise PermissionError(errno.EACCES, path)
        try:
            return node.show()
        except KernelError as error:
            raise OSError(error.errno, path) from None


@attrs.frozen
class EngineDevices:
    """The device nodes of a machine of the engine."""

    machine: Machine

    def ioctl(self, name: str, request: int, argument: bytearray) -> None:
        found = next(device for device in self.machine.system.numbered.values() if device.name == name)
        target = ioctl_target(found)
        assert target is not None
        memory = UserMemory(bytearray(argument))
        try:
            memory.run(nd_ioctl(target, request, writable=True))
        except KernelError as refusal:
            raise OSError(refusal.errno, str(refusal)) from None
        argument[:] = memory.data
