"""In which order a directory lists its names."""

from __future__ import annotations

import enum
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from nvdimmfs.formats.name_hash import name_hash


class Order(enum.Enum):
    """The order of a directory's names, which its file system decides.

    Attributes:
        HASH: by hash, then by name: kernfs (kernfs_sd_compare, fs/kernfs/dir.c, Linux 6.1).  The offset of a name is
            its hash.
        NEWEST: the one that was added last comes first: debugfs and devtmpfs (dcache_readdir, fs/libfs.c).
        LENGTH: short names first, then by name: procfs (proc_match, fs/proc/generic.c).
    """

    HASH = "hash"
    NEWEST = "newest"
    LENGTH = "length"


def by_length(names: Iterable[str]) -> list[str]:
    """The names in the order of procfs."""
    return sorted(names, key=_length_then_name)


def hashes(names: Iterable[str]) -> array[int]:
    """The hash of each name."""
    return array("I", map(name_hash, names))


def places_by_hash(places: Iterable[int], hash_of: Sequence[int], name_at: Callable[[int], str]) -> array[int]:
    """The places in the order of kernfs.

    Args:
        places: numbers that stand for names.
        hash_of: the hash of the name at each place.
        name_at: the name at a place, which is asked for where several names have one hash.
    """
    shared = {each for each, count in Counter(hash_of).items() if count > 1}
    if not shared:
        return array("I", sorted(places, key=hash_of.__getitem__))

    def key(place: int) -> tuple[int, str]:
        number = hash_of[place]
        return number, name_at(place) if number in shared else ""

    return array("I", sorted(places, key=key))


def _length_then_name(name: str) -> tuple[int, str]:
    return len(name), name
