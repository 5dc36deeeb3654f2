"""Take random steps on machines of all platforms, in process.

No exception but `KernelError`, and tree and engine agree (`books.py`).  Failures are shrunk.
"""

from __future__ import annotations

import random
import re
import sys
import traceback
from collections.abc import Iterator, Sequence

import _paths  # noqa: F401  # before the modules that it makes importable
import attrs
import books
import random_machines
from ioctl_stories import UserMemory
from torturing import Trial, run, shrink

from nvdimmfs.block.disk import Disk
from nvdimmfs.block.ioctl import block_ioctl
from nvdimmfs.block.partition import Partition
from nvdimmfs.core.device_number import DeviceNumber
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import BUS_FORMATS, DIMM_FORMATS
from nvdimmfs.kernfs import Attribute, BinaryFile, Directory, Symlink
from nvdimmfs.machine.machine import Machine
from nvdimmfs.nd.ioctl import ioctl_target, nd_ioctl

#: Steps on one machine, and steps between two comparisons of tree and engine.
STORY = 300
BETWEEN_CHECKS = 20

#: Files whose content is not the subject here, or that only say what a write of them would do to the walk itself.
LEFT_OUT = re.compile(r"/kernel/debug/nvdimmfs/(?:clock|modules)$")

UUIDS = [f"0000000{number}-1111-2222-3333-444444444444" for number in range(8)]
WORDS = ("", "0", "1", "2", "y", "n", "on", "-1", "none", "abc", "pmem", "ram", "raw", "safe", "btt", "pfn", "dax")
SIZES = ("0", "512", "520", "4096", "4160", "65536", "2097152", "0x1000000", "16777216", "33554432", "50331648")
HUGE = ("1073741824", "0x7fffffffffffffff", "18446744073709551615", "18446744073709551616", "999999999999")
ODD = ("\0", " ", "\t1", "1\0", "0x", "x" * 64, "9" * 200, "\xff\xfe", "%s%n", "../..", "a\nb", "y" * 4096, "y" * 5000)
SENSIBLE = {
    "mode": ("none", "pmem", "ram"),
    "align": ("4096", "2097152", "1073741824", "16777216"),
    "sector_size": ("512", "520", "528", "4096", "4104", "4160", "4224"),
    "holder_class": ("btt", "pfn", "dax", ""),
    "read_only": ("0", "1"),
    "state": ("online", "online_movable", "online_kernel", "offline"),
    "online": ("0", "1"),
    "uevent": ("add", "change", "remove", f"add {UUIDS[0]} A=1"),
    "security": ("freeze", "disable 1", "update 0 1", "erase 1", "overwrite 1", "master_update 0 1"),
    "scrub": ("1",),
    "badblocks": ("8 1", "0 100", "1 1"),
    "mapping": ("0x140000000-0x14fffffff",),
}


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
            memory.run(block_ioctl(device, self.request, 0x1000, privileged=self.writable))
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
class ReadAll:
    """Read the whole tree."""

    def take(self, machine: Machine) -> None:
        found = next(books.tree_problems(machine), "")
        if found:
            raise AssertionError(found)


Step = Write | Module | Ioctl | Transfer | Wait | ReadAll


@attrs.define
class Story:
    """A machine, the steps that it has taken, and what uevents announced."""

    machine: Machine
    announced: books.Announced

    @classmethod
    def begin(cls, text: str) -> Story:
        machine = random_machines.boot(text)
        return cls(machine, books.Announced(machine))

    def take(self, step: Step) -> str:
        """Take a step; an empty text, or what is wrong with it."""
        try:
            step.take(self.machine)
        except KernelError:
            return ""
        except Exception as bug:
            where = traceback.extract_tb(bug.__traceback__)[-1]
            return f"{type(bug).__name__} in {where.name}: {bug}"
        return ""

    def check(self) -> str:
        """Compare tree and engine; an empty text, or the first thing that is wrong."""
        return next(books.problems(self.machine), "") or next(self.announced.differences(), "")


class Chooser:
    """Chooses steps by what the machine has now."""

    def __init__(self, chance: random.Random, machine: Machine) -> None:
        self._chance = chance
        self._machine = machine

    def next(self) -> Step:
        kind = self._chance.random()
        if kind < 0.30:
            return self._bind()
        if kind < 0.70:
            return self._configure()
        if kind < 0.78:
            return self._write_anywhere()
        if kind < 0.84:
            return self._ioctl()
        if kind < 0.92:
            return self._transfer()
        if kind < 0.96:
            return Module(self._chance.choice(("load", "load", "unload")), self._chance.choice(self._modules))
        if kind < 0.995:
            return Wait(self._chance.choice((0, 1, 50, 1000, 60_000)))
        return ReadAll()

    @property
    def _modules(self) -> list[str]:
        return [*self._machine.persistent_memory.modules.known, "bogus"]

    def _bind(self) -> Step:
        """Bind or unbind a device of a bus, mostly by a driver that fits."""
        sys = self._machine.system.sys
        bus = self._chance.choice([*_folders(sys.find("bus")), *["nd"] * 4])
        drivers, devices = self._names(f"bus/{bus}/drivers"), self._names(f"bus/{bus}/devices")
        if not drivers or not devices:
            return Wait(0)
        device = self._chance.choice(devices)
        if self._chance.random() < 0.05:
            return Write(f"sys/bus/{bus}/drivers_probe", device)
        if self._chance.random() < 0.02:
            return Write(f"sys/bus/{bus}/drivers_autoprobe", self._chance.choice("01"))
        bound = [driver for driver in drivers if device in self._names(f"bus/{bus}/drivers/{driver}")]
        verb = "unbind" if bound and self._chance.random() < 0.8 else "bind"
        driver = self._chance.choice(bound or drivers)
        return Write(f"sys/bus/{bus}/drivers/{driver}/{verb}", device + self._chance.choice(("", "\n")))

    def _configure(self) -> Step:
        """Write to an attribute of a device of the nd or dax bus."""
        bus = self._chance.choice(("nd", "nd", "nd", "dax"))
        devices = self._names(f"bus/{bus}/devices")
        if not devices:
            return self._write_anywhere()
        name = self._chance.choice(devices)
        link = self._machine.system.sys.find(f"bus/{bus}/devices/{name}")
        return self._written(_attributes(link.target)) if isinstance(link, Symlink) else Wait(0)

    def _write_anywhere(self) -> Step:
        """Walk down from /sys at random to an attribute that can be written."""
        node: object = self._machine.system.sys
        for _ in range(12):
            if not isinstance(node, Directory):
                break
            inner = [child for child in node if not isinstance(child, Symlink)]
            if not inner:
                break
            node = self._chance.choice(inner)
        return self._written([node]) if isinstance(node, Attribute) else self._bind()

    def _written(self, attributes: Sequence[Attribute]) -> Step:
        writable = [node for node in attributes if node.mode & 0o222 and not LEFT_OUT.search(node.path)]
        if not writable:
            return Wait(0)
        attribute = self._chance.choice(writable)
        return Write(attribute.path[1:], self._value(attribute.name))

    def _value(self, attribute: str) -> str:
        chance = self._chance.random()
        if chance < 0.1:
            return self._chance.choice(ODD)
        if chance < 0.2:
            return self._chance.choice((*WORDS, *SIZES, *HUGE))
        end = self._chance.choice(("\n", "\n", ""))
        if attribute == "uuid":
            return self._chance.choice(UUIDS) + end
        if attribute == "namespace":
            return self._chance.choice([*self._starting_with("namespace"), ""]) + end
        if attribute in ("create", "delete"):
            return self._chance.choice(["1", "0", *self._names("bus/dax/devices")]) + end
        if attribute in ("new_id", "remove_id", "bind", "unbind"):
            return self._chance.choice([*self._names("bus/dax/devices"), *self._names("bus/nd/devices"), "x"]) + end
        if attribute in SENSIBLE:
            return self._chance.choice(SENSIBLE[attribute]) + end
        return self._chance.choice((*SIZES, *WORDS)) + end

    def _ioctl(self) -> Step:
        numbers = list(self._machine.system.numbered)
        if not numbers:
            return Wait(0)
        number = self._chance.choice(numbers)
        memory = bytearray(self._chance.randbytes(self._chance.choice((0, 4, 12, 64, 256, 4096))))
        for offset in range(0, len(memory) - 3, 4):
            if self._chance.random() < 0.7:
                value = self._chance.choice((0, 0, 0, 1, 2, 4, 8, 16, 128, 4096))
                memory[offset : offset + 4] = value.to_bytes(4, "little")
        if number.kind == "block":
            request = self._chance.choice((0x125D, 0x125E, 0x125F, 0x1260, 0x1268, 0x1269, 0x80081272, 0x1277, 0x127F))
        else:
            request = self._chance.choice([*DIMM_FORMATS, *BUS_FORMATS, 0, 255])
        return Ioctl(number, request, memory.hex(), self._chance.random() < 0.8)

    def _transfer(self) -> Step:
        nodes = [node for node in self._machine.system.dev if isinstance(node, BinaryFile) and node.size]
        if not nodes:
            return Wait(0)
        node = self._chance.choice(nodes)
        length = min(self._chance.choice((1, 512, 4096, 4097, 65536)), node.size)
        last = node.size - length
        offset = self._chance.choice((0, 0x1000, last, self._chance.randint(0, last))) // 512 * 512
        return Transfer(node.name, min(offset, last), length, self._chance.random() < 0.6)

    def _starting_with(self, prefix: str) -> list[str]:
        return [name for name in self._names("bus/nd/devices") if name.startswith(prefix)]

    def _names(self, path: str) -> list[str]:
        try:
            return [node.name for node in self._directory(path) if not isinstance(node, Attribute)]
        except KernelError:
            return []

    def _directory(self, path: str) -> Directory:
        node = self._machine.system.sys.find(path)
        assert isinstance(node, Directory)
        return node


def _folders(node: object) -> list[str]:
    return [child.name for child in node] if isinstance(node, Directory) else []


def _attributes(node: object) -> list[Attribute]:
    """The attributes of a device, those of its groups included."""
    return list(_below(node, 2)) if isinstance(node, Directory) else []


def _below(directory: Directory, depth: int) -> Iterator[Attribute]:
    for node in directory:
        if isinstance(node, Attribute):
            yield node
        elif isinstance(node, Directory) and depth > 1 and node.name in {"security", "nfit", "firmware", "dax_region"}:
            yield from _below(node, depth - 1)


def body(trial: Trial) -> None:
    while trial.goes_on():
        trial.count("machines")
        tell_story(trial, random_machines.random_machine(trial.random))


def tell_story(trial: Trial, text: str) -> None:
    """Take steps on one machine until something is wrong or the story is long enough."""
    story, steps = Story.begin(text), []
    chooser = Chooser(trial.random, story.machine)
    try:
        for number in range(1, STORY + 1):
            steps.append(chooser.next())
            trial.count("steps")
            wrong = story.take(steps[-1])
            if not wrong and (number % BETWEEN_CHECKS == 0 or number == STORY):
                wrong = story.check()
                trial.count("checks")
            if wrong:
                report(trial, text, steps, wrong)
                return
    finally:
        story.machine.close()


def report(trial: Trial, text: str, steps: list[Step], wrong: str) -> None:
    """Shrink the story and print it."""
    kind = _kind(wrong)
    shortest = shrink(steps, lambda shorter: any(_kind(found) == kind for found in outcome(text, shorter)))
    trial.failed(f"{wrong}\n    on the machine {text!r}", shortest)


def outcome(text: str, steps: Sequence[Step]) -> list[str]:
    """What goes wrong in a story that is told again."""
    story = Story.begin(text)
    try:
        return [wrong for wrong in (*map(story.take, steps), story.check()) if wrong]
    finally:
        story.machine.close()


def _kind(wrong: str) -> str:
    """A problem without the numbers in it."""
    return re.sub(r"0x[0-9a-f]+|\d+", "N", wrong)


if __name__ == "__main__":
    sys.exit(run(__doc__, body))
