"""Faults that a test declares: rules, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypedDict

from nvdimmfs.errors import KERNEL_ERRNO_NAMES
from nvdimmfs.faults.parse import rule_of
from nvdimmfs.faults.rule import WORDS, Rule, RuleError
from nvdimmfs.machine_file.type_checks import require
from nvdimmfs.testing.arguments import AnyPath, path_of


class FaultDetails(TypedDict, total=False):
    """The less common parts of a rule, as keyword arguments; docs/reference/faults.md describes them.

    Attributes:
        short: the most bytes that a request reads or writes.
        garbage: the seed of the bytes that replace those that are read or written.
        delay: the time by which it is prolonged, in seconds.
        status: the status that the firmware reports instead of executing a command.
        result: the result of a command: a negative errno, or bytes that were left alone.
        sectors: the first of the bad sectors, and their number.
        power_cut: whether the power of the machine is cut.
        notified: whether poll(2) reports a notification that there was none of.
        lost: whether poll(2) never reports a notification.
        command: the command that fails, or several: words or numbers.
        uid: the user whose requests fail.
        comm: the name of the processes whose requests fail.
        name: a name for the rule.
    """

    short: int
    garbage: int
    delay: float
    status: int
    result: int
    sectors: tuple[int, int]
    power_cut: bool
    notified: bool
    lost: bool
    command: str | int | Iterable[str | int]
    uid: int
    comm: str
    name: str


class ThisProcess:
    """The caller in the process of the test, which acts as root."""

    uid = 0

    @property
    def command(self) -> str:
        """The name of the process."""
        return Path("/proc/self/comm").read_text(errors="replace").removesuffix("\n")


THIS_PROCESS = ThisProcess()


class FaultSource(Protocol):
    """How a rule of a machine is reached."""

    def hits(self) -> int:
        """How often it has applied."""

    def remove(self) -> None:
        """Remove it, if it is there; a cut power stays cut."""


class Fault:
    """A fault rule of a machine.  As a context manager it is removed at the end.

    Attributes:
        text: the rule, as the debug file `faults` has it.
    """

    def __init__(self, text: str, source: FaultSource) -> None:
        self.text = text
        self._source = source

    def __repr__(self) -> str:
        return f"<Fault {self.text}>"

    @property
    def hits(self) -> int:
        """How often something failed because of it."""
        return self._source.hits()

    def remove(self) -> None:
        """Remove the rule, if it is there.  A power cut that has happened stays."""
        self._source.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


def rule_of_arguments(
    path: AnyPath,
    operation: str,
    errno: int | str | None,
    times: int | None,
    after: int,
    details: FaultDetails,
) -> Rule:
    """The rule that the arguments of `Engine.fail` describe.  TypeError; ValueError when there can be no such rule."""
    pattern = path_of(path)
    require("op", operation, (str,), "a text")
    require("errno", errno, (int, str, type(None)), "a number or a name")
    settings: dict[str, str] = {}
    if errno is not None:
        settings["errno"] = KERNEL_ERRNO_NAMES.get(errno, str(errno)) if isinstance(errno, int) else errno
    if times is not None:
        settings["times"] = str(times)
    if after:
        settings["after"] = str(after)
    for key, value in details.items():
        if value is None or value is False:
            continue
        settings[key.replace("_", "-")] = _text(key, value)
    try:
        return rule_of(operation, pattern, settings)
    except RuleError as error:
        raise ValueError(str(error)) from None


def _text(key: str, value: object) -> str:
    """An argument as the text of a rule has it."""
    if key == "delay" and isinstance(value, int | float):
        return f"{value:.6f}s"
    if key == "sectors" and isinstance(value, tuple):
        return "+".join(map(str, value))
    if key.replace("_", "-") in WORDS:
        return ""
    if isinstance(value, str | int):
        return str(value)
    return ",".join(map(str, value)) if isinstance(value, Iterable) else str(value)
