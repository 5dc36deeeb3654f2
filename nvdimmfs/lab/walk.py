"""Random walks: questions and writes, sense and nonsense mixed, that a machine's own tree suggests.

A walk is chosen on an emulated machine, which takes each step at once, so that it goes on where the step has led.  It
is a list of questions afterwards, and can be asked anywhere.
"""

from __future__ import annotations

import random
import stat

from nvdimmfs.lab.asking import Call
from nvdimmfs.lab.trees import InProcess

#: The questions of one move.
Move = list[Call]

_DEVICES = "bus/nd/devices"
_DRIVERS = "bus/nd/drivers"

#: Parts of dumps that are left out: they belong to the block layer and to power management.
_SKIP = ["/power", "/block", "/nd/ndctl", "/firmware"]

#: The drivers of each kind of device, the likely one first.
_DRIVERS_OF = {
    "region": ("nd_region",),
    "nmem": ("nvdimm",),
    "namespace": ("nd_pmem", "nd_pmem", "dax_pmem"),
    "btt": ("nd_pmem",),
    "pfn": ("nd_pmem",),
    "dax": ("dax_pmem", "dax_pmem", "nd_pmem"),
}

#: Attributes that no walk writes: what they do is seen elsewhere, or needs time.
_NOT_WRITTEN = frozenset({"uevent", "deep_flush", "driver_override"})

_UUIDS = [f"{number:08x}-1111-2222-3333-{number:012x}" for number in range(1, 9)]

#: Values of attributes, right and wrong; other attributes get `_ANY`, and what they have.
_VALUES = {
    "uuid": [*_UUIDS, *_UUIDS, "", "not-a-uuid", _UUIDS[0].upper(), _UUIDS[0][:-1]],
    "mode": ["none", "ram", "ram", "pmem", "pmem", "safe", "PMEM", "", " ram"],
    "align": ["4096", "2097152", "2097152", "1073741824", "0x200000", "0", "12345", "abc", "-1", "16777216"],
    "sector_size": ["512", "4096", "520", "528", "4104", "4160", "4224", "1024", "0", "x", "0x200"],
    "size": ["0", "4096", "16777216", "33554432", "67108864", "134217728", "0x1000000", "1", "999999999999", "abc"],
    "alt_name": ["hello", "", "a" * 63, "a" * 64, "b c"],
    "holder_class": ["btt", "btt2", "pfn", "dax", "", "xyz", "none"],
}
_ANY = ["0", "1", "", "y", "n", "on", "off", "2", "-1", "x", "0x10"]


class Walk:
    """A walk over a machine, which changes.

    Attributes:
        moves: the moves that were made.
    """

    def __init__(self, tree: InProcess, chance: int | random.Random) -> None:
        """A walk that has not begun.

        Args:
            tree: the machine.
            chance: what chooses the moves: a seed, which makes the same walk each time, or a generator.
        """
        self.moves: list[Move] = []
        self._tree = tree
        self._chance = chance if isinstance(chance, random.Random) else random.Random(chance)  # noqa: S311  # as above
        self._move: Move = []

    def go(self, moves: int) -> None:
        """Make so many moves."""
        for _ in range(moves):
            self._move = []
            make = self._chance.choices((self._bring_up, self._bind, self._poke), (2, 2, 4))[0]
            make()
            self._look()
            self.moves.append(self._move)

    def _ask(self, call: Call) -> None:
        self._move.append(call)
        self._tree.answer(call)

    def _write(self, path: str, data: str) -> None:
        self._ask({"op": "write", "path": path, "data": data})

    def _devices(self, *kinds: str) -> list[str]:
        """The devices of the bus, or those of some kinds, by name."""
        names = sorted(self._tree.names(_DEVICES))
        return [name for name in names if name.startswith(kinds or "")]

    def _bind(self) -> None:
        """Bind or unbind a device, mostly the right driver; a region is bound again more often than not."""
        device = self._chance.choice(self._devices(*_DRIVERS_OF))
        kind = device.rstrip("0123456789.")
        driver = self._chance.choice(_DRIVERS_OF[kind])
        acts = ("unbind", "bind") if kind in ("region", "nmem") else (self._chance.choice(("bind", "unbind")),)
        for act in acts[: self._chance.choice((1, 2, 2, 2))]:
            self._write(f"{_DRIVERS}/{driver}/{act}", device + self._chance.choice(("", "\n")))

    def _poke(self) -> None:
        """Write a value, right or wrong, to an attribute of a device."""
        device = self._chance.choice(self._devices("region", "namespace", "namespace", "btt", "pfn", "dax"))
        written = [name for name in self._attributes(device) if name not in _NOT_WRITTEN]
        if written:
            name = self._chance.choice(written)
            value = self._chance.choice(self._values(device, name))
            self._write(f"{_DEVICES}/{device}/{name}", value + self._chance.choice(("\n", "\n", "")))

    def _attributes(self, device: str) -> list[str]:
        """The attributes of a device that can be written."""
        names = sorted(self._tree.names(f"{_DEVICES}/{device}"))
        return [name for name in names if self._is_written(f"{_DEVICES}/{device}/{name}")]

    def _is_written(self, path: str) -> bool:
        mode, _ = self._tree.lstat(path)
        return stat.S_ISREG(mode) and bool(mode & stat.S_IWUSR)

    def _values(self, device: str, name: str) -> list[str]:
        """Values for an attribute: those of its table, devices for a claim, and what it and its neighbours have."""
        if name == "namespace":
            return [*self._devices("namespace"), "", "", "namespace9.9", "region0"]
        present = self._tree.answer({"op": "read", "path": f"{_DEVICES}/{device}/{name}"}).get("data", "")
        return [*_VALUES.get(name, _ANY), *present.replace("[", " ").replace("]", " ").split()]

    def _bring_up(self) -> None:
        """Size a namespace, and put a btt, pfn or dax device on it; sometimes take it down again."""
        namespaces = self._devices("namespace")
        if not namespaces:
            return
        namespace = self._chance.choice(namespaces)
        region = f"region{namespace.removeprefix('namespace').partition('.')[0]}"
        self._write(f"{_DRIVERS}/nd_pmem/unbind", namespace)
        if "uuid" in self._attributes(namespace):
            self._write(f"{_DEVICES}/{namespace}/uuid", self._chance.choice(_UUIDS))
            size = self._chance.choice((0, 1, 1, 2, 2, 4)) * (16 << 20)
            self._write(f"{_DEVICES}/{namespace}/size", str(size))
        kind = self._chance.choice(("pfn", "pfn", "btt", "dax", "raw"))
        if kind == "raw":
            self._write(f"{_DRIVERS}/nd_pmem/bind", namespace)
        else:
            self._claim(region, kind, namespace)

    def _claim(self, region: str, kind: str, namespace: str) -> None:
        """Have the seed of a kind claim a namespace."""
        path = f"{_DEVICES}/{region}/{kind}_seed"
        seed = self._tree.answer({"op": "read", "path": path}).get("data", "").strip()
        if not seed:
            return
        settings = {
            "uuid": _UUIDS,
            "mode": ["ram", "pmem"],
            "align": ["4096", "2097152"],
            "sector_size": ["512", "4096"],
        }
        for name in self._attributes(seed):
            if name in settings:
                self._write(f"{_DEVICES}/{seed}/{name}", self._chance.choice(settings[name]))
        self._write(f"{_DEVICES}/{seed}/namespace", namespace)
        driver = _DRIVERS_OF[kind][0]
        self._write(f"{_DRIVERS}/{driver}/bind", seed)
        if self._chance.random() < 0.5:
            self._write(f"{_DRIVERS}/{driver}/unbind", seed)
            self._write(f"{_DEVICES}/{seed}/namespace", "\n")

    def _look(self) -> None:
        """List the devices, and read everything about one."""
        self._ask({"op": "ls", "path": _DEVICES})
        device = self._chance.choice(self._devices())
        self._ask({"op": "dump", "path": self._real_path(device), "skip": _SKIP, "depth": 1})

    def _real_path(self, device: str) -> str:
        """The folder of a device, of which its entry on the bus is a link."""
        return self._tree.readlink(f"{_DEVICES}/{device}").removeprefix("../../../")
