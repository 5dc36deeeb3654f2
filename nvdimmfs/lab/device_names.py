"""Names of QEMU's DIMMs, chosen for the order in which its NFIT lists them.

QEMU keeps devices in a hash table of GLib by their names, and its NFIT lists DIMMs as the table happens to hold them
(nvdimm_get_device_list, hw/acpi/nvdimm.c, QEMU 7.2).  The kernel numbers regions in the order of the NFIT, so
the names decide it.  Facts about the table are of glib/ghash.c and gstring.c, GLib 2.74.
"""

from __future__ import annotations

import itertools

from nvdimmfs.units import U32_MASK

#: A table of 1 << n places puts hashes into the first so many; the smallest table has 8 places (prime_mod).
_MODULI = (1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021)
_SMALLEST_SHIFT = 3

#: What a hash is multiplied with before its place is found (g_hash_table_hash_to_index).
_FACTOR = 11

#: How much room a table that has become too small gets (g_hash_table_maybe_resize).
_GROWTH = 1.333

#: The initial value and the factor of the hash of a text (g_str_hash).
_HASH_START, _HASH_FACTOR = 5381, 33


def names_in_order(count: int) -> list[str]:
    """Names that the table holds in this order, whatever the order in which they are added.

    Where the table has no place of its own for each, the order is that of the table.
    """
    places = _MODULI[_shift_of_table(count)]
    if places < count:
        return [f"nv{number}" for number in range(count)]
    names = []
    for number in range(count):
        low, high = places * number // count, places * (number + 1) // count
        names.append(next(name for name in _candidates(number) if low <= _place(name, places) < high))
    return names


def _candidates(number: int) -> itertools.chain[str]:
    return itertools.chain((f"nv{number}",), (f"nv{number}-{attempt}" for attempt in itertools.count()))


def _shift_of_table(count: int) -> int:
    """The size of the table after so many names were added, as a power of two."""
    shift = _SMALLEST_SHIFT
    for names in range(1, count + 1):
        if 1 << shift <= names + names // 16:
            shift = int(names * _GROWTH).bit_length()
    return shift


def _place(name: str, places: int) -> int:
    return (_hash(name) * _FACTOR & U32_MASK) % places


def _hash(text: str) -> int:
    value = _HASH_START
    for byte in text.encode():
        value = (value * _HASH_FACTOR + byte) & U32_MASK
    return value
