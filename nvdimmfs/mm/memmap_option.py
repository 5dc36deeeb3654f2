"""The check of memmap= for the command line, which accepts only options that the kernel honours in full.

The kernel silently ignores entries that it cannot parse, and panics when it cannot use the result.  `check_memmap`
refuses both with one line.  It accepts all other options: any alignment, hexadecimal and octal numbers, suffixes in
either case, ranges that are adjacent or overlap.
"""

from __future__ import annotations

from collections.abc import Iterator

from nvdimmfs.mm.e820 import (
    SEPARATORS,
    E820Table,
    E820Type,
    KernelPanic,
    MemmapEntry,
    parse_entries,
    scan_number,
    scan_size,
)
from nvdimmfs.mm.intervals import IntervalSet
from nvdimmfs.mm.pc_memory_map import DEFAULT_RAM, PHYSICAL_BITS, Ram, user_table
from nvdimmfs.units import MIB

#: Bytes of the kernel's command line, including the final NUL (COMMAND_LINE_SIZE, asm/setup.h); the rest is cut off.
COMMAND_LINE_SIZE = 2048

#: The least System RAM that a kernel needs to boot.
LEAST_SYSTEM_RAM = 64 * MIB

_DIGITS = "0123456789"
_MAKING = ("!", "%")
_EXAMPLE = "write SIZE!START, for example 512M!4G"
_OPERATORS = " ".join([*SEPARATORS, "%"])


class MemmapError(ValueError):
    """A memmap= text that the kernel would not honour as written; str() is the reason in one line."""


def check_memmap(text: str, ram: Ram = DEFAULT_RAM) -> None:
    """Refuse (MemmapError) an option that a kernel on a machine with `ram` bytes of RAM would ignore or panic on.

    An empty text is valid and has no effect.
    """
    if not text:
        return
    if len("memmap=") + len(text) >= COMMAND_LINE_SIZE:
        raise MemmapError(f"memmap is {len(text)} bytes long; the kernel's command line ends at {COMMAND_LINE_SIZE}")
    entries = list(_entries(text))
    for index, (column, entry) in enumerate(entries):
        problem = _problem(entry, first=index == 0)
        if problem:
            raise MemmapError(f"memmap entry {index + 1} {entry.text!r} (column {column}): {problem}")
    _check_result(text, ram, [entry for _, entry in entries])


def makes_persistent_memory(text: str) -> bool:
    """Whether an option has an entry that makes persistent or soft reserved memory, which it can also convert."""
    return any(entry.operator in _MAKING for entry in parse_entries(text))


def _entries(text: str) -> Iterator[tuple[int, MemmapEntry]]:
    """Yield each entry with its first column, counted from 1."""
    column = 1
    for entry in parse_entries(text):
        yield column, entry
        column += len(entry.text) + 1


def _problem(entry: MemmapEntry, *, first: bool) -> str | None:
    """Return the error of a single entry, or None."""
    if not entry.text:
        return f"it is empty; {_EXAMPLE}, and one comma between entries"
    if entry.operator == "exactmap":
        return _exactmap_problem(entry, first=first)
    if entry.text[0] not in _DIGITS:
        return f"it does not begin with a size; {_EXAMPLE}"
    if not entry.operator:
        return _missing_operator(entry)
    tail = entry.text[len(_size_text(entry)) + 1 :]
    if not tail or tail[0] not in _DIGITS:
        return f"the start is missing after {entry.operator!r}; {_EXAMPLE}"
    if entry.operator == "%" and (problem := _conversion_problem(tail)):
        return problem
    if entry.rest:
        return f"unexpected {entry.rest[0]!r} {_octal_hint(entry.rest)}after the start; {_EXAMPLE}"
    return _range_problem(scan_size(entry.text)[0], scan_size(tail)[0])


def _exactmap_problem(entry: MemmapEntry, *, first: bool) -> str | None:
    if entry.rest:
        return f"unexpected {entry.rest[0]!r} after exactmap; separate entries by commas"
    if not first:
        return "exactmap discards the entries before it; put it first"
    return None


def _missing_operator(entry: MemmapEntry) -> str:
    if entry.rest:
        hint = _octal_hint(entry.rest)
        return f"unexpected {entry.rest[0]!r} {hint}after the size; expected one of {_OPERATORS}; {_EXAMPLE}"
    return f"the start is missing; a size alone would remove all RAM above it; {_EXAMPLE}"


def _octal_hint(rest: str) -> str:
    return "(a number that begins with 0 is octal) " if rest[0] in "89" else ""


def _size_text(entry: MemmapEntry) -> str:
    """The part of an entry before its operator."""
    return entry.text[: len(entry.text) - len(scan_size(entry.text)[1])]


def _conversion_problem(tail: str) -> str | None:
    """Return the error in the types of a `%` entry, or None; `tail` begins with the start address."""
    rest = scan_size(tail)[1]
    for sign in "-+":
        if rest.startswith(sign):
            value, after = scan_number(rest[1:])
            if after == rest[1:]:
                return f"the type is missing after {sign!r}; write SIZE%START-OLD+NEW, for example 1G%4G-1+12"
            if value >> 32:
                return f"type {value} does not fit into 32 bits"
            rest = after
    if rest:
        return f"unexpected {rest[0]!r} after the start; write SIZE%START-OLD+NEW, for example 1G%4G-1+12"
    return None


def _range_problem(size: int, start: int) -> str | None:
    if not size:
        return f"it is 0 bytes long; {_EXAMPLE}"
    if start + size > 1 << PHYSICAL_BITS:
        return f"it ends at {start + size:#x}; physical addresses end at {1 << PHYSICAL_BITS:#x} (4P)"
    return None


def _check_result(text: str, ram: Ram, entries: list[MemmapEntry]) -> None:
    """Refuse entries that are valid one by one but whose combination the kernel would not honour."""
    try:
        table = user_table(text, ram)
    except KernelPanic as error:
        raise MemmapError(f"memmap {text!r}: the kernel would panic ({error}); give it two ranges or more") from error
    left = table.total(E820Type.RAM)
    if left < LEAST_SYSTEM_RAM:
        raise MemmapError(
            f"memmap {text!r} leaves {left // MIB} MiB of System RAM, but a kernel needs {LEAST_SYSTEM_RAM // MIB} MiB;"
            " use smaller ranges, or give the machine more RAM"
        )
    if not any(entry.type == E820Type.RAM and entry.start < MIB for entry in table.entries):
        raise MemmapError(f"memmap {text!r} leaves no RAM below 1 MiB, which a PC needs to boot; start at 1M or above")
    if any(entry.operator == "%" for entry in entries):
        return  # a conversion overrides the types of other entries on purpose
    for number, entry in enumerate(entries, 1):
        winner = _overriding(table, entry)
        if winner is not None:
            raise MemmapError(
                f"memmap entry {number} {entry.text!r}: a part of the range has type {winner}, which overrides type"
                f" {entry.kind}; choose another range"
            )


def _overriding(table: E820Table, entry: MemmapEntry) -> int | None:
    """Return the type of memory that overrides a part of an entry's range, or None."""
    if entry.kind == E820Type.NOTHING:
        return None
    rest = IntervalSet([(entry.start, entry.start + entry.size)])
    for found in table.entries:
        if found.type == entry.kind:
            rest.remove(found.start, found.end)
    taken = rest.span
    if taken is None:
        return None
    return next((found.type for found in table.entries if found.start <= taken[0] < found.end), None)
