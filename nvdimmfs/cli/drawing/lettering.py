"""How wide a text is, at most, in a font that is not known.

A picture brings no font, and readers have different ones.  Widths are those of DejaVu Sans, one of the widest that
browsers fall back to (of its bold face for bold text), so that in others there is room to spare.
"""

from __future__ import annotations

import enum
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

#: Hundredths of the font size, by character.
_WIDTHS = {
    letter: width
    for width, letters in {
        27: "'",
        29: "ijlIJ",
        32: " ,.·",
        34: "/:;\\|",
        36: "-f",
        39: "()[]t",
        41: "r!",
        46: '"',
        50: "*_`",
        53: "sz?",
        56: "cL",
        59: "Fkvxy",
        61: "PTYaoe",
        64: "$0123456789{}ESbdghnpqu",
        69: "KAVBRXZ",
        75: "CUHN",
        79: "DG&OQ",
        84: "w#+<=>^~",
        87: "M",
        100: "%mW@…",
    }.items()
    for letter in letters
}
_ANY_OTHER = 120
_MONOSPACE = 61

#: How much wider bold letters are.
_BOLD = 1.15


class Style(NamedTuple):
    """A way of writing: the class of the style sheet, font size in pixels, weight and family."""

    name: str
    size: int
    bold: bool = False
    monospace: bool = False


class Styles(enum.Enum):
    """Every style of a picture."""

    TITLE = Style("title", 20, bold=True)
    HEADING = Style("heading", 12, bold=True)
    NAME = Style("name", 13, bold=True)
    TEXT = Style("text", 12)
    SMALL = Style("small", 11)
    NUMBER = Style("number", 11, monospace=True)
    ON_COLOUR = Style("on", 11)


def width_of(text: str, style: Styles) -> float:
    """The most pixels that a text is wide."""
    face = style.value
    if face.monospace:
        hundredths = sum(_MONOSPACE if letter.isascii() else _other(letter) for letter in text)
    else:
        hundredths = sum(_WIDTHS.get(letter) or _other(letter) for letter in text)
    return hundredths * face.size * (_BOLD if face.bold else 1) / 100


def fitted(text: str, style: Styles, room: float) -> str:
    """The text, or as much of its beginning as there is room for, with an ellipsis."""
    if width_of(text, style) <= room:
        return text
    while text and width_of(f"{text}…", style) > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


def wrapped(words: Sequence[str], style: Styles, room: float, most: int = 1000) -> list[str]:
    """The words in lines that are not wider than there is room; what is, and the last line there may be, is cut."""
    lines: list[str] = []
    for number, word in enumerate(words):
        joined = f"{lines[-1]} {word}" if lines else ""
        if joined and width_of(joined, style) <= room:
            lines[-1] = joined
        elif len(lines) == most:
            lines[-1] = fitted(" ".join((lines[-1], *words[number:])), style, room)
            break
        else:
            lines.append(fitted(word, style, room))
    return lines


def _other(letter: str) -> int:
    """A mark that is put on the letter before it has no width of its own."""
    return 0 if unicodedata.combining(letter) else _ANY_OTHER
