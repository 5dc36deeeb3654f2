"""The rules of a machine, with their counts."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import logging
from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol

from attrs import define

from nvdimmfs.errors import KernelError, PowerIsCut
from nvdimmfs.faults.rule import BadSectors, Delay, Fail, Garbage, Notified, Operation, PowerCut, Rule, Short

log = logging.getLogger(__name__)

#: Rules that a machine has at most.
MOST_RULES = 1000


class Caller(Protocol):
    """The process that made a request."""

    @property
    def uid(self) -> int:
        """The user, as the machine's own process knows it."""

    @property
    def command(self) -> str:
        """The name of the process (/proc/PID/comm); empty when it has ended."""


@define(eq=False)
class Fault:
    """A rule of a machine.

    Attributes:
        number: counts the rules of a machine from 1.
        rule: the rule.
        is_kept: whether it stays in the list when it applies no more.
        seen: how often what it is about happened.
        hits: how often it made that fail.
    """

    number: int
    rule: Rule
    is_kept: bool = True
    seen: int = 0
    hits: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether it applies no more."""
        return self.rule.times is not None and self.hits >= self.rule.times

    @property
    def applies_next(self) -> bool:
        """Whether it applies when it is seen the next time."""
        return self.seen >= self.rule.after and not self.is_spent

    def __str__(self) -> str:
        return f"{self.rule}  # rule {self.number}, hits {self.hits}"

    def require_power(self) -> None:
        """EBUSY when the rule has cut the power."""
        if isinstance(self.rule.action, PowerCut) and self.applies_next:
            raise KernelError(errno.EBUSY, "the power is cut; boot the machine again")

    def refuse(self) -> None:
        """Fail a request or an act of the kernel, if that is what the rule does.  KernelError."""
        if isinstance(self.rule.action, Fail):
            raise KernelError(self.rule.action.errno, self.reason)

    def altered(self, data: bytes) -> bytes:
        """The bytes that are read or written instead of `data`: fewer, garbage, or the same."""
        match self.rule.action:
            case Short(length):
                return data[:length]
            case Garbage() as garbage:
                return garbage.replaced(len(data), self.hits)
        return data

    @property
    def reason(self) -> str:
        """Why something failed, for the log."""
        return f"fault rule {self.number}: {self.rule}"


class Faults:
    """The rules of a machine, in the order in which they were declared.

    Of the rules that match, each delay applies, and the first one with another action.  The attributes that list the
    rules of an operation are empty without such rules: a test of one is all that faults cost then.

    Attributes:
        opens, reads, writes, ioctls: the rules for requests, without delays.
        delays: those that delay requests.
        polls: the rules for poll(2), with delays.
        late: stand for the notifications that poll(2) does not report yet.
        registrations, altmaps, media_reads, media_writes, commands: the rules for acts of the kernel.
        aliases: other names of media: of a region, of a DIMM.
        prolong: lets the act of the kernel at hand take so many nanoseconds more.
        do_later: does something in so many nanoseconds.
        on_hit: is called when a rule applies.
    """

    #: Not part of a snapshot.
    UNSAVED: ClassVar[frozenset[str]] = frozenset({"_is_counting", "_is_suspended"})

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._added = 0
        self._is_counting = True
        self._is_suspended = False
        self.aliases: dict[str, str] = {}
        self.late: set[object] = set()
        self.prolong: Callable[[int], None] = _ignore
        self.do_later: Callable[[int, Callable[[], None]], object] = _do_now
        self.on_hit: Callable[[Fault], None] = _ignore
        self._index()

    def __iter__(self) -> Iterator[Fault]:
        return iter(list(self._faults))

    def __contains__(self, fault: object) -> bool:
        return fault in self._faults

    def add(self, rule: Rule, *, is_kept: bool = True, is_limited: bool = True) -> Fault:
        """Declare a rule.  ENOSPC when there are too many, EEXIST when another one has its name.

        Args:
            rule: the rule.
            is_kept: whether it stays in the list when it applies no more.
            is_limited: whether there can be too many.
        """
        if is_limited and len(self._faults) >= MOST_RULES:
            raise KernelError(errno.ENOSPC, f"there are {MOST_RULES} fault rules already; remove some")
        if rule.name and any(other.rule.name == rule.name for other in self._faults):
            raise KernelError(errno.EEXIST, f"another fault rule has the name {rule.name}")
        self._added += 1
        fault = Fault(self._added, rule, is_kept)
        self._faults.append(fault)
        self._index()
        return fault

    def remove(self, fault: Fault) -> None:
        """Remove a rule, if it is there.  EBUSY for one that has cut the power, which does not return."""
        fault.require_power()
        if fault in self._faults:
            self._faults.remove(fault)
            self._index()

    def find(self, which: str) -> Fault:
        """The rule with a number or a name.  ENOENT."""
        for fault in self._faults:
            if which and which in (str(fault.number), fault.rule.name):
                return fault
        raise KernelError(errno.ENOENT, f"there is no fault rule {which!r}")

    def clear(self) -> None:
        """Remove all rules.  EBUSY as `remove`; then none is removed."""
        for fault in self._faults:
            fault.require_power()
        self._faults.clear()
        self._index()

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """What happens in this context meets the rules, but does not count."""
        before, self._is_counting = self._is_counting, False
        try:
            yield
        finally:
            self._is_counting = before

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """What happens in this context meets no rule: it is no act of the machine's kernel."""
        before, self._is_suspended = self._is_suspended, True
        try:
            yield
        finally:
            self._is_suspended = before

    def decide(
        self,
        candidates: tuple[Fault, ...],
        matches: Callable[[str], bool],
        where: str,
        caller: Caller | None = None,
        commands: frozenset[str] = frozenset(),
    ) -> Fault | None:
        """The rule that applies now, which is counted; delays of the kernel apply on the way.

        Args:
            candidates: the rules of the operation.
            matches: whether it happens at a place that a pattern describes.
            where: the place.
            caller: who requests it; None when the kernel acts, or when it is not known.
            commands: the names of the command.
        """
        for fault in candidates:
            if self._applies(fault, matches, where, caller, commands):
                if not isinstance(fault.rule.action, Delay):
                    return fault
                self.prolong(fault.rule.action.nanoseconds)
        return None

    def delay(
        self, operation: Operation, matches: Callable[[str], bool], where: str, caller: Caller | None = None
    ) -> int:
        """How long a request must wait before it is carried out, in nanoseconds of the host's time."""
        nanoseconds = 0
        for fault in self.delays:
            is_due = fault.rule.operation is operation and self._applies(fault, matches, where, caller)
            if is_due and isinstance(fault.rule.action, Delay):
                nanoseconds += fault.rule.action.nanoseconds
        return nanoseconds

    def decide_poll(
        self, *, is_notified: bool, matches: Callable[[str], bool], where: str, caller: Caller | None
    ) -> tuple[Fault | None, int]:
        """The rule without a delay that applies to poll(2), and the delay of a notification in nanoseconds.

        Args:
            is_notified: whether there is a notification, which a rule can lose or delay; otherwise a rule can make one.
            matches: whether it happens at a place that a pattern describes.
            where: the place.
            caller: who requests it.
        """
        nanoseconds = 0
        for fault in self.polls:
            action = fault.rule.action
            if isinstance(action, Notified) != is_notified and self._applies(fault, matches, where, caller):
                if not isinstance(action, Delay):
                    return fault, 0
                nanoseconds += action.nanoseconds
        return None, nanoseconds

    def _applies(
        self,
        fault: Fault,
        matches: Callable[[str], bool],
        where: str,
        caller: Caller | None,
        commands: frozenset[str] = frozenset(),
    ) -> bool:
        rule = fault.rule
        if self._is_suspended or (rule.commands and commands.isdisjoint(rule.commands)) or fault.is_spent:
            return False
        if not matches(rule.path) or not _is_by(rule, caller):
            return False
        applies = fault.applies_next
        if not self._is_counting:
            return applies
        fault.seen += 1
        if applies:
            self.count(fault, where)
        return applies

    def count(self, fault: Fault, where: str) -> None:
        """A rule applies: count, log and report it."""
        fault.hits += 1
        log.info("fault rule %d applies to %s: %s", fault.number, where, fault.rule)
        self.on_hit(fault)
        if fault.is_spent:
            if not fault.is_kept:
                self._faults.remove(fault)
            self._index()

    def refuse(self, candidates: tuple[Fault, ...], subject: str, caller: Caller | None = None) -> None:
        """Fail with the errno of the rule that applies to a subject, which patterns describe by name.  KernelError."""
        fault = self.decide(candidates, lambda pattern: fnmatch.fnmatchcase(subject, pattern), subject, caller)
        if fault is not None:
            fault.refuse()

    # Media

    @property
    def power_cut(self) -> Fault | None:
        """The rule that has cut the power, or else the first one that will; None without one."""
        found = [fault for fault in self.media_writes if isinstance(fault.rule.action, PowerCut)]
        return next((fault for fault in found if fault.applies_next), found[0] if found else None)

    @property
    def orders_power_cut(self) -> bool:
        """Whether the power is or will be cut: then the media take writes in the kernel's order, one by one."""
        return bool(self.media_writes) and self.power_cut is not None

    def media_read(self, medium: str, data: bytes) -> bytes:
        """What a reader of a medium gets instead of its bytes.  KernelError: the hardware fails, not the host."""
        fault = self.decide(self.media_reads, lambda pattern: self.names(medium, pattern), medium)
        if fault is None:
            return data
        fault.refuse()
        return fault.altered(data)

    def media_write(self, medium: str, data: bytes | memoryview) -> bytes | memoryview:
        """What reaches a medium instead of the bytes that are written.  KernelError; OSError when the power is cut."""
        fault = self._write_fault(medium)
        return data if fault is None else fault.altered(bytes(data))

    def media_zero(self, medium: str, length: int) -> int:
        """How many bytes reach a medium that are to be zeroed, likewise.  Garbage leaves them alone."""
        fault = self._write_fault(medium)
        match fault and fault.rule.action:
            case Short(most):
                return min(most, length)
            case Garbage():
                return 0
        return length

    def _write_fault(self, medium: str) -> Fault | None:
        cut = self.power_cut
        if cut is not None and cut.applies_next and not self._is_suspended:
            self.count(cut, medium)
            raise PowerIsCut(errno.EIO, f"the power of the machine is cut ({cut.reason})")
        fault = self.decide(self.media_writes, lambda pattern: self.names(medium, pattern), medium)
        if fault is not None:
            fault.refuse()
        return fault

    def bad_sectors(self, medium: str) -> Iterator[BadSectors]:
        """The sectors of a medium that rules make bad, as its platform reports them when it is registered."""
        for fault in list(self._faults):
            if isinstance(fault.rule.action, BadSectors) and self.names(medium, fault.rule.path):
                self.count(fault, medium)
                yield fault.rule.action

    def names(self, medium: str, pattern: str) -> bool:
        """Whether a pattern describes a name of the medium."""
        return fnmatch.fnmatchcase(medium, pattern) or any(
            of == medium and fnmatch.fnmatchcase(alias, pattern) for alias, of in self.aliases.items()
        )

    def _index(self) -> None:
        self.opens = self._of(Operation.OPEN)
        self.reads = self._of(Operation.READ)
        self.writes = self._of(Operation.WRITE)
        self.ioctls = self._of(Operation.IOCTL)
        self.delays = tuple(
            fault
            for fault in self._faults
            if fault.rule.operation.waits and isinstance(fault.rule.action, Delay) and not fault.is_spent
        )
        self.polls = self._of(Operation.POLL)
        self.registrations = self._of(Operation.REGISTER)
        self.altmaps = self._of(Operation.ALTMAP)
        self.media_reads = self._of(Operation.MEDIA_READ)
        self.media_writes = self._of(Operation.MEDIA_WRITE)
        self.commands = self._of(Operation.COMMAND)

    def _of(self, operation: Operation) -> tuple[Fault, ...]:
        return tuple(
            fault
            for fault in self._faults
            if fault.rule.operation is operation
            and not fault.is_spent
            and not isinstance(fault.rule.action, BadSectors)
            and not (operation.waits and isinstance(fault.rule.action, Delay))
        )


def commands_of(command: int, word: str, function: int | None) -> frozenset[str]:
    """The names that a rule may have for a command.

    Args:
        command: its number.
        word: its word; empty for none.
        function: the firmware function of a CALL; None for another command.
    """
    names = {str(command), word} if function is None else {str(command), word, f"cmd_call:{function}"}
    return frozenset(names - {""})


def _is_by(rule: Rule, caller: Caller | None) -> bool:
    if rule.uid is None and rule.comm is None:
        return True
    if caller is None or rule.uid not in (None, caller.uid):
        return False
    return rule.comm is None or caller.command == rule.comm


def _ignore(_: object) -> None:
    """Do nothing."""


def _do_now(_nanoseconds: int, work: Callable[[], None]) -> None:
    """Where there is no clock."""
    work()
