"""The texts of rules, and of what is written to the debug file `faults`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from attrs import frozen

from nvdimmfs.errors import ERRNOS, KERNEL_ERRNO_NAMES, printable
from nvdimmfs.faults.rule import (
    UNITS,
    WORDS,
    Action,
    BadSectors,
    Delay,
    Fail,
    Garbage,
    Operation,
    Result,
    Rule,
    RuleError,
    Short,
    Status,
)
from nvdimmfs.formats.ndctl import BusCommand, DimmCommand
from nvdimmfs.units import U32_MASK, U64_MASK

ReadT = TypeVar("ReadT")

#: The longest delay: one hour.
_LONGEST_DELAY = 60 * UNITS["min"]

#: The largest count of anything, and the largest number of a function.
_LARGEST = (1 << 31) - 1

#: Bytes of the longest name of a process (TASK_COMM_LEN without the NUL, include/linux/sched.h, Linux 6.1).
_LONGEST_COMM = 15

_ERRNO_NUMBER = re.compile(r"-?[0-9]{1,9}")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,99}|[0-9]{1,99}")
_SIGNED = re.compile(r"-?[0-9]{1,10}")
_DELAY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(us|ms|s|min)")
_SECTORS = re.compile(r"([0-9]{1,18})(?:\+([0-9]{1,9}))?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_FUNCTION = re.compile(r"cmd_call:([0-9]{1,10})")

#: The words of all commands.
COMMAND_WORDS = tuple(sorted({command.word for command in (*DimmCommand, *BusCommand)}))


@frozen
class Add:
    """Declare a rule."""

    rule: Rule


@frozen
class Remove:
    """Remove the rule with that number or name."""

    which: str


@frozen
class Clear:
    """Remove all rules."""


Order: TypeAlias = Add | Remove | Clear


def parse_orders(text: str) -> list[Order]:
    """Parse lines of `add RULE`, `remove NUMBER`, `remove NAME` and `clear`; RuleError, which names the line.

    Empty lines, and what follows a `#`, are ignored.
    """
    orders = []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            order = _parse_order(line)
        except RuleError as error:
            if len(lines) == 1:
                raise
            raise RuleError(f"line {number}", str(error)) from None
        if order is not None:
            orders.append(order)
    return orders


def _parse_order(line: str) -> Order | None:
    match _words(line):
        case []:
            return None
        case ["add", *words]:
            return Add(_rule(words))
        case ["remove", which]:
            return Remove(which)
        case ["clear"]:
            return Clear()
    raise RuleError("", f"{_shown(line)} is none of: add OPERATION PATH ..., remove NUMBER, remove NAME, clear")


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError as error:
        raise RuleError("", f"{_shown(text)} has {'no closing quote' if 'quot' in str(error) else error}") from None


def _rule(words: list[str]) -> Rule:
    if len(words) < 2:
        raise RuleError(
            "", "a rule begins with an operation and a path, as in: add read sys/bus/nd/devices/*/size errno=EIO"
        )
    operation, path, *rest = words
    settings: dict[str, str] = {}
    for word in rest:
        key, separator, value = word.partition("=")
        if bool(separator) == (key in WORDS):
            raise RuleError("", f"{_shown(word)} is not KEY=VALUE or one of {', '.join(WORDS)}")
        if key in settings:
            raise RuleError(key, "is given twice")
        settings[key] = value
    return rule_of(operation, path, settings)


def rule_of(operation: str, path: str, settings: Mapping[str, str]) -> Rule:
    """Make a rule of its parts.  RuleError.

    Args:
        operation: the word of an operation.
        path: its path; a slash at its beginning has no meaning.
        settings: the texts of its other parts, by their keys.
    """
    kind = _operation(operation)
    unknown = next((key for key in settings if key not in _ACTIONS and key not in _CONDITIONS), None)
    if unknown is not None:
        raise RuleError("", f"{_shown(unknown)} is not a key; the keys are {', '.join((*_ACTIONS, *_CONDITIONS))}")
    actions = [key for key in settings if key in _ACTIONS]
    if len(actions) != 1:
        found = f"not {' and '.join(actions)}" if actions else "and it has none"
        raise RuleError("", f"a rule has one of {', '.join(_ACTIONS)}, {found}")
    action = _ACTIONS[actions[0]](settings[actions[0]])
    return Rule(
        operation=kind,
        path=path.removeprefix("/"),
        action=action,
        uid=_optional(settings, "uid", lambda text: _number("uid", text, U32_MASK)),
        comm=_optional(settings, "comm", _comm),
        commands=_optional(settings, "command", _commands) or (),
        times=_optional(settings, "times", _times),
        after=_optional(settings, "after", lambda text: _number("after", text, _LARGEST)) or 0,
        name=_optional(settings, "name", _name) or "",
    )


def parse_errno(text: str) -> int:
    """Parse the name or number of an errno; 0 for the number 0.  RuleError."""
    number = abs(int(text)) if _ERRNO_NUMBER.fullmatch(text) else ERRNOS.get(text)
    if number == 0:
        return 0
    if number not in KERNEL_ERRNO_NAMES:
        raise RuleError("errno", f"{_shown(text)} is not an errno; write for example EIO")
    return number


def _operation(word: str) -> Operation:
    try:
        return Operation(word)
    except ValueError:
        words = ", ".join(operation.value for operation in Operation)
        raise RuleError("operation", f"{_shown(word)} is not one of {words}") from None


def _optional(settings: Mapping[str, str], key: str, read: Callable[[str], ReadT]) -> ReadT | None:
    return read(settings[key]) if key in settings else None


def _fail(text: str) -> Action:
    number = parse_errno(text)
    if not number:
        raise RuleError("errno", "0 is not an errno; write for example EIO")
    return Fail(number)


def _delay(text: str) -> Action:
    match = _DELAY.fullmatch(text)
    if match is None:
        raise RuleError("delay", f"{_shown(text)} is not a time such as 500ms; the units are {', '.join(UNITS)}")
    from decimal import Decimal  # which few rules need

    nanoseconds = round(Decimal(match[1]) * UNITS[match[2]])
    if nanoseconds > _LONGEST_DELAY:
        raise RuleError("delay", f"{text} is more than 60min")
    return Delay(nanoseconds // UNITS["us"] * UNITS["us"])


def _result(text: str) -> Action:
    if not _SIGNED.fullmatch(text) or not -_LARGEST - 1 <= int(text) <= _LARGEST:
        raise RuleError("result", f"{_shown(text)} is not a number with a sign, such as -5")
    return Result(int(text))


def _sectors(text: str) -> Action:
    match = _SECTORS.fullmatch(text)
    if match is None or (match[2] is not None and not int(match[2])):
        raise RuleError("sectors", f"{_shown(text)} is not FIRST+COUNT, such as 8+3")
    return BadSectors(int(match[1]), int(match[2] or 1))


def _comm(text: str) -> str:
    if not text or not text.isprintable() or len(text.encode()) > _LONGEST_COMM:
        raise RuleError("comm", f"{_shown(text)} is not the name of a process, of 1 to {_LONGEST_COMM} bytes")
    return text


def _commands(text: str) -> tuple[str, ...]:
    return tuple(map(_command, text.split(",")))


def _command(word: str) -> str:
    """A command as `commands_of` names it."""
    if word in COMMAND_WORDS:
        return word
    if match := _FUNCTION.fullmatch(word):
        return f"cmd_call:{int(match[1])}"
    if _NUMBER.fullmatch(word):
        return str(_number("command", word, _LARGEST))
    raise RuleError("command", f"{_shown(word)} is not a number, cmd_call:NUMBER or one of {', '.join(COMMAND_WORDS)}")


def _times(text: str) -> int:
    times = _number("times", text, _LARGEST)
    if not times:
        raise RuleError("times", "must be at least 1; without it, the rule always applies")
    return times


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise RuleError("name", f"{_shown(text)} is not a name of letters, digits, _ . and -")
    return text


def _number(key: str, text: str, largest: int) -> int:
    if not _NUMBER.fullmatch(text):
        raise RuleError(key, f"{_shown(text)} is not a number such as 1")
    number = int(text, 16) if text[:2].lower() == "0x" else int(text)
    if number > largest:
        raise RuleError(key, f"{text} is too large; the maximum is {largest}")
    return number


def _word(action: Action) -> Callable[[str], Action]:
    """Reads an action that has no value."""
    return lambda _text: action


def _shown(text: str) -> str:
    return f'"{printable(text if len(text) <= 60 else text[:57] + "...")}"'


#: What the keys of a rule mean.
_ACTIONS: dict[str, Callable[[str], Action]] = {
    Fail.key: _fail,
    Short.key: lambda text: Short(_number("short", text, _LARGEST)),
    Garbage.key: lambda text: Garbage(_number("garbage", text, U64_MASK)),
    Delay.key: _delay,
    Status.key: lambda text: Status(_number("status", text, U32_MASK)),
    Result.key: _result,
    BadSectors.key: _sectors,
    **{key: _word(action) for key, action in WORDS.items()},
}
_CONDITIONS = ("uid", "comm", "command", "times", "after", "name")
