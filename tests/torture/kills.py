"""Kill a daemon with --media over and over, and check that nothing acknowledged is lost and nothing is half there.

Machines of one to six interleaved DIMMs, labels 1.1 and 1.2.  A daemon is killed at a random moment or system call
while namespaces are created, renamed, resized, deleted, made a btt, pfn or dax device, and sectors of BTTs are written,
or while it boots and completes what the last one could not.
"""

from __future__ import annotations

import copy
import errno
import mmap
import os
import random
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import _paths  # noqa: F401  # before the modules that it makes importable
import attrs
from killing import Daemon, Kill
from media_cuts import interleaved
from torturing import Trial, run, shrink

from nvdimmfs.machine_file.model import MachineDescription

#: Steps of one machine, from an empty folder on.
STORY = 200

#: Errnos of a system call on a mount whose daemon has been killed.
GONE = {errno.ENOTCONN, errno.ECONNABORTED}

UNIT = 16 << 20
SECTOR = 512
#: Sectors of a BTT, and pages of a disk, that are written and checked.
SECTORS = 48
LONGEST = 24

KINDS = ("create", "create", "rename", "name", "resize", "resize", "delete", "btt", "pfn", "dax", "sectors", "sectors")


@attrs.frozen
class Op:
    """An act of user space; `seed` chooses what it is done to, and how."""

    kind: str
    seed: int


Step = Op | Kill


@attrs.define
class Namespace:
    """What is known of a namespace.

    Attributes:
        size: bytes.
        name: its alt_name.
        holder: the kind of its personality; empty without one.
        sectors: the numbers that fill the sectors of its BTT.
    """

    size: int
    name: str = ""
    holder: str = ""
    sectors: list[int] = attrs.field(factory=lambda: [0] * SECTORS)


#: The namespaces by uuid.
Model = dict[str, Namespace]


class LostError(Exception):
    """A machine does not have what it should."""


class User:
    """User space on a mount.

    Attributes:
        model: what was acknowledged.
        pending: what is there if the last act, which was interrupted, is done.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.devices = root / "sys/bus/nd/devices"
        self.drivers = root / "sys/bus/nd/drivers"
        self.model: Model = {}
        self.pending: Model | None = None

    @property
    def unit(self) -> int:
        """Bytes of the smallest namespace."""
        align = int((self.devices / "region0/align").read_text(), 0)
        return -(-UNIT // align) * align

    def do(self, op: Op) -> None:
        """Do an act and enter it into the model.  OSError when it is refused or interrupted."""
        chance = random.Random(op.seed)
        idle = sorted(uuid for uuid, space in self.model.items() if not space.holder)
        holders = sorted(uuid for uuid, space in self.model.items() if space.holder == "btt")
        if op.kind == "create" and len(self.model) < 4:
            self._create(str(UUID(int=chance.getrandbits(128))), self.unit * chance.randint(1, 2))
        elif op.kind == "sectors" and holders:
            self._write_sectors(chance.choice(holders), chance)
        elif op.kind == "delete" and self.model:
            self._delete(chance.choice(sorted(self.model)))
        elif op.kind in ("rename", "name", "resize", "btt", "pfn", "dax") and idle:
            getattr(self, f"_{op.kind}")(chance.choice(idle), chance)

    def _attempt(self, after: Model, path: Path, text: str) -> None:
        """A write that makes the model `after`."""
        self.pending = after
        _write(path, text)
        self.model, self.pending = after, None

    def _create(self, uuid: str, size: int) -> None:
        seed = self.devices / (self.devices / "region0/namespace_seed").read_text().strip()
        _write(seed / "uuid", uuid)
        self._attempt(self.model | {uuid: Namespace(size)}, seed / "size", str(size))
        _write(self.drivers / "nd_pmem/bind", seed.name)  # the kernel makes the next seed once this one is bound

    def _rename(self, uuid: str, chance: random.Random) -> None:
        after, new = copy.deepcopy(self.model), str(UUID(int=chance.getrandbits(128)))
        after[new] = after.pop(uuid)
        self._attempt(after, self._idle(uuid) / "uuid", new)

    def _name(self, uuid: str, chance: random.Random) -> None:
        after, name = copy.deepcopy(self.model), f"name {chance.getrandbits(40):x}"
        after[uuid].name = name
        self._attempt(after, self._idle(uuid) / "alt_name", name)

    def _resize(self, uuid: str, chance: random.Random) -> None:
        after = copy.deepcopy(self.model)
        after[uuid].size = chance.choice((1, 2, 3)) * self.unit
        self._attempt(after, self._idle(uuid) / "size", str(after[uuid].size))

    def _delete(self, uuid: str) -> None:
        after = copy.deepcopy(self.model)
        del after[uuid]
        place = self._place(uuid)
        holder = (place / "holder").read_text().strip()
        if holder:
            _unbind(self.devices / holder)
            _write(self.devices / holder / "namespace", "\n")
        _unbind(place)
        self._attempt(after, place / "size", "0")

    def _btt(self, uuid: str, chance: random.Random) -> None:
        self._hold(uuid, "btt", chance, sector_size=str(SECTOR))

    def _pfn(self, uuid: str, chance: random.Random) -> None:
        self._hold(uuid, "pfn", chance, mode="pmem")

    def _dax(self, uuid: str, chance: random.Random) -> None:
        self._hold(uuid, "dax", chance, mode="pmem")

    def _hold(self, uuid: str, kind: str, chance: random.Random, **settings: str) -> None:
        after = copy.deepcopy(self.model)
        after[uuid].holder = kind
        place = self._idle(uuid)
        seed = self.devices / (self.devices / f"region0/{kind}_seed").read_text().strip()
        for name, text in (
            settings | {"uuid": str(UUID(int=chance.getrandbits(128))), "namespace": place.name}
        ).items():
            _write(seed / name, text)
        self._attempt(after, self.drivers / ("dax_pmem" if kind == "dax" else "nd_pmem") / "bind", seed.name)

    def _write_sectors(self, uuid: str, chance: random.Random) -> None:
        """One request to the disk of a BTT."""
        first, count = chance.randrange(SECTORS), chance.randint(1, LONGEST)
        after, number = copy.deepcopy(self.model), chance.getrandbits(31)
        count = min(count, SECTORS - first)
        after[uuid].sectors[first : first + count] = [number] * count
        with mmap.mmap(-1, LONGEST * SECTOR) as buffer:
            buffer[: count * SECTOR] = struct.pack("<I", number) * (count * SECTOR // 4)
            descriptor = os.open(self._disk(uuid), os.O_WRONLY | os.O_DIRECT)
            try:
                self.pending = after
                with memoryview(buffer) as view, view[: count * SECTOR] as part:
                    os.pwritev(descriptor, [part], first * SECTOR)
                self.model, self.pending = after, None
            finally:
                os.close(descriptor)

    def _idle(self, uuid: str) -> Path:
        place = self._place(uuid)
        _unbind(place)
        return place

    def _place(self, uuid: str) -> Path:
        for place in self._namespaces():
            if (place / "uuid").read_text().strip() == uuid:
                return place
        raise LostError(f"no namespace has the uuid {uuid}")

    def _namespaces(self) -> list[Path]:
        return [self.devices / name for name in os.listdir(self.devices) if name.startswith("namespace")]  # noqa: PTH208

    def _disk(self, uuid: str) -> Path:
        holder = (self._place(uuid) / "holder").read_text().strip()
        return self.root / "dev" / next((self.devices / holder / "block").iterdir()).name

    def check(self) -> None:
        """Compare the machine with the model; the pending act may be done, as a whole.  LostError."""
        found = self._found()
        if found == self.model:
            self.pending = None
        elif self.pending is not None and found == self.pending:
            self.model, self.pending = self.pending, None
        else:
            raise LostError(f"found {found}\nacknowledged {self.model}\nor {self.pending}")

    def _found(self) -> Model:
        found: Model = {}
        for place in self._namespaces():
            if int((place / "size").read_text()):
                uuid = (place / "uuid").read_text().strip()
                found[uuid] = Namespace(int((place / "size").read_text()), (place / "alt_name").read_text().strip("\n"))
                found[uuid].holder = (place / "holder").read_text().strip().rstrip("0123456789.")
                if found[uuid].holder == "btt":
                    found[uuid].sectors = self._sectors(uuid)
        return found

    def _sectors(self, uuid: str) -> list[int]:
        with self._disk(uuid).open("rb", buffering=0) as disk:
            data = disk.read(SECTORS * SECTOR)
        numbers = []
        for start in range(0, len(data), SECTOR):
            (number, *torn) = set(struct.unpack(f"<{SECTOR // 4}I", data[start : start + SECTOR]))
            if torn:
                raise LostError(f"sector {start // SECTOR} of {uuid} is torn")
            numbers.append(number)
        return numbers


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _unbind(device: Path) -> None:
    if (device / "driver").exists():
        _write(device / "driver/unbind", device.name)


@attrs.define
class Life:
    """A machine over a folder of its own, from the first boot on.

    Attributes:
        machine: the machine.
        durable: whether it waits for the host's disk.
        figures: counts of what was done.
    """

    machine: MachineDescription
    durable: bool
    figures: Counter[str] = attrs.field(factory=Counter)
    _last: str = ""

    def lead(self, steps: Sequence[Step]) -> str:
        """Take the steps, each between two kills; returns the first failure, or nothing."""
        folder = Path(tempfile.mkdtemp(prefix="nvdimmfs-kills-"))
        try:
            (folder / "mount").mkdir()
            user = User(folder / "mount")
            session: list[Op] = []
            for step in (*steps, Kill()):
                if isinstance(step, Op):
                    session.append(step)
                elif problem := self._live(folder, user, session, step):
                    return problem
                else:
                    session = []
            return self._live(folder, user, [], Kill()) or (folder / "log").read_text()
        finally:
            shutil.rmtree(folder)

    def _live(self, folder: Path, user: User, ops: Sequence[Op], kill: Kill) -> str:
        """One daemon, until it is killed; returns a problem."""
        daemon = Daemon(folder, self.machine, kill, durable=self.durable)
        self.figures["kills"] += 1
        try:
            if not daemon.is_ready:
                self.figures["in boot"] += 1
                return "" if kill.in_boot else "the daemon did not start"
            user.check()
            for op in ops:
                self._do(user, op)
            self.figures["after the last act"] += 1
        except LostError as lost:
            return str(lost)
        except OSError as failure:
            if failure.errno not in GONE:
                raise
            self.figures["between acts" if user.pending is None else f"in {self._last}"] += 1
        finally:
            daemon.end()
        return ""

    def _do(self, user: User, op: Op) -> None:
        """Do an act; one that the machine refuses changes nothing."""
        self._last = op.kind
        try:
            user.do(op)
            self.figures["acts"] += 1
        except OSError as failure:
            if failure.errno in GONE:
                raise
            user.pending = None
            self.figures["refused acts"] += 1


def random_kill(chance: random.Random) -> Kill:
    """A kill at a system call, of the boot or later, or at a moment; or none before the end of the session."""
    choice = chance.random()
    if choice < 0.7:
        return Kill(call=chance.randint(1, 12))
    if choice < 0.85:
        return Kill(call=chance.randint(1, 16), in_boot=True)
    if choice < 0.99:
        return Kill(after=chance.random() * 0.06)
    return Kill()


def random_steps(chance: random.Random) -> list[Step]:
    """The steps of one machine."""
    steps: list[Step] = []
    while len(steps) < STORY:
        steps += [Op(chance.choice(KINDS), chance.getrandbits(32)) for _ in range(chance.randint(1, 8))]
        steps.append(random_kill(chance))
    return steps


def body(trial: Trial) -> None:
    """Lead one life after the other."""
    while trial.goes_on():
        machine = interleaved(trial.random.randint(1, 6), trial.random.choice(("1.1", "1.2")))
        life = Life(machine, durable=trial.random.random() < 0.2)
        steps = random_steps(trial.random)
        problem = life.lead(steps)
        trial.figures.update(life.figures)
        trial.count("machines")
        if problem:
            shortest = shrink(steps, lambda fewer, led=life: bool(Life(led.machine, led.durable).lead(fewer)))
            dimms = sum(len(bus.dimms) for bus in machine.buses)
            trial.failed(f"{dimms} DIMMs: {problem}", shortest)


if __name__ == "__main__":
    sys.exit(run((__doc__ or "").partition("\n")[0], body))
