"""What was read and written, as `stat` and /proc/diskstats show it (block/genhd.c, Linux 6.1).

A disk without a request queue counts only while its `iostats` is on, which it is not at first.  Each request counts
when it begins (bio_start_io_acct, block/blk-core.c), and a flush as a write of nothing.  Times stay 0: a request takes
less than the kernel's tick.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import attrs

from nvdimmfs.block.badblocks import SECTOR_SIZE

#: Counters since Linux 5.5: of reads, writes, requests under way, discards and flushes; 11 before.
_COUNTERS = 17


@attrs.define
class Statistics:
    """Counts the requests of a disk or a partition.

    Attributes:
        reads: how many requests read.
        read_sectors: how many sectors of 512 bytes they read.
        writes: how many requests wrote.
        written_sectors: how many sectors they wrote.
    """

    reads: int = 0
    read_sectors: int = 0
    writes: int = 0
    written_sectors: int = 0

    def count_read(self, length: int) -> None:
        """A request for so many bytes begins."""
        self.reads += 1
        self.read_sectors += length // SECTOR_SIZE

    def count_write(self, length: int) -> None:
        """A request that writes so many bytes begins; of none for a flush."""
        self.writes += 1
        self.written_sectors += length // SECTOR_SIZE

    @contextlib.contextmanager
    def following(self, other: Statistics) -> Iterator[None]:
        """Count here, too, what is counted there in the meantime."""
        before = attrs.evolve(other)
        try:
            yield
        finally:
            self.reads += other.reads - before.reads
            self.read_sectors += other.read_sectors - before.read_sectors
            self.writes += other.writes - before.writes
            self.written_sectors += other.written_sectors - before.written_sectors

    @property
    def counters(self) -> list[int]:
        """All counters, in the order in which they are shown.  Merges are never counted, as there is no queue."""
        shown = [self.reads, 0, self.read_sectors, 0, self.writes, 0, self.written_sectors]
        return shown + [0] * (_COUNTERS - len(shown))


def stat_text(statistics: Statistics) -> str:
    """The content of `stat`."""
    return " ".join(f"{counter:8}" for counter in statistics.counters) + "\n"


def diskstats_line(major: int, minor: int, name: str, statistics: Statistics) -> str:
    """A line of /proc/diskstats."""
    return f"{major:4} {minor:7} {name} {' '.join(map(str, statistics.counters))}\n"
