"""The steps that a walk over a machine takes, in process.  Each prints as the call that makes it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import attrs
import books

from nvdimmfs.block.disk import Disk
from nvdimmfs.block.ioctl import block_ioctl
from nvdimmfs.block.partition import Partition
from nvdimmfs.core.device_number import DeviceNumber
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, BinaryFile
from nvdimmfs.machine.caller_memory import UserMemory
from nvdimmfs.machine.machine import Machine
from nvdimmfs.nd.ioctl import ioctl_target, nd_ioctl
from nvdimmfs.nd.region import RegionDevice

#: The address of an ioctl's argument.
ARGUMENT_AT = 0x1000


@attrs.frozen
class Write:
    """Write to an attribute."""

    path: str
    data: str

    def take(self, machine: Machine) -> None:
        node = machine.tree.root.find(self.path)
        if isinstance(node, Attribute):
            node.store(self.data.encode("latin-1"))


@attrs.frozen
class Module:
    """Load or unload a module."""

    verb: str
    name: str

    def take(self, machine: Machine) -> None:
        getattr(machine.persistent_memory.modules, self.verb)(self.name)


@attrs.frozen
class Ioctl:
    """An ioctl on a device, by the number that it has."""

    number: DeviceNumber
    request: int
    memory: str
    writable: bool

    def take(self, machine: Machine) -> None:
        device = machine.system.numbered.get(self.number)
        memory = UserMemory(bytearray(bytes.fromhex(self.memory)))
        if isinstance(device, Disk | Partition):
            memory.run(block_ioctl(device, self.request, ARGUMENT_AT, privileged=self.writable))
        elif (target := ioctl_target(device)) is not None:
            memory.run(nd_ioctl(target, self.request, self.writable))


@attrs.frozen
class Transfer:
    """Read a file of /dev, or write to it."""

    node: str
    offset: int
    length: int
    written: bool

    def take(self, machine: Machine) -> None:
        node = machine.system.dev.find(self.node)
        if isinstance(node, BinaryFile):
            if self.written:
                node.data.write(self.offset, bytes([self.offset & 0xFF]) * self.length)
            else:
                node.data.read(self.offset, self.length)


@attrs.frozen
class Wait:
    """Let time pass."""

    milliseconds: int

    def take(self, machine: Machine) -> None:
        machine.system.clock.advance(self.milliseconds * 1_000_000)


@attrs.frozen
class TakeDown:
    """Unload every module that can be unloaded, after unbinding what is bound; then no struct page may be left."""

    def take(self, machine: Machine) -> None:
        modules = machine.persistent_memory.modules
        for _ in range(len(modules.known)):
            for device in list(machine.nd_bus.members.values()) if machine.nd_bus else []:
                if isinstance(device, RegionDevice) and device.driver:
                    machine.nd_bus.unbind(device)  # type: ignore[union-attr]
                    machine.system.settle()
            for name in reversed(list(modules.loaded)):
                with contextlib.suppress(KernelError):
                    modules.unload(name)
        left = [pagemap.owner for pagemap in machine.memory.pagemaps]
        if left:
            raise AssertionError(f"struct pages are left of {left}")


@attrs.frozen
class ReadAll:
    """Read the whole tree."""

    def take(self, machine: Machine) -> None:
        found = next(books.tree_problems(machine), "")
        if found:
            raise AssertionError(found)


class _Failing:
    """Makes the reads and writes of a machine's media fail as those of a host whose medium fails.

    Attributes:
        good: how many go well before the first that fails.
        bad: how many fail then.
        number: with which errno.
    """

    def __init__(self, machine: Machine) -> None:
        self.good = self.bad = self.number = 0
        self._machine = machine
        self._wrapped: set[int] = set()

    def wrap(self) -> None:
        """Wrap the media that there are now."""
        storage = self._machine.storage
        for media in (*storage._media.values(), *storage._label_areas.values()):
            if id(media) not in self._wrapped:
                self._wrapped.add(id(media))
                media.read, media.write = self._checked(media.read), self._checked(media.write)  # type: ignore[method-assign]

    def _checked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*arguments: Any) -> Any:
            if self.good:
                self.good -= 1
            elif self.bad:
                self.bad -= 1
                raise OSError(self.number, os.strerror(self.number))
            return call(*arguments)

        return checked


_FAILING: WeakKeyDictionary[Machine, _Failing] = WeakKeyDictionary()


@attrs.frozen
class HostFails:
    """From the `good`th access to media on, `bad` accesses fail."""

    good: int
    bad: int
    number: int

    def take(self, machine: Machine) -> None:
        failing = _FAILING.get(machine)
        if failing is None:
            failing = _FAILING[machine] = _Failing(machine)
        failing.wrap()
        failing.good, failing.bad, failing.number = self.good, self.bad, self.number


Step = HostFails | TakeDown | Write | Module | Ioctl | Transfer | Wait | ReadAll
