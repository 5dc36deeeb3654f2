"""Bytes and texts with long runs of the same character, packed."""

from __future__ import annotations

import re

from nvdimmfs.lab.frames import Json

#: Characters that a run may stand for: more than any answer has.
LARGEST_TEXT = 1 << 26


def pack(digits: str) -> str:
    """Hexadecimal bytes with long runs of one byte written as `00*512`."""
    runs = re.compile(r"((?:[0-9a-f]{2})*?)(?:([0-9a-f]{2})\2{15,}|$)")
    words: list[str] = []
    position = 0
    while position < len(digits):
        match = runs.match(digits, position)
        if match is None:
            raise ValueError("an even number of lower-case hexadecimal digits was expected")
        literal, repeated = match[1], match[2]
        words += [literal] if literal else []
        if repeated:
            words.append(f"{repeated}*{(len(match[0]) - len(literal)) // 2}")
        position = match.end()
    return " ".join(words)


def pack_text(text: str) -> Json:
    """Text as it is, or, when one character repeats for long, its parts with such runs as `[character, count]`."""
    parts: list[Json] = []
    position = 0
    for run in re.finditer(r"(.)\1{63,}", text, re.DOTALL):
        if run.start() > position:
            parts.append(text[position : run.start()])
        parts.append([run[1], len(run[0])])
        position = run.end()
    if not parts:
        return text
    return [*parts, text[position:]] if position < len(text) else parts


def unpack_text(packed: Json) -> str:
    """What `pack_text` packed."""
    match packed:
        case str(text):
            return text
        case [str(character), int(count)] if len(character) * count <= LARGEST_TEXT:
            return character * count
        case list(parts):
            return "".join(unpack_text(part) for part in parts)
    raise ValueError(f"not a text: {packed}")


def unpack(words: str) -> str:
    """What `pack` packed."""
    parts = [(digits, int(count or 1)) for digits, _, count in (word.partition("*") for word in words.split())]
    if sum(len(digits) * count for digits, count in parts) > LARGEST_TEXT:
        raise ValueError(f"more than {LARGEST_TEXT} characters in one answer")
    return "".join(digits * count for digits, count in parts)
