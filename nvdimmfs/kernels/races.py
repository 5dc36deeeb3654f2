"""Races in the kernel: the possible outcomes, how often each was observed, and the outcome of the emulation.

The code reads a race's verdict, `Race.taken`.  Which race applies depends only on the writes of user space, never on
its reads or on elapsed time.  docs/time.md shows the table.

Most races decide numbers.  The kernel probes a region's namespaces in a worker while `nd_region_probe`
(drivers/nvdimm/region.c) creates the seeds.  Both a personality that the worker finds on media and a seed get the
lowest free number.
"""

from __future__ import annotations

import enum
from typing import Generic, Protocol, TypeVar

from attrs import frozen

from nvdimmfs.kernels.differences import Rules

#: The release on which races were observed as well: its scheduler is not that of 6.1 (EEVDF, kernel/sched/fair.c).
NEWER = "6.12"


class First(enum.Enum):
    """The side that gets the lowest free number of each kind."""

    WORKER = "the worker, for personalities that it finds on media"
    SEEDS = "the seeds"


class Found(enum.Enum):
    """When a worker finds the personality of a namespace, compared with those of the later namespaces of the region."""

    IN_ORDER = "before those of the later namespaces"
    LAST = "after those of the later namespaces"


class FirstNamespace(enum.Enum):
    """The state of a region's first namespace when the probe makes it the namespace seed."""

    UP = "it is up, and stays the seed"
    WAITING = "its worker is waiting, so a new seed replaces it once it is up"


class FirstLock(enum.Enum):
    """The one of two new seeds that is probed first."""

    NAMESPACE = "the namespace seed"
    PERSONALITY = "the personality's seed"


class FirstUevent(enum.Enum):
    """The uevents that are sent first."""

    CHILDREN = "the uevents of the devices that the probe registered"
    BOUND = "the bind uevent of the device itself"


class NumberOrder(enum.Enum):
    """The order in which disks get device numbers."""

    FOUND = "that in which they are found"
    OTHER = "another one"


class Memmap(enum.Enum):
    """What user space finds when it looks for the mapping of a dax device."""

    LATER = "no: the mapping appears a little later"
    READY = "yes: the mapping is there"


OutcomeT = TypeVar("OutcomeT", bound=enum.Enum)


@frozen
class Seen(Generic[OutcomeT]):
    """The number of observations of one outcome.

    Attributes:
        outcome: the outcome.
        times: number of trials with that outcome; None if they were not counted.
    """

    outcome: OutcomeT
    times: int | None


@frozen
class Race(Generic[OutcomeT]):
    """A race, whose outcome the kernel leaves to its scheduler.

    Attributes:
        question: the decision, and the situation in which it is made.
        seen: the outcomes of trials on Linux 6.1 with one processor.
        taken: the outcome of the emulation.
        note: the reason for the usual outcome, or a limitation of the emulation.
        seen_newer: the outcomes of trials on Linux 6.12 with one processor; none if there were no trials.
        taken_newer: the outcome of the emulation of 6.12, if it is another one.
    """

    question: str
    seen: tuple[Seen[OutcomeT], ...]
    taken: OutcomeT
    note: str = ""
    seen_newer: tuple[Seen[OutcomeT], ...] = ()
    taken_newer: OutcomeT | None = None

    def outcome(self, kernel: Rules) -> OutcomeT:
        """The outcome of the emulation of a kernel."""
        return self.taken if self.taken_newer is None or not kernel.has(NEWER) else self.taken_newer


class Referee(Protocol):
    """Decides races: the lab does, which knows how they ended on a guest."""

    def decide(self, race: Race[OutcomeT], usual: OutcomeT) -> OutcomeT:
        """The outcome of a race that is being run.

        Args:
            race: the race.
            usual: the outcome that the emulation takes otherwise.
        """


BOUND_REGION = Race(
    "Which side is first when a region is bound again?",
    (Seen(First.WORKER, 354), Seen(First.SEEDS, 46)),
    First.WORKER,
    "The scheduler prefers the thread that has run less. On guests of the lab, whose processors count instructions, "
    "the seeds were first in 37 of 144 trials. Where the last write bound another region, in which the worker made a "
    "disk without pages, they were first in 132 of 160 trials, 144 of which are of such guests; a recorded story, in "
    "real time, has the worker first, and so has the emulation. A worker that finds no personality still holds a "
    "number of each kind briefly, so a seed occasionally gets 1; the emulation never does that. "
    "Linux 6.12 has another scheduler and no usual outcome: when a writer rested 50 ms before, the seeds were first in "
    "3 of 3 stories, after 60 to 100 ms the worker in 12 of 12.",
    seen_newer=(Seen(First.WORKER, 14), Seen(First.SEEDS, 13)),
)
NEW_REGION = Race(
    "Which side is first when the region is new?",
    (Seen(First.SEEDS, 128), Seen(First.WORKER, 14)),
    First.SEEDS,
    "A worker probes the region itself; the other workers sleep meanwhile.",
)
BOUND_AFTER_MAPPING = Race(
    "Which side is first when the last write bound another region, in which the worker mapped pages?",
    (Seen(First.SEEDS, 224), Seen(First.WORKER, 4)),
    First.SEEDS,
    "The worker has run more. If attributes are read between the two writes, the worker catches up: it was late "
    "in 6 of 16 trials after five reads, and in none of 16 after fifteen. In the emulation, reads have no effect.",
    seen_newer=(Seen(First.SEEDS, 21), Seen(First.WORKER, 20)),
)
LATER_NAMESPACE = Race(
    "The worker is first, and has mapped the pages of a namespace: which side is first for the next namespace?",
    (Seen(First.WORKER, 77), Seen(First.SEEDS, 9)),
    First.WORKER,
    "Two and three pfn devices on a region with labels, on guests of the lab at four speeds, and a dax device on a "
    "third namespace. The worker has run more, as after another region.",
    seen_newer=(Seen(First.WORKER, 4), Seen(First.SEEDS, 9)),
)
LATER_AFTER_BTT = Race(
    "The worker is first, and has found a BTT: which side is first for the next namespace?",
    (Seen(First.WORKER, 41), Seen(First.SEEDS, 41)),
    First.WORKER,
    "Two and three namespaces on guests of the lab, at two speeds of the processor, on 6.12 at three: a BTT, with "
    "metadata or without, and then BTTs or a pfn device. Recorded stories, in real time, have the worker first, and so "
    "has the emulation.",
    seen_newer=(Seen(First.WORKER, 22), Seen(First.SEEDS, 77)),
)
LATER_AFTER_DISK = Race(
    "The worker is first, and has made a plain disk that is up: which side is first for the next namespace?",
    (Seen(First.WORKER, 181), Seen(First.SEEDS, 65)),
    First.WORKER,
    "One or two disks, and then one or two BTTs or pfn devices, on guests of the lab at four speeds. Where the worker "
    "of the disk is waiting, numbers do not show at which namespace the seeds were first. On Linux 6.12 it was waiting "
    "in all trials.",
)
FOUND_ORDER = Race(
    "The seeds are first: when is the personality of a namespace found that is not the last one?",
    (Seen(Found.IN_ORDER, 140), Seen(Found.LAST, 71)),
    Found.IN_ORDER,
    "Each namespace is a trial, of 83 binds with two to seven pfn devices, BTTs, dax devices and disks, and on 6.12 of "
    "310, on guests of the lab at four speeds. Of several that are found last, the last one is found first.",
    seen_newer=(Seen(Found.IN_ORDER, 784), Seen(Found.LAST, 128)),
)
FIRST_OF_TWO_IS_DISK = Race(
    "In which state is the first of two namespaces if it is a plain disk?",
    (Seen(FirstNamespace.UP, 374), Seen(FirstNamespace.WAITING, 68)),
    FirstNamespace.UP,
    "The worker is scheduled when the second namespace is allocated, and runs until it has to wait. Where a shell, "
    "ndctl or a Python that had slept bound the region, the worker was waiting in 34 of 36 trials.",
    seen_newer=(Seen(FirstNamespace.WAITING, 52), Seen(FirstNamespace.UP, 0)),
    taken_newer=FirstNamespace.WAITING,
)
FIRST_OF_MORE_IS_DISK = Race(
    "In which state is the first of three or more namespaces if it is a plain disk?",
    (Seen(FirstNamespace.WAITING, 151), Seen(FirstNamespace.UP, 146)),
    FirstNamespace.WAITING,
    "Three namespaces, in a region bound by Python, by a shell and by ndctl, on idle and on busy guests with one "
    "processor (65 of 72) and with two (34 of 36). On guests of the lab, whose processors count instructions, the "
    "first was up in 137 of 189 trials, with BTTs and pfn devices after it. When it is up, there is no free seed to "
    "allocate from.",
    seen_newer=(Seen(FirstNamespace.WAITING, 49), Seen(FirstNamespace.UP, 2)),
)
FIRST_HAS_PAGES = Race(
    "In which state is the first of several namespaces if a pfn or dax device claims it?",
    (Seen(FirstNamespace.WAITING, 248), Seen(FirstNamespace.UP, 0)),
    FirstNamespace.WAITING,
    "Mapping pages makes the worker wait.",
)
FIRST_IS_BTT = Race(
    "In which state is the first of several namespaces if a BTT without metadata claims it?",
    (Seen(FirstNamespace.UP, 362), Seen(FirstNamespace.WAITING, 51)),
    FirstNamespace.UP,
    seen_newer=(Seen(FirstNamespace.WAITING, 61), Seen(FirstNamespace.UP, 18)),
    taken_newer=FirstNamespace.WAITING,
)
FIRST_IS_BTT_WITH_METADATA = Race(
    "In which state is the first of several namespaces if a BTT with metadata claims it?",
    (Seen(FirstNamespace.WAITING, 62), Seen(FirstNamespace.UP, 38)),
    FirstNamespace.WAITING,
    "Creating a disk with metadata usually makes the worker wait. On guests of the lab it did so in none of 20 trials.",
    seen_newer=(Seen(FirstNamespace.WAITING, 16), Seen(FirstNamespace.UP, 4)),
)
BOTH_SEEDS_REPLACED = Race(
    "A personality is bound, and both it and its namespace were seeds: which new seed gets the region's lock first?",
    (Seen(FirstLock.NAMESPACE, 15), Seen(FirstLock.PERSONALITY, 4)),
    FirstLock.NAMESPACE,
    "The personality's new seed is created first, but the probe of each waits for the lock.",
)
BIND_UEVENT = Race(
    "A probe finds or creates devices, which workers register: which uevents are sent first?",
    (Seen(FirstUevent.CHILDREN, None), Seen(FirstUevent.BOUND, None)),
    FirstUevent.CHILDREN,
    "Not counted in general; most recordings have this order. When a DIMM was plugged in, the bind uevent of its "
    "region was before the uevent of the namespace in 9 of 14 trials. Two dax devices of a region that was bound "
    "again had minor numbers in the order of their namespaces in 21 of 26 trials, three in 17 of 26: so they have "
    "here. Their bind uevents were in that order in 13 of 20 trials; here that of the first is the last. The trials of "
    "6.12 are of regions, namespaces and personalities of an NFIT machine; in 22 more, the bind uevent was between "
    "those of the devices.",
    seen_newer=(Seen(FirstUevent.CHILDREN, 5), Seen(FirstUevent.BOUND, 37)),
)
FOUND_MEMMAP = Race(
    "A dax device of more than 213 MiB is found on media: is its memmap initialised when user space looks next?",
    (Seen(Memmap.LATER, None), Seen(Memmap.READY, None)),
    Memmap.LATER,
    "A worker initialises it, and no process waits. Recorded stories, in real time, have the mapping later, and so has "
    "the emulation. On guests of the lab it appeared 12 to 18 ms after the write for 16 MiB, 16 to 47 ms for 256 "
    "MiB, 20 to 88 ms for 512 MiB, 27 to 157 ms for 1 GiB, each at four speeds of the processor: within the 50 ms that "
    "walks rest in 45 of 60 trials with 256 MiB and more, and in as many on 6.12.",
)
BOOT_NUMBERS = Race(
    "nd_pmem is loaded when several regions exist, as at boot: in which order do their disks get device numbers?",
    (Seen(NumberOrder.FOUND, 72), Seen(NumberOrder.OTHER, 0)),
    NumberOrder.FOUND,
    "Two regions of 512 and 256 MiB, two of 64 and 512, three of 128, with memmap=, on guests of the lab at two speeds "
    "of the processor. Then the first disk has 259:0.",
    seen_newer=(Seen(NumberOrder.FOUND, 64), Seen(NumberOrder.OTHER, 8)),
)
REGION_NUMBERS = Race(
    "Several regions appear while nd_pmem is loaded: in which order do their disks get device numbers?",
    (Seen(NumberOrder.FOUND, None), Seen(NumberOrder.OTHER, None)),
    NumberOrder.FOUND,
    "A worker probes each region, and each machine has an order of its own. With the same regions and guests as at "
    "boot, 26 of 72 trials had that of the regions: all 24 with 64 and 512 MiB, 2 of 24 with 512 and 256. Of three "
    "regions, the first two had changed places in 18 of 24 trials. On 6.12, 34 of 72 trials had that of the regions. "
    "A walk goes on as after disks that are found.",
)
FOUND_NUMBERS = Race(
    "Several disks are found on media at a time: in which order do they get their device numbers?",
    (Seen(NumberOrder.FOUND, None), Seen(NumberOrder.OTHER, None)),
    NumberOrder.FOUND,
    "Recorded stories have that order. On guests of the lab at four speeds of the processor, pfn devices of 512, 256, "
    "64 and 16 MiB, whose memmaps workers initialise side by side, had another one in 16 of 16 trials, and on 6.12 in "
    "16 of 16: mostly the largest was last. With 128, 128, 512 and 256 MiB, 6.12 had that order in 5 of 16. Where a "
    "walk has another one, numbers are not compared until the next boot.",
)

RACES: tuple[
    Race[First]
    | Race[Found]
    | Race[FirstNamespace]
    | Race[FirstLock]
    | Race[FirstUevent]
    | Race[Memmap]
    | Race[NumberOrder],
    ...,
] = (
    BOUND_REGION,
    NEW_REGION,
    BOUND_AFTER_MAPPING,
    LATER_NAMESPACE,
    LATER_AFTER_BTT,
    LATER_AFTER_DISK,
    FOUND_ORDER,
    FIRST_OF_TWO_IS_DISK,
    FIRST_OF_MORE_IS_DISK,
    FIRST_HAS_PAGES,
    FIRST_IS_BTT,
    FIRST_IS_BTT_WITH_METADATA,
    BOTH_SEEDS_REPLACED,
    BIND_UEVENT,
    FOUND_MEMMAP,
    BOOT_NUMBERS,
    REGION_NUMBERS,
    FOUND_NUMBERS,
)
