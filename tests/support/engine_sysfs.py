"""The sysfs and the device nodes of a machine of the engine, for recording it."""

from __future__ import annotations

import errno

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, Directory, Symlink
from nvdimmfs.kernfs.path import resolve
from nvdimmfs.machine.caller_memory import ARGUMENT_ADDRESS, UserMemory
from nvdimmfs.machine.device_calls import device_ioctl, device_named
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.sysfs import Sysfs


class EngineSysfs(Sysfs):
    """The tree of a machine of the engine."""

    def __init__(self, root):
        self.root = root

    def node(self, path, *, follow_last=True):
        """The node at a path; None when there is none."""
        try:
            return resolve(self.root, path, follow_last=follow_last)
        except KernelError:
            return None

    def names(self, folder):
        node = self.node(folder)
        return [child.name for child in node] if isinstance(node, Directory) else []

    def is_folder(self, path):
        return isinstance(self.node(path), Directory)

    def is_link(self, path):
        return isinstance(self.node(path, follow_last=False), Symlink)

    def real(self, path):
        node = self.node(path)
        return None if node is None else node.path.removeprefix(self.root.path).lstrip("/")

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
        _, device = device_named(self.machine.system, name)
        memory = UserMemory(bytearray(argument))
        try:
            memory.run(device_ioctl(device, request, ARGUMENT_ADDRESS, writable=True, privileged=True))
        except KernelError as refusal:
            raise OSError(refusal.errno, str(refusal)) from None
        argument[:] = memory.data
