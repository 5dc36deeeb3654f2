"""Two answers that differ, as a person reads them: of thousands of bytes, those around the first that differs."""

from __future__ import annotations

from collections.abc import Mapping

#: Characters of a text, or digits of bytes, that are shown whole.
_WHOLE = 160

#: How many are shown before the first that differs, and from it on.
_BEFORE, _FROM = 16, 48

#: Members of a list that are shown whole.
_MEMBERS = 12

#: The value of an answer that is bytes in hexadecimal digits, two each.
_DIGITS = "hex"


def both_answers(expected: Mapping[str, object] | None, here: Mapping[str, object] | None) -> tuple[str, str]:
    """Both answers, each on a line: what is long is cut to what differs."""
    return _answer(expected, here), _answer(here, expected)


def shortened(question: str) -> str:
    """A question on a line, without the middle of long data."""
    if len(question) <= _WHOLE:
        return question
    half = _WHOLE // 2 - 2
    return f"{question[:half]}…{question[-half:]}"


def _answer(answer: Mapping[str, object] | None, other: Mapping[str, object] | None) -> str:
    if answer is None:
        return "None"
    values = (f"{key!r}: {_value(key, value, (other or {}).get(key))}" for key, value in answer.items())
    return f"{{{', '.join(values)}}}"


def _value(key: str, value: object, other: object) -> str:
    if isinstance(value, str) and len(value) > _WHOLE:
        return _text(key, value, other if isinstance(other, str) else None)
    if isinstance(value, list) and len(value) > _MEMBERS:
        return _list(value, other if isinstance(other, list) else [])
    return repr(value)


def _text(key: str, text: str, other: str | None) -> str:
    """A long text: how long it is, and what is around the first difference."""
    unit, name = (2, "bytes") if key == _DIGITS else (1, "characters")
    length = f"{len(text) // unit} {name}"
    if other is None or text == other:
        return length
    first = _first_difference(text, other) // unit * unit
    start, end = max(first - _BEFORE, 0), first + _FROM
    piece = text[start:end] if key == _DIGITS else repr(text[start:end])
    before, after = "…" if start else "", "…" if end < len(text) else ""
    return f"{length}, from {start // unit} on: {before}{piece}{after}"


def _first_difference(text: str, other: str) -> int:
    pairs = zip(text, other, strict=False)
    return next((place for place, (one, two) in enumerate(pairs) if one != two), min(len(text), len(other)))


def _list(members: list[object], others: list[object]) -> str:
    """A long list: how many members it has, and those that the other list has not."""
    return f"{len(members)}, of which only here: {[member for member in members if member not in others][:_MEMBERS]}"
