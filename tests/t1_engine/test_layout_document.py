"""The layout as a JSON document: its types, its page, and what machines report are the same."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from typing import get_args, get_origin, get_type_hints

import pytest
from mounting import ROOT
from poke import Hands

from nvdimmfs.formats import layout_document
from nvdimmfs.formats.layout_document import LayoutDocument
from nvdimmfs.machine.layout import PartKind
from nvdimmfs.machine_file.files import machines

PAGE = (ROOT / "docs/reference/layout.md").read_text()
TYPES = {name: kind for name, kind in vars(layout_document).items() if name.endswith("Document")}

WORDS = {"str": "string", "int": "number", "bool": "true or false"}


def problems(value: object, kind: typing.Any, where: str = "layout") -> Iterator[str]:
    """What does not have its type in a value."""
    if get_origin(kind) is typing.NotRequired:
        yield from problems(value, get_args(kind)[0], where)
    elif isinstance(kind, types.UnionType):
        if all(list(problems(value, each, where)) for each in get_args(kind)):
            yield f"{where} is {value!r}"
    elif get_origin(kind) is list:
        if not isinstance(value, list):
            yield f"{where} is no list"
        else:
            for number, each in enumerate(value):
                yield from problems(each, get_args(kind)[0], f"{where}[{number}]")
    elif typing.is_typeddict(kind):
        if not isinstance(value, dict):
            yield f"{where} is {value!r}"
            return
        hints = get_type_hints(kind, include_extras=True)
        missing = {name for name, hint in hints.items() if get_origin(hint) is not typing.NotRequired} - set(value)
        yield from (f"{where} has no {name}" for name in missing)
        for name, each in value.items():
            if name in hints:
                yield from problems(each, hints[name], f"{where}.{name}")
            else:
                yield f"{where}.{name} is in no type"
    elif type(value) is not kind:
        yield f"{where} is {value!r}"


def word(kind: typing.Any) -> str:
    """A type as the page names it."""
    if get_origin(kind) is typing.NotRequired:
        return f"{word(get_args(kind)[0])}, not always there"
    if isinstance(kind, types.UnionType):
        return f"{word(get_args(kind)[0])}, null"
    if get_origin(kind) is list:
        return f"list of {word(get_args(kind)[0])}"
    return WORDS.get(kind.__name__, kind.__name__)


@pytest.mark.parametrize("name", machines())
def test_a_machine_reports_what_the_types_say(name: str) -> None:
    hands = Hands.described(name)
    assert list(problems(hands.layout(), LayoutDocument)) == []
    hands.machine.close()


@pytest.mark.parametrize(
    ("kind", "settings"), [("btt", {"sector_size": 4096}), ("pfn", {"mode": "pmem"}), ("dax", {"mode": "ram"})]
)
def test_a_personality_is_reported_as_the_types_say(kind: str, settings: dict[str, object]) -> None:
    hands = Hands.on("64M!4G")
    hands.bring_up(0, kind, **settings)
    assert list(problems(hands.layout(), LayoutDocument)) == []
    hands.machine.close()


def test_a_document_that_has_not_its_types_is_found() -> None:
    hands = Hands.on("64M!4G")
    layout = hands.layout()
    del layout["ram"]["free"]
    layout["kernel"] = 6
    layout["regions"][0]["more"] = 1
    assert sorted(problems(layout, LayoutDocument)) == [
        "layout.kernel is 6",
        "layout.ram has no free",
        "layout.regions[0].more is in no type",
    ]
    hands.machine.close()


@pytest.mark.parametrize("name", TYPES)
def test_the_page_has_each_member_with_its_type(name: str) -> None:
    chapter = PAGE.partition(f"## {name}\n")[2].partition("\n## ")[0].partition("\n| kind | its use |")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", chapter, re.MULTILINE)
    hints = get_type_hints(TYPES[name], include_extras=True)
    assert dict(rows) == {member: word(kind) for member, kind in hints.items()}


def test_the_page_has_each_kind_of_part() -> None:
    table = PAGE.partition("| kind | its use |")[2]
    assert set(re.findall(r"`(\w+)`", table)) == set(PartKind)
