"""A machine and two hands: what a shell does in sysfs, without a mount."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from pathlib import Path

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.kernel import KERNELS
from nvdimmfs.kernfs import Attribute, Directory, Symlink
from nvdimmfs.kernfs.open_file import OpenFile, open_node
from nvdimmfs.lab.trees import InProcess
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine, parse_machine
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.mm.memory import Memory
from nvdimmfs.units import GIB

ND = "bus/nd"
DEBUG = "kernel/debug/nvdimmfs"


@attrs.define(eq=False)
class Hands:
    """Reads and writes below the machine's /sys; a refusal is a `KernelError`."""

    machine: Machine
    sysfs: InProcess
    uuids: itertools.count = attrs.field(factory=lambda: itertools.count(1))

    @classmethod
    def of(cls, machine: Machine) -> Hands:
        return cls(machine, InProcess(machine))

    @classmethod
    def on(cls, memmap: str, ram: int = 4 * GIB, kernel: str = "6.1") -> Hands:
        """Boot a machine with legacy ranges."""
        return cls.of(Machine.legacy(memmap, ram, kernel=KERNELS[kernel], clock="steps"))

    @classmethod
    def described(cls, what: str | MachineDescription, media: Path | None = None, **options) -> Hands:
        """Boot a machine: a description, the text of a machine file, or the name of a machine.

        Args:
            what: the machine.
            media: the folder that keeps its bytes.
            options: those of `Machine.described`; the clock steps unless they say otherwise.
        """
        if isinstance(what, str):
            what = parse_machine(what, "machine.toml") if "\n" in what else load_machine(what)
        return cls.of(Machine.described(what, media, **{"clock": "steps"} | options))

    @property
    def memory(self) -> Memory:
        return self.machine.memory

    def read(self, path: str) -> str:
        return self.sysfs.read(path).decode()

    def write(self, path: str, text: str) -> None:
        assert self.sysfs.write(path, text.encode()) == len(text)

    def open(self, node: str, flags: int = 0) -> OpenFile:
        """Open a node of /dev for reading and writing, with further flags."""
        return open_node(self.machine.system.dev.find(node), os.O_RDWR | flags)

    def refused(self, path: str, text: str) -> int:
        """The errno of a write that must be refused; 0 when it is not."""
        try:
            self.write(path, text)
        except KernelError as refusal:
            return refusal.errno
        return 0

    def debug(self, name: str) -> str:
        return self.read(f"{DEBUG}/{name}")

    def facts(self, name: str) -> dict[str, str]:
        """A file of `key: value` lines."""
        return dict(line.split(": ", 1) for line in self.debug(name).splitlines())

    def ask(self, question: str) -> dict[str, str]:
        """Write to `translate` and read it."""
        self.write(f"{DEBUG}/translate", question + "\n")
        return self.facts("translate")

    def layout(self) -> dict:
        return json.loads(self.debug("layout"))

    def device(self, name: str) -> str:
        return f"{ND}/devices/{name}"

    def driver_of(self, name: str) -> str | None:
        with contextlib.suppress(KernelError):
            return self.sysfs.readlink(f"{self.device(name)}/driver").rpartition("/")[2]
        return None

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.sysfs.names(f"{ND}/devices") if name.startswith(prefix)]

    def unbind(self, name: str) -> None:
        """Unbind a device if it is bound."""
        driver = self.driver_of(name)
        if driver:
            self.write(f"{ND}/drivers/{driver}/unbind", name)

    def bind(self, name: str) -> None:
        driver = "dax_pmem" if name.startswith("dax") else "nd_pmem"
        self.write(f"{ND}/drivers/{driver}/bind", name)

    def configure(self, region: int, kind: str, *, namespace: str = "", **settings: object) -> str:
        """Give the region's seed of a kind a uuid, settings and the namespace, whose driver lets go; its name."""
        namespace = namespace or f"namespace{region}.0"
        seed = self.read(f"{self.device(f'region{region}')}/{kind}_seed").strip()
        self.unbind(namespace)
        for name, value in settings.items():
            self.write(f"{self.device(seed)}/{name}", f"{value}\n")
        self.write(f"{self.device(seed)}/uuid", f"00000000-0000-0000-0000-{next(self.uuids):012}\n")
        self.write(f"{self.device(seed)}/namespace", f"{namespace}\n")
        return seed

    def bring_up(self, region: int, kind: str, **settings: object) -> str:
        """Configure and bind."""
        seed = self.configure(region, kind, **settings)
        self.bind(seed)
        return seed

    def snapshot(self) -> dict[str, object]:
        """All of /sys, /dev and /proc but the time."""
        found: dict[str, object] = {}
        _collect(self.machine.tree.root, found)
        del found[f"/sys/{DEBUG}/clock"]
        return found


def _collect(directory: Directory, found: dict[str, object]) -> None:
    for node in directory:
        if isinstance(node, Directory):
            found[node.path] = None
            _collect(node, found)
        elif isinstance(node, Symlink):
            found[node.path] = node.text
        elif isinstance(node, Attribute) and node.mode & 0o444:
            try:
                found[node.path] = node.show()
            except KernelError as refusal:
                found[node.path] = refusal.errno
        else:
            found[node.path] = node.mode
