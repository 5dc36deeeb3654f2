"""How far replays agree with their recordings: by recording, kind of answer and attribute; as text, JSON and JUnit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeAlias
from xml.etree import ElementTree

import attrs

from nvdimmfs.errors import printable
from nvdimmfs.lab.frames import Json
from nvdimmfs.lab.replay import Report

#: How many answers of a group agree, and how many were compared.
Share: TypeAlias = tuple[int, int]


@attrs.frozen
class Replayed:
    """The replay of a recording.

    Attributes:
        name: the recording.
        report: how it went; None if it was not replayed.
        reason: why it was not.
        failed: whether that is a failure of the lab, rather than a matter of the story.
    """

    name: str
    report: Report | None
    reason: str = ""
    failed: bool = False


def by_kind(replayed: list[Replayed]) -> dict[str, Share]:
    """The agreement of each kind of answer."""
    return _shares(replayed, 0)


def by_subject(replayed: list[Replayed]) -> dict[str, Share]:
    """The agreement of each attribute, node or program."""
    return _shares(replayed, 1)


def _shares(replayed: list[Replayed], part: int) -> dict[str, Share]:
    asked: Counter[str] = Counter()
    differing: Counter[str] = Counter()
    for report in (each.report for each in replayed if each.report):
        for key, count in report.asked.items():
            asked[key[part]] += count
        for difference in report.differences:
            differing[(difference.comparison.kind, difference.comparison.subject)[part]] += 1
    return {name: (asked[name] - differing[name], asked[name]) for name in sorted(asked)}


def summary(replayed: list[Replayed]) -> Iterator[str]:
    """Lines for a person: the groups in which answers differ, then each recording, then all."""
    for title, shares in (("kind", by_kind(replayed)), ("attribute", by_subject(replayed))):
        for name, (same, total) in shares.items():
            if same != total:
                yield f"{title} {printable(name)}: {same}/{total} agree"
    for each in replayed:
        if each.report is None:
            yield f"{each.name}: not replayed: {each.reason}"
        else:
            yield f"{each.name}: {each.report.same}/{each.report.total} agree"
    if len(replayed) > 1:
        reports = [each.report for each in replayed if each.report]
        yield f"all: {sum(each.same for each in reports)}/{sum(each.total for each in reports)} agree"


def as_json(replayed: list[Replayed]) -> Json:
    """The same, with each difference."""
    return {
        "recordings": [_recording_as_json(each) for each in replayed],
        "kinds": _shares_as_json(by_kind(replayed)),
        "attributes": _shares_as_json(by_subject(replayed)),
    }


def _shares_as_json(shares: Mapping[str, Share]) -> Json:
    return {name: {"same": same, "total": total} for name, (same, total) in shares.items()}


def _recording_as_json(each: Replayed) -> Json:
    if each.report is None:
        return {"recording": each.name, "reason": each.reason}
    differences: list[Json] = [
        {
            "step": difference.number,
            "question": difference.comparison.question,
            "expected": _plain(difference.comparison.expected),
            "here": _plain(difference.comparison.here),
        }
        for difference in each.report.differences
    ]
    return {"recording": each.name, "same": each.report.same, "total": each.report.total, "differences": differences}


def _plain(answer: Mapping[str, object] | None) -> Json:
    """An answer as JSON has it."""
    plain: dict[str, Json] | None = None if answer is None else {**answer}  # type: ignore[dict-item]  # of JSON values
    return plain


def as_junit(replayed: list[Replayed]) -> str:
    """The same for a server of continuous integration: a test case for each recording (JUnit's XML)."""
    suite = ElementTree.Element("testsuite", name="nvdimmfs lab replay", tests=str(len(replayed)))
    for each in replayed:
        case = ElementTree.SubElement(suite, "testcase", name=each.name, classname="recordings")
        if each.report is None:
            ElementTree.SubElement(case, "error" if each.failed else "skipped", message=each.reason)
        elif each.report.differences:
            message = f"{each.report.same}/{each.report.total} agree"
            failure = ElementTree.SubElement(case, "failure", message=message)
            failure.text = "\n".join(printable(line) for line in _lines(each.report))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _lines(report: Report) -> Iterator[str]:
    for difference in report.differences:
        yield from str(difference).splitlines()
