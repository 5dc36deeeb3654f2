"""In which order a directory lists its names, and the hash of a name that decides it in kernfs."""

from __future__ import annotations

import enum
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

#: INT_MAX: the offset behind the last name of a kernfs directory.
INT_MAX = 0x7FFFFFFF

#: The offset of a directory's first name; 0 and 1 are those of `.` and `..`.
FIRST_OFFSET = 2

#: The multiplier of partial_name_hash (include/linux/stringhash.h, Linux 6.1).
_MULTIPLIER = 11
#: GOLDEN_RATIO_64 (include/linux/hash.h, Linux 6.1).
_GOLDEN_RATIO = 0x61C8864680B583EB
_MASK = (1 << 64) - 1

#: Names whose hash is kept.  A machine with ten thousand namespaces has some forty thousand names.
_KEPT_NAMES = 1 << 16


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


@lru_cache(maxsize=_KEPT_NAMES)
def name_hash(name: str) -> int:
    """The hash of a name in kernfs, from 2 to INT_MAX - 1 (kernfs_name_hash, fs/kernfs/dir.c, Linux 6.1)."""
    return _folded(_extended(0, name))


def number_hashes(prefix: str, numbers: Iterable[int]) -> Iterator[int]:
    """The hashes of the names that consist of a prefix and a number.

    Names of one decade differ in the last digit alone, so that each costs one step instead of one a character.
    """
    beginning = _extended(0, prefix)
    decade, state = -1, 0
    for number in numbers:
        if number // 10 != decade:
            decade = number // 10
            state = _extended(beginning, str(decade) if decade else "")
        yield _folded((state + _DIGITS[number % 10]) * _MULTIPLIER)


def by_hash(names: Iterable[str]) -> list[str]:
    """The names in the order of kernfs."""
    return sorted(names, key=_hash_then_name)


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


def _hash_then_name(name: str) -> tuple[int, str]:
    return name_hash(name), name


def _length_then_name(name: str) -> tuple[int, str]:
    return len(name), name


#: What each byte adds to the state of the hash (partial_name_hash).
_WEIGHTS = tuple((byte << 4) + (byte >> 4) for byte in range(256))
_DIGITS = tuple(_WEIGHTS[digit] for digit in b"0123456789")


def _extended(state: int, text: str) -> int:
    """The state of the hash after more text.  Only its low 64 bits count: short names need no mask at each byte."""
    for byte in text.encode(errors="surrogateescape"):
        state = (state + _WEIGHTS[byte]) * _MULTIPLIER
    return state


def _folded(state: int) -> int:
    """The hash of a name with that state (end_name_hash); 0, 1 and INT_MAX are offsets of other things."""
    folded = ((state * _GOLDEN_RATIO & _MASK) >> 32) & INT_MAX
    return min(folded if folded >= FIRST_OFFSET else folded + FIRST_OFFSET, INT_MAX - 1)
