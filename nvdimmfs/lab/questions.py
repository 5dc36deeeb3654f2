"""What a question may be: the operations, their arguments, and what each argument may be.

Each reader of questions calls this before a guest boots: the guest would find a mistake late, and without its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

from nvdimmfs.lab.asking import Call
from nvdimmfs.lab.holders import WAYS
from nvdimmfs.units import S64_MAX, U32_MASK, U64_MASK

#: The arguments that each operation needs.
_NEEDED = {
    "read": ("path",),
    "write": ("path", "data"),
    "ls": ("path",),
    "readlink": ("path",),
    "stat": ("path",),
    "dump": ("path",),
    "pread": ("dev", "offset", "length"),
    "pwrite": ("dev", "offset", "hex"),
    "ioctl": ("dev", "request", "hex"),
    "hold": ("dev", "way"),
    "kill": ("dev",),
    "mount": ("dev",),
    "umount": ("dev",),
    "uevents": (),
    "watch": ("path",),
    "poll": (),
    "run": ("argv",),
    "sleep": ("seconds",),
    "reboot": (),
}

#: Those that one takes besides.
_OPTIONAL = {"dump": ("depth", "skip"), "ioctl": ("open", "value")}

#: What the line of an answer has besides the question.
_ABOUT_THE_ANSWER = ("result", "unstable")

#: Seconds that time.sleep() takes on every host.
_LONGEST_SLEEP = 10**9

_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def question(value: object) -> Call:
    """Return the question of a JSON value, without the answer that it may have.  ValueError for what is none."""
    if not isinstance(value, dict) or not isinstance(op := value.get("op"), str):
        raise ValueError('a question is an object with "op", such as "read"')
    if op not in _NEEDED:
        raise ValueError(f"there is no question {op!r}; there are {', '.join(_NEEDED)}")
    needed, optional = _NEEDED[op], _OPTIONAL.get(op, ())
    arguments = {name: value[name] for name in value if name != "op" and name not in _ABOUT_THE_ANSWER}
    for name in needed:
        if name not in arguments:
            raise ValueError(f'{op}: needs "{name}"')
    for name, argument in arguments.items():
        if name not in needed and name not in optional:
            raise ValueError(f'{op}: takes no "{name}"')
        what, is_right = _ARGUMENTS[name]
        if not is_right(argument):
            raise ValueError(f'{op}: "{name}" must be {what}')
    return cast("Call", {"op": op, **arguments})


def _is_text(value: object) -> bool:
    """Whether a system call takes it: C ends a string at NUL, and half a surrogate pair has no bytes."""
    return isinstance(value, str) and "\0" not in value and (value.isascii() or not _SURROGATE.search(value))


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_data(value: object) -> bool:
    return isinstance(value, str) and (value.isascii() or max(value) <= "\xff")


def _is_hex(value: object) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _is_whole(value: object, low: int, high: int = S64_MAX) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LONGEST_SLEEP


_TEXT = ("a text without NUL", _is_text)
_COUNT = ("a whole number, 0 or more", lambda value: _is_whole(value, 0))

#: What each argument must be: in words, and whether a value is that.
_ARGUMENTS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "path": _TEXT,
    "dev": _TEXT,
    "data": ("a text of characters up to U+00FF, each a byte", _is_data),
    "depth": _COUNT,
    "skip": ("a list of texts", _is_list_of_texts),
    "offset": ("a whole number of 64 bits", lambda value: _is_whole(value, -S64_MAX - 1)),
    "length": _COUNT,
    "hex": ("hexadecimal digits in lower case, two a byte", _is_hex),
    "request": ("a whole number of 32 bits, 0 or more", lambda value: _is_whole(value, 0, U32_MASK)),
    "open": ('"r" or "rw"', lambda value: value in ("r", "rw")),
    "way": (" or ".join(f'"{way}"' for way in WAYS), lambda value: value in WAYS),
    "value": ("a whole number of 64 bits, 0 or more", lambda value: _is_whole(value, 0, U64_MASK)),
    "argv": ("a list of texts, the first a program", lambda value: _is_list_of_texts(value) and bool(value)),
    "seconds": (f"a number from 0 to {_LONGEST_SLEEP}", _is_duration),
}
