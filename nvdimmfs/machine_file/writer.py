"""The writer of machine files: values that differ from the defaults, formatted as a person would write them."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_origin

import attrs

from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine_file.reader import key_of
from nvdimmfs.machine_file.values import LARGEST_TOML_INTEGER, TO_BE_CHOSEN, number_kind
from nvdimmfs.machine_file.words import word_of

#: A list that is longer than this is written with one line for each item.
_LONGEST_LINE = 100

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def machine_text(machine: MachineDescription, remarks: Iterable[str] = ()) -> str:
    """Return a machine file that `read_machine` parses as `machine`.

    Args:
        machine: completed or not.
        remarks: comments for the head of the file, one line each.
    """
    head = [f"# {_one_line(remark)}".rstrip() for remark in remarks]
    body = list(_table(machine, ()))
    return "\n".join([*head, *([""] if head and body else []), *body]).strip("\n") + "\n"


def _one_line(remark: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in remark)


def _table(item: Any, path: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401  # any class of the model
    """Yield the lines of a table: its own keys, then its subtables."""
    later = []
    for field in attrs.fields(type(item)):
        value = getattr(item, field.name)
        if _is_implied(item, field):
            continue
        if "key" in field.metadata and not _is_list_of_dimms(field):
            later.append((key_of(field), value))
        else:
            yield f"{key_of(field)} = {value_text(value, field.type)}"
    for key, items in later:
        for inner in items:
            yield ""
            yield f"[[{'.'.join((*path, key))}]]"
            yield from _table(inner, (*path, key))


def _is_implied(item: Any, field: attrs.Attribute[Any]) -> bool:  # noqa: ANN401
    """Whether a file without the key has the value."""
    if field.name == "ram" and item.ram_ranges:
        return bool(item.ram == TO_BE_CHOSEN)
    return bool(getattr(item, field.name) == field.default)


def _is_list_of_dimms(field: attrs.Attribute[Any]) -> bool:
    return key_of(field) == "dimms"


def value_text(value: Any, type_: Any) -> str:  # noqa: ANN401  # any value of the model
    """Return a value of a field of that type as a file has it."""
    kind = number_kind(type_)
    if kind is not None:
        text = kind.show(value)
        return f'"{text}"' if not text.startswith('"') and value > LARGEST_TOML_INTEGER else text
    if get_origin(type_) is tuple:
        return _list(value, get_args(type_)[0])
    if attrs.has(type(value)):
        return _inline(value)
    if isinstance(value, enum.Enum):
        return _text(word_of(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(value)


def _list(items: tuple[Any, ...], element: Any) -> str:  # noqa: ANN401
    texts = [value_text(item, element) for item in items]
    line = f"[{', '.join(texts)}]"
    if len(line) <= _LONGEST_LINE and not (len(items) > 1 and texts[0].startswith("{")):
        return line
    return "[\n" + "".join(f"    {text},\n" for text in texts) + "]"


def _inline(item: Any) -> str:  # noqa: ANN401
    """Format an inline table; a mapping with all defaults is just the name of its DIMM."""
    fields = [field for field in attrs.fields(type(item)) if getattr(item, field.name) != field.default]
    if [field.name for field in fields] == ["dimm"]:
        return _text(item.dimm)
    inner = ", ".join(f"{key_of(field)} = {value_text(getattr(item, field.name), field.type)}" for field in fields)
    return f"{{ {inner} }}"


def _text(text: str) -> str:
    return '"' + "".join(_escaped(letter) for letter in text) + '"'


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    code = ord(letter)
    return f"\\u{code:04x}" if code < 0x20 or code == 0x7F else letter
