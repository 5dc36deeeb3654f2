"""Orders that the kernel leaves to its scheduler: what can happen, how often it was seen, and what happens here.

The code asks a race for its verdict, `Race.taken`.  Which race applies depends on what was written, never on what was
read or on how much time has passed.  docs/time.md shows the table.

Most are about numbers.  The kernel probes a region's namespaces in a worker while `nd_region_probe`
(drivers/nvdimm/region.c) makes the seeds.  A personality that the worker finds on media takes the lowest free number,
as a seed does.
"""

from __future__ import annotations

import enum
from typing import Generic, TypeVar

from attrs import frozen


class First(enum.Enum):
    """Who takes the lowest free number of each kind."""

    WORKER = "the worker, for what it finds on media"
    SEEDS = "the seeds"


class FirstNamespace(enum.Enum):
    """How far a region's first namespace is when the probe declares it the namespace seed."""

    UP = "it is up, and stays the seed"
    WAITING = "its worker waits, so that a new seed replaces it once it is up"


class FirstLock(enum.Enum):
    """Which of two new seeds is probed first."""

    NAMESPACE = "the namespace seed"
    PERSONALITY = "the personality's seed"


class FirstUevent(enum.Enum):
    """Which uevents are sent first."""

    CHILDREN = "those of the devices that the probe registered"
    BOUND = "the bind uevent of the device itself"


OutcomeT = TypeVar("OutcomeT", bound=enum.Enum)


@frozen
class Seen(Generic[OutcomeT]):
    """How often something was seen.

    Attributes:
        outcome: what.
        times: how often; None where it was not counted.
    """

    outcome: OutcomeT
    times: int | None


@frozen
class Race(Generic[OutcomeT]):
    """An order that the kernel leaves to its scheduler.

    Attributes:
        question: what is decided, and when.
        seen: what happened in trials on Linux 6.1 with one processor.
        taken: what happens here.
        note: why it goes this way, or what is left out.
    """

    question: str
    seen: tuple[Seen[OutcomeT], ...]
    taken: OutcomeT
    note: str = ""

    @property
    def trials(self) -> int:
        """How many trials there were; 0 where they were not counted."""
        return sum(each.times or 0 for each in self.seen)


BOUND_REGION = Race(
    "Who comes first when a region is bound again?",
    (Seen(First.WORKER, 247), Seen(First.SEEDS, 9)),
    First.WORKER,
    "The scheduler prefers the thread that has run less. A worker that finds nothing holds a number of each kind for a "
    "moment; now and then a seed gets 1 because of that, which never happens here.",
)
NEW_REGION = Race(
    "Who comes first when the region is new?",
    (Seen(First.SEEDS, 128), Seen(First.WORKER, 14)),
    First.SEEDS,
    "A worker probes the region itself, which leaves the others asleep meanwhile.",
)
BOUND_AFTER_MAPPING = Race(
    "Who comes first when the last write bound another region, in which the worker mapped pages?",
    (Seen(First.SEEDS, 224), Seen(First.WORKER, 4)),
    First.SEEDS,
    "The worker has worked more. When attributes are read between the two writes it catches up: it was late in 6 of 16 "
    "trials after five reads, in none of 16 after fifteen. Here reads change nothing.",
)
FIRST_IS_DISK = Race(
    "How far is the first of several namespaces that is a plain disk?",
    (Seen(FirstNamespace.UP, 263), Seen(FirstNamespace.WAITING, 17)),
    FirstNamespace.UP,
    "The worker gets its turn when the second namespace is allocated, and keeps it until it has to wait.",
)
FIRST_HAS_PAGES = Race(
    "How far is the first of several namespaces that a pfn or dax device claims?",
    (Seen(FirstNamespace.WAITING, 248), Seen(FirstNamespace.UP, 0)),
    FirstNamespace.WAITING,
    "Mapping pages makes the worker wait.",
)
FIRST_IS_BTT = Race(
    "How far is the first of several namespaces that a BTT without metadata claims?",
    (Seen(FirstNamespace.UP, 310), Seen(FirstNamespace.WAITING, 50)),
    FirstNamespace.UP,
)
FIRST_IS_BTT_WITH_METADATA = Race(
    "How far is the first of several namespaces that a BTT with metadata claims?",
    (Seen(FirstNamespace.WAITING, 62), Seen(FirstNamespace.UP, 18)),
    FirstNamespace.WAITING,
    "Making a disk for metadata mostly makes the worker wait.",
)
BOTH_SEEDS_REPLACED = Race(
    "A personality comes up, and both it and its namespace were seeds: whose new seed gets the region's lock first?",
    (Seen(FirstLock.NAMESPACE, 15), Seen(FirstLock.PERSONALITY, 4)),
    FirstLock.NAMESPACE,
    "The personality's new seed is made first, but both wait for the lock to be probed.",
)
BIND_UEVENT = Race(
    "A probe finds or makes devices, which workers register: which uevents are sent first?",
    (Seen(FirstUevent.CHILDREN, None), Seen(FirstUevent.BOUND, None)),
    FirstUevent.CHILDREN,
    "Not counted; most recorded stories have it this way.",
)

RACES: tuple[Race[First] | Race[FirstNamespace] | Race[FirstLock] | Race[FirstUevent], ...] = (
    BOUND_REGION,
    NEW_REGION,
    BOUND_AFTER_MAPPING,
    FIRST_IS_DISK,
    FIRST_HAS_PAGES,
    FIRST_IS_BTT,
    FIRST_IS_BTT_WITH_METADATA,
    BOTH_SEEDS_REPLACED,
    BIND_UEVENT,
)
