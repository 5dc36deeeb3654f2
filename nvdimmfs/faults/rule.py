"""A rule: what fails, for whom, when, and how; its text is that of the debug file `faults`."""

from __future__ import annotations

import enum
import errno
import re
from typing import ClassVar, TypeAlias

from attrs import frozen

from nvdimmfs.errors import KERNEL_ERRNO_NAMES

#: The folder whose files never fail, so that a rule can always be removed.
DEBUG_FOLDER = "sys/kernel/debug/nvdimmfs"

#: What a path below a mount begins with.
_TOP = ("sys", "dev", "proc")

#: The units of a delay, in nanoseconds, the largest first.
UNITS = {"min": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "us": 1_000}

#: Characters that have a meaning in the text of a rule.
_SPECIAL = re.compile(r"[\s'\"\\#]")


class RuleError(ValueError):
    """A rule that is not valid; str() is one line.

    Attributes:
        key: the part of the rule that is wrong; empty for the rule as a whole.
        problem: what is wrong with it, and what would be right.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.key = key
        self.problem = problem


class Operation(enum.Enum):
    """What fails: a request of a process (the first five), or an act of the kernel."""

    OPEN = "open"
    READ = "read"
    WRITE = "write"
    IOCTL = "ioctl"
    POLL = "poll"
    REGISTER = "register"
    ALTMAP = "altmap"
    MEDIA_READ = "media-read"
    MEDIA_WRITE = "media-write"
    COMMAND = "command"

    @property
    def is_request(self) -> bool:
        """Whether a process requests it."""
        return self.waits or self is Operation.POLL

    @property
    def waits(self) -> bool:
        """Whether it is a request that a delay holds up."""
        return self in (Operation.OPEN, Operation.READ, Operation.WRITE, Operation.IOCTL)


@frozen
class Fail:
    """It fails with an errno.

    Attributes:
        errno: a value of the `errno` module.
    """

    key: ClassVar[str] = "errno"
    errno: int

    def __str__(self) -> str:
        return f"errno={KERNEL_ERRNO_NAMES[self.errno]}"


@frozen
class Short:
    """It reads or writes fewer bytes than requested.

    Attributes:
        length: the most bytes that it reads or writes.
    """

    key: ClassVar[str] = "short"
    length: int

    def __str__(self) -> str:
        return f"short={self.length}"


@frozen
class Garbage:
    """The bytes that it reads or writes are replaced.

    Attributes:
        seed: selects the bytes, together with the number of the hit.
    """

    key: ClassVar[str] = "garbage"
    seed: int

    def __str__(self) -> str:
        return f"garbage={self.seed}"

    def replaced(self, length: int, hit: int) -> bytes:
        """The bytes of the hit with that number: SHAKE-128 of the seed and the number, in decimal."""
        import hashlib  # which takes long to load

        return hashlib.shake_128(f"{self.seed} {hit}".encode()).digest(length)


@frozen
class Delay:
    """It is prolonged.

    Attributes:
        nanoseconds: by which time.
    """

    key: ClassVar[str] = "delay"
    nanoseconds: int

    def __str__(self) -> str:
        unit = next((name for name, length in UNITS.items() if self.nanoseconds % length == 0), "us")
        return f"delay={self.nanoseconds // UNITS[unit]}{unit}"


@frozen
class Status:
    """The firmware does not execute the command, and reports a failure.

    Attributes:
        status: the status in the command's output, 32 bits.
    """

    key: ClassVar[str] = "status"
    status: int

    def __str__(self) -> str:
        return f"status={self.status:#x}"


@frozen
class Result:
    """The command is executed, and its result replaced.

    Attributes:
        result: bytes that were left alone, or a negative errno.
    """

    key: ClassVar[str] = "result"
    result: int

    def __str__(self) -> str:
        return f"result={self.result}"


@frozen
class BadSectors:
    """Sectors of 512 bytes are bad: EIO until they are written.

    Attributes:
        first: the first one, from the start of the medium.
        count: their number.
    """

    key: ClassVar[str] = "sectors"
    first: int
    count: int

    def __str__(self) -> str:
        return f"sectors={self.first}+{self.count}"


@frozen
class PowerCut:
    """The power of the machine is cut: no medium takes a write any more."""

    key: ClassVar[str] = "power-cut"

    def __str__(self) -> str:
        return self.key


@frozen
class Notified:
    """poll(2) reports that an attribute was notified, although it was not."""

    key: ClassVar[str] = "notified"

    def __str__(self) -> str:
        return self.key


@frozen
class Lost:
    """poll(2) never reports that an attribute was notified."""

    key: ClassVar[str] = "lost"

    def __str__(self) -> str:
        return self.key


Action: TypeAlias = Fail | Short | Garbage | Delay | Status | Result | BadSectors | PowerCut | Notified | Lost

#: The actions that have no value, by key.
WORDS: dict[str, Action] = {word.key: word for word in (PowerCut(), Notified(), Lost())}

#: The actions of each operation.
ACTIONS: dict[Operation, tuple[type[Action], ...]] = {
    Operation.OPEN: (Fail, Delay),
    Operation.READ: (Fail, Short, Garbage, Delay),
    Operation.WRITE: (Fail, Short, Garbage, Delay),
    Operation.IOCTL: (Fail, Delay),
    Operation.POLL: (Notified, Lost, Delay),
    Operation.REGISTER: (Fail, Delay),
    Operation.ALTMAP: (Fail,),
    Operation.MEDIA_READ: (Fail, Garbage, Delay, BadSectors),
    Operation.MEDIA_WRITE: (Fail, Short, Garbage, Delay, PowerCut),
    Operation.COMMAND: (Fail, Status, Result, Delay),
}

#: What the path of a rule that is about an act of the kernel names.
_SUBJECTS = {
    Operation.REGISTER: "the device that owns the pages, such as pfn0.0 or namespace*",
    Operation.ALTMAP: "the device that owns the pages, such as pfn0.0 or dax*",
    Operation.MEDIA_READ: "the medium, such as region0 or nmem*",
    Operation.MEDIA_WRITE: "the medium, such as region0 or nmem*",
    Operation.COMMAND: "the DIMM or the bus, such as nmem0 or ndbus*",
}


@frozen(kw_only=True)
class Rule:
    """A rule.

    Attributes:
        operation: what fails.
        path: where: for a request, a shell pattern of paths below the mount, links included; for an act of the kernel,
            a shell pattern of names of its subject.
        action: how it fails.
        uid: whose requests fail; None for everyone's.
        comm: the name of the processes whose requests fail (/proc/PID/comm); None for all.
        commands: the commands that fail, as words or numbers, `cmd_call:N` for one firmware function; none for all.
        times: how often it fails; None for always.
        after: how often it works before it fails for the first time.
        name: a name with which the rule can be removed.

    Raises:
        RuleError: the parts do not fit together.
    """

    operation: Operation
    path: str
    action: Action
    uid: int | None = None
    comm: str | None = None
    commands: tuple[str, ...] = ()
    times: int | None = None
    after: int = 0
    name: str = ""

    def __attrs_post_init__(self) -> None:
        self._check_path()
        self._check_action()
        for key, is_set in (("uid", self.uid is not None), ("comm", self.comm is not None)):
            if is_set and not self.operation.is_request:
                raise RuleError(key, f"{self.operation.value} is an act of the kernel, which no process requests")
        if self.commands and self.operation is not Operation.COMMAND:
            raise RuleError("command", "only a rule for the operation command has it")

    def __str__(self) -> str:
        words = [self.operation.value, quoted(self.path)]
        if self.commands:
            words.append(f"command={','.join(self.commands)}")
        if self.uid is not None:
            words.append(f"uid={self.uid}")
        if self.comm is not None:
            words.append(f"comm={quoted(self.comm)}")
        words.append(str(self.action))
        if self.times is not None:
            words.append(f"times={self.times}")
        if self.after:
            words.append(f"after={self.after}")
        if self.name:
            words.append(f"name={self.name}")
        return " ".join(words)

    @property
    def parts(self) -> list[str]:
        """The components of the path."""
        return self.path.split("/")

    def _check_path(self) -> None:
        if not self.path.isprintable():
            raise RuleError("path", f"{self.path!r} has unprintable characters")
        if not self.operation.is_request:
            if "/" in self.path or not self.path:
                raise RuleError("path", f'"{self.path}" is not a name; {self._operation} needs that of {self._subject}')
            return
        parts = self.parts
        if any(part in ("", ".", "..") for part in parts):
            raise RuleError("path", f'"{self.path}" is not a path below the mount, such as sys/bus/nd/devices/*/size')
        if parts[0] not in _TOP and not _is_pattern(parts[0]):
            raise RuleError("path", f'"{self.path}" begins with none of {", ".join(_TOP)}')
        if self.path.startswith(f"{DEBUG_FOLDER}/"):
            raise RuleError("path", f"the files in {DEBUG_FOLDER} do not fail")
        if self.operation is Operation.IOCTL and (len(parts) != 2 or parts[0] != "dev"):
            raise RuleError("path", f'"{self.path}" is not a device, such as dev/nmem0 or dev/pmem*')
        if self.operation is Operation.POLL and parts[0] in ("dev", "proc"):
            raise RuleError("path", f'"{self.path}" is not in sys; only attributes there are notified')

    def _check_action(self) -> None:
        allowed = ACTIONS[self.operation]
        if not isinstance(self.action, allowed):
            keys = ", ".join(action.key for action in allowed)
            raise RuleError(self.action.key, f"{self._operation} does not fail in this way; write one of {keys}")
        if self.operation is Operation.ALTMAP and self.action != Fail(errno.ENOMEM):
            raise RuleError("errno", "an altmap that has no room is ENOMEM")
        if isinstance(self.action, PowerCut | BadSectors) and self.times is not None:
            raise RuleError("times", f"{self.action.key} lasts; it has no number of times")
        if isinstance(self.action, BadSectors) and self.after:
            raise RuleError("after", "sectors are bad from the beginning")

    @property
    def _operation(self) -> str:
        return self.operation.value

    @property
    def _subject(self) -> str:
        return _SUBJECTS[self.operation]


def literal(path: str) -> str:
    """The pattern that describes one path or name."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def quoted(word: str) -> str:
    """A word of a rule's text, in quotes if it needs them."""
    if word and not _SPECIAL.search(word):
        return word
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


def _is_pattern(part: str) -> bool:
    return any(letter in part for letter in "*?[")
