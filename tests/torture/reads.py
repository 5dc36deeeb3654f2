#!/usr/bin/env python3
"""Whether each read of a mount returns what was there between its start and its end, while writers change it.

A machine has four regions, and each writer one of them: it stores values, binds and unbinds the namespace and the
region, and notes when each store began and ended, and what it made of each thing.  Readers of two users read values,
listings, attributes of files and links, and note when they began and ended.  Afterwards each answer must be one of the
values that the thing may have had in that time.
"""

from __future__ import annotations

import bisect
import errno
import os
import pickle
import random
import signal
import sys
import time
import traceback
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import _paths  # noqa: F401
import attrs
from mounting import mounted
from torturing import Trial, run

REGIONS = 4
READERS = 8

#: Seconds of a turn, after which the answers are checked.
TURN = 5.0

#: The user id of `nobody`.
STRANGER = 65534

#: What a thing is while its device does not exist, and what a read of it may fail with then.
ABSENT = "absent"
GONE = {errno.ENOENT, errno.ENODEV, errno.ENXIO}

#: A thing that can be read: its kind, and the number of the region.
Thing = tuple[str, int]


@attrs.frozen
class Event:
    """A store, or a read.

    Attributes:
        start, end: when, in seconds of the monotonic clock.
        value: what the thing is afterwards, or what was read.
    """

    start: float
    end: float
    value: str


Events = dict[Thing, list[Event]]


@attrs.define
class Writer:
    """Changes one region, and notes what it did."""

    number: int
    random: random.Random
    events: Events = attrs.field(factory=lambda: defaultdict(list))
    state: dict[str, str] = attrs.field(factory=dict)

    def work(self, until: float) -> None:
        """Go on until that time, and end with everything bound."""
        self.note(0.0, 0.0, {"uuid": "", **self.bound("nd_pmem")})
        while time.monotonic() < until:
            self.step()
        self.region_again()

    def step(self) -> None:
        choice = self.random.randrange(10)
        if choice < 6:
            new = str(uuid.UUID(int=self.random.getrandbits(128)))
            self.store(f"sys/bus/nd/devices/pfn{self.number}.0/uuid", new, {"uuid": new})
        elif choice < 8:
            self.namespace_again()
        else:
            self.region_again()

    def namespace_again(self) -> None:
        name = f"namespace{self.number}.0"
        self.store("sys/bus/nd/drivers/nd_pmem/unbind", name, self.bound(ABSENT))
        self.store("sys/bus/nd/drivers/nd_pmem/bind", name, self.bound("nd_pmem"))

    def region_again(self) -> None:
        name = f"region{self.number}"
        gone = {"uuid": ABSENT, "namespace": ABSENT, **self.bound(ABSENT)}
        self.store("sys/bus/nd/drivers/nd_region/unbind", name, gone)
        self.store("sys/bus/nd/drivers/nd_region/bind", name, {"uuid": "", **self.bound("nd_pmem")}, is_new=True)

    def bound(self, driver: str) -> dict[str, str]:
        there = ABSENT if driver == ABSENT else "there"
        return {"driver": driver, "disk": there, "class": there, "bound": there}

    def store(self, path: str, text: str, made: dict[str, str], *, is_new: bool = False) -> None:
        start = time.monotonic()
        file = os.open(path, os.O_WRONLY)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)
        self.note(start, time.monotonic(), made)
        if is_new:  # the inode number of the new device can only be known now
            self.note(start, time.monotonic(), {"namespace": str(inode(self.number))})

    def note(self, start: float, end: float, made: dict[str, str]) -> None:
        if not start:
            made = {"namespace": str(inode(self.number)), **made}
        for kind, value in made.items():
            self.events[kind, self.number].append(Event(start, end, value))
            if kind in ("namespace", "uuid"):
                self.events[f"{kind} listed", self.number].append(
                    Event(start, end, ABSENT if value == ABSENT else "there")
                )


def inode(number: int) -> int:
    """The inode of a namespace's directory, which is another one after each time that the region was bound."""
    return Path(f"sys/bus/nd/devices/namespace{number}.0").stat().st_ino


def read_uuid(number: int) -> str:
    return Path(f"sys/bus/nd/devices/pfn{number}.0/uuid").read_text().strip()


def read_driver(number: int) -> str:
    return Path(f"sys/bus/nd/devices/namespace{number}.0/driver").readlink().name


def stat_disk(number: int) -> str:
    """A disk that is about to go has no size."""
    return "there" if Path(f"dev/pmem{number}").stat().st_size else ABSENT


def read_class(number: int) -> str:
    return "there" if Path(f"sys/class/block/pmem{number}").readlink().name == f"pmem{number}" else "wrong"


#: What readers read one by one.
READS: dict[str, Callable[[int], str]] = {
    "uuid": read_uuid,
    "driver": read_driver,
    "disk": stat_disk,
    "class": read_class,
    "namespace": lambda number: str(inode(number)),
}

#: What they list, and which names of a listing show which things.
LISTINGS = {
    "sys/bus/nd/devices": {"namespace{}.0": "namespace listed", "pfn{}.0": "uuid listed"},
    "sys/bus/nd/drivers/nd_pmem": {"namespace{}.0": "bound"},
    "dev": {"pmem{}": "disk"},
    "sys/class/block": {"pmem{}": "class"},
}


def reader(draw: random.Random, until: float) -> Events:
    """Read until that time."""
    events: Events = defaultdict(list)
    listings, kinds = list(LISTINGS.items()), list(READS.items())
    while time.monotonic() < until:
        if draw.random() < 0.1:
            folder, names = draw.choice(listings)
            start = time.monotonic()
            found = {path.name for path in Path(folder).iterdir()}
            end = time.monotonic()
            for name, kind in names.items():
                for number in range(REGIONS):
                    value = "there" if name.format(number) in found else ABSENT
                    events[kind, number].append(Event(start, end, value))
            continue
        kind, read = draw.choice(kinds)
        number = draw.randrange(REGIONS)
        start = time.monotonic()
        try:
            value = read(number)
        except OSError as failure:
            value = ABSENT if failure.errno in GONE else f"errno {failure.errno}"
        events[kind, number].append(Event(start, time.monotonic(), value))
    return events


def body(trial: Trial) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and leave nothing behind
    memmap = ",".join(f"32M!{4 + number}G" for number in range(REGIONS))
    with mounted("--memmap", memmap, "--ram", "16G") as mount:
        os.chdir(mount.directory)
        try:
            while trial.lacking() and trial.goes_on():
                turn(trial, min(TURN, max(1.0, trial.seconds - trial.elapsed)))
        finally:
            os.chdir("/")


def turn(trial: Trial, seconds: float) -> None:
    until = time.monotonic() + seconds
    seeds = [trial.random.getrandbits(32) for _ in range(REGIONS + READERS)]
    writers = [child(write, number, seeds[number], until) for number in range(REGIONS)]
    readers = [child(read, number, seeds[REGIONS + number], until) for number in range(READERS)]
    history: Events = {}
    for result in writers:
        history |= result()
    trial.count("stores", sum(len(events) - 1 for (kind, _), events in history.items() if kind in ("uuid", "driver")))
    for result in readers:
        for thing, events in result().items():
            trial.count("reads", len(events))
            for event in events:
                if event.value == f"errno {errno.ESTALE}":
                    trial.count("ESTALE")  # replaced twice during one read: docs/explanation/kernel-caches.md
                elif not may_be(history[thing], event):
                    trial.count("stale")
                    trial.failed(f"{thing} read as {event.value!r}", around(history[thing], event))


def write(number: int, seed: int, until: float) -> Events:
    writer = Writer(number, random.Random(seed))
    writer.work(until)
    return writer.events


def read(number: int, seed: int, until: float) -> Events:
    if number % 2 and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)
    return reader(random.Random(seed), until)


def child(work: Callable[[int, int, float], Events], *arguments: float) -> Callable[[], Events]:
    """Start a process; the function returned waits for what it noted."""
    receive, send = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with os.fdopen(send, "wb") as pipe:
                pickle.dump(dict(work(*arguments)), pipe)
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(send)

    def result() -> Events:
        with os.fdopen(receive, "rb") as pipe:
            data = pipe.read()
        os.waitpid(pid, 0)
        return pickle.loads(data)  # of our own child

    return result


def may_be(history: list[Event], seen: Event) -> bool:
    """Whether a thing may have had that value at some time of a read.

    A value may be there from the start of the store that makes it to the end of the store that replaces it.
    """
    last = bisect.bisect_right(history, seen.end, key=lambda event: event.start) - 1
    for index in range(last, -1, -1):
        if history[index].value == seen.value:
            return True
        if history[index].end <= seen.start:
            return False
    return False


def around(history: list[Event], seen: Event) -> list[str]:
    """The read, and the stores near it, in milliseconds from the start of the read."""
    near = [event for event in history if event.end > seen.start - 0.05 and event.start < seen.end + 0.01]
    return [
        f"{(event.start - seen.start) * 1000:8.2f} to {(event.end - seen.start) * 1000:8.2f} ms: {event.value}"
        for event in (seen, *near)
    ]


if __name__ == "__main__":
    sys.exit(run(__doc__.splitlines()[0], body, ("reads",)))
