"""The hash of a file's name, by which kernfs orders a directory (fs/kernfs/dir.c, Linux 6.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

#: INT_MAX: the offset after the last name of a kernfs directory.
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

#: What each byte adds to the state of the hash (partial_name_hash).
_WEIGHTS = tuple((byte << 4) + (byte >> 4) for byte in range(256))
_DIGITS = tuple(_WEIGHTS[digit] for digit in b"0123456789")


@lru_cache(maxsize=_KEPT_NAMES)
def name_hash(name: str) -> int:
    """The hash of a name, from 2 to INT_MAX - 1 (kernfs_name_hash, fs/kernfs/dir.c)."""
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
    """The names in the order of kernfs: by hash, then by name (kernfs_sd_compare)."""
    return sorted(names, key=_hash_then_name)


def _hash_then_name(name: str) -> tuple[int, str]:
    return name_hash(name), name


def _extended(state: int, text: str) -> int:
    """The state of the hash after more text.  Only its low 64 bits count: short names need no mask at each byte."""
    for byte in text.encode(errors="surrogateescape"):
        state = (state + _WEIGHTS[byte]) * _MULTIPLIER
    return state


def _folded(state: int) -> int:
    """The hash of a name with that state (end_name_hash); 0, 1 and INT_MAX are offsets of other things."""
    folded = ((state * _GOLDEN_RATIO & _MASK) >> 32) & INT_MAX
    return min(folded if folded >= FIRST_OFFSET else folded + FIRST_OFFSET, INT_MAX - 1)
