"""The fault rules of a machine file."""

from __future__ import annotations

from collections.abc import Iterator

from nvdimmfs.faults.rule import WORDS, Rule
from nvdimmfs.machine_file.model import FaultDescription


def rule_of_description(fault: FaultDescription) -> Rule:
    """The rule that a table describes.  RuleError."""
    from nvdimmfs.faults.parse import rule_of  # loaded for a file that has rules

    return rule_of(fault.operation.value, fault.path, dict(_settings(fault)))


def _settings(fault: FaultDescription) -> Iterator[tuple[str, str]]:
    """The parts that the table has, as the text of a rule has them."""
    for key in ("errno", "delay", "result", "sectors", "comm", "name"):
        text: str = getattr(fault, key)
        if text:
            yield key, text
    for key in ("short", "garbage", "status", "uid"):
        number: int = getattr(fault, key)
        if number >= 0:
            yield key, str(number)
    for key in ("times", "after"):
        count: int = getattr(fault, key)
        if count:
            yield key, str(count)
    if fault.command:
        yield "command", ",".join(fault.command)
    for word in WORDS:
        if getattr(fault, word.replace("-", "_")):
            yield word, ""
