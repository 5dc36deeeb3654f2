"""Chooses the steps of a walk by what the machine has at the moment: half of them make sense."""

from __future__ import annotations

import errno
import random
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from engine_steps import ARGUMENT_AT, HostFails, Ioctl, Module, ReadAll, Step, Transfer, Wait, Write

from nvdimmfs.core.driver import Driver
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.block_requests import BLKPG, PartitionRange, PartitionRequest
from nvdimmfs.formats.dimm_functions import IntelFunction
from nvdimmfs.formats.intel_dsm import BusFunction
from nvdimmfs.formats.ndctl import BUS_FORMATS, CALL, DIMM_FORMATS, Package
from nvdimmfs.formats.nfit_dsm import Function
from nvdimmfs.kernfs import Attribute, BinaryFile, Directory, Symlink
from nvdimmfs.machine.machine import Machine
from nvdimmfs.nd.claim import Personality
from nvdimmfs.nd.device import NdDevice
from nvdimmfs.nd.namespace import NamespaceDevice
from nvdimmfs.nd.namespace_pmem import NamespacePmem
from nvdimmfs.nd.region import SeedKind
from nvdimmfs.testing.values import ND_DRIVERS, SENSIBLE, UUIDS

DeviceT = TypeVar("DeviceT", bound=NdDevice)

#: Files whose content is not the subject here, or that only say what a write of them would do to the walk itself.
LEFT_OUT = re.compile(r"/kernel/debug/nvdimmfs/(?:clock|modules)$")

WORDS = ("", "0", "1", "2", "y", "n", "on", "-1", "none", "abc", "pmem", "ram", "raw", "safe", "btt", "pfn", "dax")
SIZES = ("0", "512", "520", "4096", "4160", "65536", "2097152", "0x1000000", "16777216", "33554432", "50331648")
HUGE = ("1073741824", "0x7fffffffffffffff", "18446744073709551615", "18446744073709551616", "999999999999")
ODD = ("\0", " ", "\t1", "1\0", "0x", "x" * 64, "9" * 200, "\xff\xfe", "%s%n", "../..", "a\nb", "y" * 4096, "y" * 5000)

ADDRESSES = ("0x1000000", "0x40000000", "0x100000000", "0x140000000", "0x180200000", "0x27ffff000")
#: Values that make sense, by the name of the attribute.
VALUES = {
    **SENSIBLE,
    "security": (
        *("freeze", "disable 1", "update 0 1", "update 1 2", "erase 1", "erase 2", "overwrite 1", "overwrite 0"),
        *("master_update 0 1", "master_update 1 2", "master_erase 1", "master_erase 2", "disable_master 1"),
    ),
    "soft_offline_page": ADDRESSES,
    "hard_offline_page": ADDRESSES,
    "probe": ADDRESSES,
    "enable": ("0", "1"),
    "act_mask": ("read", "write", "discard,sync", ""),
}

#: Folders of attributes below a device's own.
GROUPS = {"security", "nfit", "firmware", "dax_region", "queue", "trace"}

#: What can be plugged in.
PLUGS = (
    "dimm size=16M",
    "dimm size=64M label=128K initialised=1.1",
    "dimm size=1G label=1K initialised=1.2 node=0",
    "dimm size=17M handle=9",
    "[[bus.dimm]]\nsize='32M'\nflags=['not_armed']\n[[bus.range]]\ndimms=['0x1', '0x3']\n",
    "bus.range = [{ dimms = [{ dimm = '0x1', size = '2M' }] }]",
    (
        "[[bus.dimm]]\nname='n'\nsize='64M'\nlabel={ initialised='1.2' }\n[[bus.range]]\ndimms=['n']\n"
        "[[bus.range.namespace]]\nuuid='00000007-1111-2222-3333-444444444444'\nsize='32M'\n"
    ),
)


class Chooser:
    """Chooses steps by what the machine has now."""

    def __init__(self, chance: random.Random, machine: Machine, *, media_fail: bool = False) -> None:
        """Choose for a machine; `media_fail` has its media fail for a while now and then (`HostFails`)."""
        self._chance = chance
        self._media_fail = media_fail
        self._machine = machine
        self._planned: deque[Step] = deque()

    def next(self) -> Step:
        """The next step: of the current plan, or of a new one, or one that has nothing to do with either."""
        if not self._planned and self._chance.random() < 0.3:
            self._planned.extend(self._chance.choice(self._plans)())
        if self._planned and self._chance.random() < 0.85:
            return self._planned.popleft()
        return next(filter(None, iter(self._single, ())))

    @property
    def _plans(self) -> Sequence[Callable[[], Iterable[Step]]]:
        return (
            *[self._bring_up] * 4,
            *[self._new_namespace] * 3,
            *[self._take_down] * 2,
            self._become_ram,
            self._restore,
            self._reload,
            self._plug,
        )

    def _single(self) -> Step | None:
        """One step; None where the machine has nothing to take it on."""
        kind = self._chance.random()
        if kind < 0.25:
            return self._bind()
        if kind < 0.65:
            return self._configure()
        if kind < 0.75:
            return self._write_anywhere()
        if kind < 0.84:
            return self._ioctl()
        if kind < 0.95:
            return self._transfer()
        if kind < 0.96:
            return Module(self._chance.choice(("load", "unload")), self._chance.choice(self._modules))
        if kind < 0.98 and self._media_fail:
            number = self._chance.choice((errno.EIO, errno.ENOSPC))
            return HostFails(self._chance.choice((0, 0, 1, 2, 3, 8, 50)), self._chance.choice((1, 1, 2, 10)), number)
        if kind < 0.995:
            return Wait(self._chance.choice((0, 1, 50, 1000, 60_000)))
        return ReadAll()

    # Plans of several steps

    def _bring_up(self) -> Iterator[Step]:
        """Put a personality on a namespace and bind it."""
        namespace = self._some(NamespaceDevice)
        if namespace is None:
            return
        region, kind = namespace.region, self._chance.choice((SeedKind.BTT, SeedKind.PFN, SeedKind.DAX))
        seed = region.seeds[kind]
        if seed is None:
            return
        if namespace.driver:
            yield self._driver("nd_pmem", "unbind", namespace.name)
        yield self._set(seed.name, "uuid", self._chance.choice(UUIDS))
        if kind is SeedKind.BTT:
            yield self._set(seed.name, "sector_size", self._chance.choice(SENSIBLE["sector_size"]))
        else:
            yield self._set(seed.name, "mode", self._chance.choice(("pmem", "ram")))
            yield self._set(seed.name, "align", self._chance.choice(("4096", "2097152", "2097152", "1073741824")))
        yield self._set(seed.name, "namespace", namespace.name)
        yield self._driver("dax_pmem" if kind is SeedKind.DAX else "nd_pmem", "bind", seed.name)

    def _new_namespace(self) -> Iterator[Step]:
        """Give a labelled namespace another size."""
        namespace = self._some(NamespacePmem)
        if namespace is None:
            return
        region, name = namespace.region, namespace.name
        if namespace.driver:
            yield self._driver("nd_pmem", "unbind", name)
        yield self._set(name, "uuid", self._chance.choice(UUIDS))
        if self._chance.random() < 0.3:
            yield self._set(name, "sector_size", self._chance.choice(("512", "4096")))
        yield self._set(name, "size", str(region.align * self._chance.choice((0, 1, 1, 2, 3, 4, 8))))
        if self._chance.random() < 0.7:
            yield self._driver("nd_pmem", "bind", name)

    def _plug(self) -> Iterator[Step]:
        """Plug in a DIMM, a range over an old one, or something that is refused."""
        yield Write("sys/kernel/debug/nvdimmfs/plug", self._chance.choice(PLUGS))

    def _take_down(self) -> Iterator[Step]:
        """Unbind a personality, and maybe have it let go of its namespace."""
        device = self._some(Personality)
        if device is None:
            return
        if isinstance(device.driver, Driver):
            yield self._driver(device.driver.name, "unbind", device.name)
        if self._chance.random() < 0.6:
            yield self._set(device.name, "namespace", "")

    def _become_ram(self) -> Iterator[Step]:
        """Turn a dax device into System RAM, and maybe back."""
        dax = [name for name in self._names("bus/dax/devices") if name.startswith("dax")]
        if not dax:
            return
        name = self._chance.choice(dax)
        yield from self._probe("kmem")
        yield Write("sys/bus/dax/drivers/device_dax/unbind", name)
        yield Write("sys/bus/dax/drivers/kmem/new_id", name)
        for block in self._chance.sample(self._names("devices/system/memory"), 3):
            if block.startswith("memory"):
                yield Write(f"sys/devices/system/memory/{block}/state", self._chance.choice(SENSIBLE["state"]))
        if self._chance.random() < 0.5:
            yield Write("sys/bus/dax/drivers/kmem/unbind", name)
            yield Write("sys/bus/dax/drivers/kmem/remove_id", name)
            yield Write("sys/bus/dax/drivers/device_dax/bind", name)

    def _restore(self) -> Iterator[Step]:
        """Bring back what single steps took away: modules, platforms, buses, regions."""
        for module in ("nd_e820", "nfit", "nfit_test", "nd_pmem", "dax_pmem", "dax_hmem", "device_dax"):
            yield from self._probe(module)
        yield Write("sys/bus/nd/drivers_autoprobe", "1")
        yield Write("sys/bus/dax/drivers_autoprobe", "1")
        for bus, driver in (("platform", "e820_pmem"), ("acpi", "nfit"), ("platform", "nfit_test")):
            for name in self._names(f"bus/{bus}/devices"):
                yield Write(f"sys/bus/{bus}/drivers/{driver}/bind", name)
        for name in self._names("bus/nd/devices"):
            yield Write("sys/bus/nd/drivers_probe", name)

    def _reload(self) -> Iterator[Step]:
        """Unload a module, with those that use it, and load it again."""
        modules = self._machine.persistent_memory.modules
        if not modules.loaded:
            return
        chosen = self._chance.choice(list(modules.loaded))
        users = [name for name, module in modules.loaded.items() if chosen in (used.name for used in module.uses)]
        for name in (*users, chosen):
            yield Module("unload", name)
        for name in (chosen, *users):
            yield from self._probe(name)

    def _probe(self, name: str) -> Iterator[Step]:
        """Load a module with those that it needs, as modprobe(8) does."""
        modules = self._machine.persistent_memory.modules
        if name in modules.known and name not in modules.loaded:
            for used in modules.known[name].uses:
                yield from self._probe(used)
            yield Module("load", name)

    def _some(self, kind: type[DeviceT]) -> DeviceT | None:
        """A device of a kind on the nd bus."""
        bus = self._machine.nd_bus
        found = [device for device in bus.members.values() if isinstance(device, kind)] if bus else []
        return self._chance.choice(found) if found else None

    def _set(self, device: str, attribute: str, value: str) -> Step:
        link = self._machine.system.sys.find(f"bus/nd/devices/{device}")
        assert isinstance(link, Symlink)
        return Write(f"{link.target.path[1:]}/{attribute}", value + self._chance.choice(("", "\n")))

    def _driver(self, driver: str, verb: str, device: str) -> Step:
        return Write(f"sys/bus/nd/drivers/{driver}/{verb}", device)

    # Single steps

    @property
    def _modules(self) -> list[str]:
        return [*self._machine.persistent_memory.modules.known, "bogus"]

    def _bind(self) -> Step | None:
        """Bind or unbind a device of a bus, mostly by a driver that fits."""
        sys = self._machine.system.sys
        bus = self._chance.choice([*_folders(sys.find("bus")), *["nd"] * 20, *["dax"] * 4])
        drivers, devices = self._names(f"bus/{bus}/drivers"), self._names(f"bus/{bus}/devices")
        if not drivers or not devices:
            return None
        device = self._chance.choice(devices)
        if self._chance.random() < 0.05:
            return Write(f"sys/bus/{bus}/drivers_probe", device)
        if self._chance.random() < 0.02:
            return Write(f"sys/bus/{bus}/drivers_autoprobe", self._chance.choice("01"))
        bound = [driver for driver in drivers if device in self._names(f"bus/{bus}/drivers/{driver}")]
        verb = "unbind" if bound and self._chance.random() < 0.8 else "bind"
        fitting = [driver for prefix, driver in ND_DRIVERS.items() if device.startswith(prefix) and driver in drivers]
        driver = self._chance.choice(bound or (fitting if fitting and self._chance.random() < 0.8 else drivers))
        return Write(f"sys/bus/{bus}/drivers/{driver}/{verb}", device + self._chance.choice(("", "\n")))

    def _configure(self) -> Step | None:
        """Write to an attribute of a device of the nd or dax bus, of the class block, or of a platform."""
        folder = self._chance.choice(
            (*["bus/nd/devices"] * 5, "bus/dax/devices", "class/block", "bus/platform/devices")
        )
        devices = self._names(folder)
        if not devices:
            return self._write_anywhere()
        name = self._chance.choice(devices)
        link = self._machine.system.sys.find(f"{folder}/{name}")
        return self._written(_attributes(link.target)) if isinstance(link, Symlink) else None

    def _write_anywhere(self) -> Step | None:
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

    def _written(self, attributes: Sequence[Attribute]) -> Step | None:
        writable = [node for node in attributes if node.mode & 0o222 and not LEFT_OUT.search(node.path)]
        if self._chance.random() < 0.9:
            writable = [node for node in writable if node.name != "uevent"]
        if not writable:
            return None
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
        if attribute in VALUES:
            return self._chance.choice(VALUES[attribute]) + end
        return self._chance.choice((*SIZES, *WORDS)) + end

    def _ioctl(self) -> Step | None:
        numbers = list(self._machine.system.numbered)
        if not numbers:
            return None
        number = self._chance.choice(numbers)
        request, memory = self._block_request() if number.kind == "block" else self._command()
        return Ioctl(number, request, memory.hex(), self._chance.random() < 0.8)

    def _block_request(self) -> tuple[int, bytes]:
        """An ioctl of a disk; of those for partitions, the fields make sense."""
        request = self._chance.choice(
            (*[BLKPG] * 6, 0x125D, 0x125E, 0x125F, 0x1260, 0x1268, 0x80081272, 0x1277, 0x127F)
        )
        start, length = (self._chance.choice((0, 512, 4096, 1 << 20, 1 << 24)) for _ in range(2))
        change = PartitionRequest(self._chance.choice((1, 1, 2, 3)), ARGUMENT_AT + PartitionRequest.size())
        return request, change.to_bytes() + PartitionRange(start, length, self._chance.randrange(4)).to_bytes()

    def _command(self) -> tuple[int, bytes]:
        """A command of a DIMM or a bus: a firmware function in half of the cases."""
        fields = self._chance.choices((0, 0, 0, 0, 1, 2, 4, 8, 16, 128, 4096, 1 << 32), k=32)
        payload = b"".join((field & 0xFFFF_FFFF).to_bytes(4, "little") for field in fields)
        if self._chance.random() < 0.5:
            return self._chance.choice([*DIMM_FORMATS, *BUS_FORMATS, 0, 255]), payload
        function = self._chance.choice((*IntelFunction, *BusFunction, *Function))
        sizes = [self._chance.choice((0, 4, 8, 16, 32, 80, 128)) for _ in range(2)]
        return CALL, Package(self._chance.choice((0, 0, 1)), function, *sizes).to_bytes() + payload * 2

    def _transfer(self) -> Step | None:
        nodes = [node for node in self._machine.system.dev if isinstance(node, BinaryFile) and node.size]
        if not nodes:
            return None
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
        elif isinstance(node, Directory) and depth > 1 and node.name in GROUPS:
            yield from _below(node, depth - 1)
