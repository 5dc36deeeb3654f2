#!/usr/bin/env python3
"""A small tree made by hand, and the real command line serving it: `toy.py mount DIR`, `toy.py umount DIR`.

It has one of everything that a mount must get right, and attributes that change the tree when they are written.
"""

from __future__ import annotations

import errno
import sys
from types import ModuleType

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, AttributeOps, BinaryFile, Directory, FileKind, Files, FileTable, Symlink, Tree
from nvdimmfs.warm.client import carry_out

DISK_SIZE = 1 << 20
BLOCK_SIZE = 512


@attrs.define
class Value:
    """Holds what was written to it, without the newline, and shows it with one."""

    text: str

    def show(self, subject: object) -> bytes:
        return self.text.encode("latin-1") + b"\n"

    def store(self, subject: object, data: bytes) -> None:
        self.text = data.decode("latin-1").rstrip("\n\0")


@attrs.define
class Counter:
    """Shows how often it was shown."""

    count: int = 0

    def show(self, subject: object) -> bytes:
        self.count += 1
        return f"{self.count}\n".encode()

    def store(self, subject: object, data: bytes) -> None:
        raise KernelError(errno.EIO, "no store")


class Length:
    """A long text that changes wholly each time: `a` or `b`, over and over."""

    def __init__(self) -> None:
        self.letter = "a"

    def show(self, subject: object) -> bytes:
        self.letter = "b" if self.letter == "a" else "a"
        return self.letter.encode() * 4000

    def store(self, subject: object, data: bytes) -> None:
        """Take note of how much came."""
        if data.strip(b"x"):
            raise KernelError(errno.EINVAL, "not all x")


class Refusal:
    """Refuses with the errno that is written to it; shows nothing but EBUSY."""

    def show(self, subject: object) -> bytes:
        raise KernelError(errno.EBUSY, "always busy")

    def store(self, subject: object, data: bytes) -> None:
        raise KernelError(int(data), "as asked for")


class Bug:
    """Does what no attribute may do."""

    def show(self, subject: object) -> bytes:
        raise ZeroDivisionError("a bug on purpose")

    def store(self, subject: object, data: bytes) -> None:
        raise KeyError("a bug on purpose")


@attrs.define
class Hotplug:
    """Adds and removes devices: `add NAME`, `remove NAME`, `replace NAME`, `clear`; `fail NAME` removes and refuses."""

    devices: Directory
    links: Directory
    dev: Directory

    def show(self, subject: object) -> bytes:
        return b"".join(node.name.encode() + b"\n" for node in self.devices)

    def store(self, subject: object, data: bytes) -> None:
        verb, _, name = data.decode().strip().partition(" ")
        if verb in ("remove", "replace", "fail"):
            self.remove(name)
        if verb in ("add", "replace"):
            self.add(name)
        if verb == "clear":
            for node in list(self.devices):
                self.remove(node.name)
        if verb == "fail":
            raise KernelError(errno.ENXIO, "removed, and refused")

    def add(self, name: str) -> None:
        device = self.devices.add(Directory(name))
        power = FileTable({"control": FileKind(0o644, Value("auto"))})
        files = {"name": FileKind(0o444, Value(name)), "value": FileKind(0o644, Value("0")), "power": power}
        device.populate_lazily(Files(FileTable(files), None))
        self.links.add(Symlink(name, device))
        self.dev.add(BinaryFile(name, 0o600, Disk(DISK_SIZE), BLOCK_SIZE))

    def remove(self, name: str) -> None:
        self.dev.remove(name)
        self.links.remove(name)
        self.devices.remove(name)


@attrs.define
class Notifier:
    """Notifies another attribute's readers when it is written."""

    target: Attribute[None]

    def show(self, subject: object) -> bytes:
        return b"\n"

    def store(self, subject: object, data: bytes) -> None:
        self.target.notify()


class Disk:
    """Bytes; the sector at 4096 is bad, and the host has no room for the one at 8192."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.bytes = bytearray(size)
        self.flushes = 0

    def read(self, offset: int, length: int) -> bytes:
        if offset < 4608 and offset + length > 4096:
            raise KernelError(errno.EIO, "bad sector")
        return bytes(self.bytes[offset : offset + length])

    def view(self, offset: int, length: int) -> bytes:
        """As `read`."""
        return self.read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        if offset < 8704 and offset + len(data) > 8192:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        self.bytes[offset : offset + len(data)] = data

    def flush(self) -> None:
        self.flushes += 1


def toy_tree() -> Tree:
    """The tree, with one device `zero` plugged in."""
    tree = Tree()
    sys_directory = tree.root.add(Directory("sys", 0o555))
    dev = tree.root.add(Directory("dev"))
    devices = sys_directory.add(Directory("devices"))
    links = sys_directory.add(Directory("links"))
    plain = sys_directory.add(Directory("plain"))
    add(plain, "value", 0o644, Value("hello"))
    add(plain, "constant", 0o444, Value("constant"))
    add(plain, "write-only", 0o200, Value("secret"))
    add(plain, "empty", 0o444, Nothing())
    add(plain, "counter", 0o444, Counter())
    add(plain, "long", 0o644, Length())
    add(plain, "refusal", 0o644, Refusal())
    add(plain, "bug", 0o644, Bug())
    event = add(plain, "event", 0o444, Value("event"))
    add(plain, "notify", 0o200, Notifier(event))
    hotplug = Hotplug(devices, links, dev)
    hotplug.add("zero")
    add(sys_directory, "hotplug", 0o644, hotplug)
    many = sys_directory.add(Directory("many"))
    for number in range(300):
        add(many, f"attribute-with-a-long-name-{number:04}", 0o444, Value(str(number)))
    return tree


class Nothing:
    """Shows nothing at all."""

    def show(self, subject: object) -> bytes:
        return b""

    def store(self, subject: object, data: bytes) -> None:
        raise KernelError(errno.EIO, "no store")


def add(directory: Directory, name: str, permissions: int, ops: AttributeOps[None]) -> Attribute[None]:
    """An attribute of a directory."""
    return directory.add(Attribute(name, permissions, ops, None))


class ToyMachine:
    """Stands in for the machine that the command line would build."""

    def __init__(self) -> None:
        self.tree = toy_tree()
        self.sys = self.tree.root.find("sys")
        self.system = self
        self.clock = None

    @classmethod
    def described(cls, *_description: object, **_options: object) -> ToyMachine:
        return cls()

    def close(self) -> None:
        """Nothing is kept."""


def main() -> int:
    """The command line, with the toy in the machine's place, and left to a warm server where there is one."""
    carry_out(sys.argv[1:])
    machine = ModuleType("nvdimmfs.machine.machine")
    machine.Machine = ToyMachine  # type: ignore[attr-defined]
    sys.modules[machine.__name__] = machine
    from nvdimmfs.cli.main import main as command_line

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
