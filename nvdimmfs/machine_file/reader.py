"""The parser of machine files: from TOML to the classes of the model, with one line for each error."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar, get_args, get_origin

import attrs
import cattrs
import tomli
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from nvdimmfs.formats.ndctl import Command
from nvdimmfs.machine_file.model import MachineDescription, MappingDescription
from nvdimmfs.machine_file.values import LONGEST_VALUE, TO_BE_CHOSEN, number_kind, shown
from nvdimmfs.machine_file.words import word_of

_T = TypeVar("_T")

#: The byte order mark, which some editors write before a text.
_BYTE_ORDER_MARK = "\ufeff"


class NotAMachine(Exception):  # noqa: N818  # it states what the text is not
    """The text does not describe a machine.

    Attributes:
        problems: the key path ("" for the file as a whole) and the message of each error.
    """

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__(problems)
        self.problems = problems


def read_machine(text: str) -> MachineDescription:
    """Parse a machine without filling in defaults that depend on other values.  NotAMachine."""
    return structured(read_table(text), MachineDescription)


def read_table(text: str) -> dict[str, Any]:
    """Parse TOML.  NotAMachine."""
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        how = "it begins with a byte order mark; save it without one" if text.startswith(_BYTE_ORDER_MARK) else error
        raise NotAMachine([("", f"not TOML: {how}")]) from None
    except ValueError:  # raised by Python's int()
        raise NotAMachine([("", "not a machine file: a number has thousands of digits")]) from None
    except RecursionError:
        raise NotAMachine([("", "not a machine file: tables and lists are nested too deeply")]) from None


def structured(document: dict[str, Any], class_: type[_T]) -> _T:
    """Make an object of a table and those in it.  NotAMachine."""
    try:
        return _CONVERTER.structure(document, class_)
    except ClassValidationError as error:
        raise NotAMachine(list(_problems(error, ""))) from None


def key_of(field: attrs.Attribute[Any]) -> str:
    """The key of a field in a file."""
    key: str = field.metadata.get("key", field.name)
    return key


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True, forbid_extra_keys=True)
    converter.register_structure_hook(str, _read_text)
    converter.register_structure_hook(bool, _read_boolean)
    converter.register_structure_hook(enum.Enum, _read_word)
    converter.register_structure_hook(Command, _read_word)  # an IntEnum, which would otherwise be read as a number
    converter.register_structure_hook_func(_is_number, _read_number)
    converter.register_structure_hook_factory(_is_list, lambda type_: _lists(converter, type_))
    converter.register_structure_hook_factory(attrs.has, lambda class_: _tables(converter, class_))
    return converter


def _read_text(value: object, _: object) -> str:
    if not isinstance(value, str):
        remedy = "write one" if isinstance(value, dict | list) else "put it in quotes"
        raise ValueError(f'{shown(value)} is not a string; {remedy}: "..."')
    return value


def _read_boolean(value: object, _: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither true nor false")
    return value


def _is_number(type_: object) -> bool:
    return get_origin(type_) is Annotated


def _is_list(type_: object) -> bool:
    return get_origin(type_) is tuple


def _read_word(value: object, type_: type[enum.Enum]) -> enum.Enum:
    words = {word_of(member): member for member in type_}
    if not isinstance(value, str) or value not in words:
        raise ValueError(f"{shown(value)} is not one of {', '.join(words)}")
    return words[value]


def _read_number(value: object, type_: object) -> int:
    kind = number_kind(type_)
    assert kind is not None
    return kind.read(value)


def _lists(converter: cattrs.Converter, type_: object) -> Callable[[object, object], tuple[object, ...]]:
    """Return a function that reads lists, and refuses a string instead of reading it as a list of characters."""
    element = get_args(type_)[0]

    def read(value: object, _: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{shown(value)} is not a list; write {_list_example(element)}")
        return tuple(converter.structure(value, list[element]))  # type: ignore[valid-type]

    return read


def _list_example(element: object) -> str:
    if isinstance(element, type) and attrs.has(element) and element is not MappingDescription:
        return "one table for each, [[...]]"
    kind = number_kind(element)
    if kind is None:
        return "[[10, 20], [20, 10]]" if _is_list(element) else '["...", "..."]'
    return "[0x0, 0x1]" if kind.hexadecimal else "[10, 20]"


def _tables(converter: cattrs.Converter, class_: type[Any]) -> Callable[[object, object], object]:
    """Return a function that reads tables, whose keys may differ from the names of the class's fields."""
    renamed = {field.name: override(rename=key_of(field)) for field in attrs.fields(class_)}
    read_table = make_dict_structure_fn(class_, converter, _cattrs_forbid_extra_keys=True, **renamed)  # type: ignore[arg-type]

    def read(value: object, type_: object) -> object:
        if class_ is MappingDescription and isinstance(value, str):
            return MappingDescription(value)
        if not isinstance(value, dict):
            raise ValueError(f"{shown(value)} is not a table; write {_table_example(class_)}")
        if class_ is MachineDescription and "ram" not in value and value.get("ram_range"):
            return attrs.evolve(read_table(value, type_), ram=TO_BE_CHOSEN)
        return read_table(value, type_)

    return read


def _table_example(class_: type[Any]) -> str:
    if class_ is MappingDescription:
        return 'the name of a DIMM, or { dimm = "...", dpa = "16M" }'
    return "{ " + f"{attrs.fields(class_)[0].name} = ..." + " }"


def _problems(error: BaseException, path: str) -> Iterator[tuple[str, str]]:
    """Yield key path and message of each error that cattrs found."""
    if isinstance(error, ClassValidationError):
        located, elsewhere = error.group_exceptions()
        for inner, note in located:
            yield from _problems(inner, _joined(path, _key(error.cl, note)))
        for inner in elsewhere:
            yield from _problems(inner, path)
    elif isinstance(error, IterableValidationError):
        located_items, elsewhere = error.group_exceptions()
        for inner, item in located_items:
            yield from _problems(inner, f"{path}[{_index(item)}]")
        for inner in elsewhere:
            yield from _problems(inner, path)
    elif isinstance(error, ForbiddenExtraKeysError):
        for key in sorted(error.extra_fields):
            yield _joined(path, _shown_key(key)), f"unknown key{_suggestion(key, error.cl)}"
    elif isinstance(error, KeyError):
        yield path, "required key missing"
    else:
        yield path, str(error)


def _key(class_: type[Any], note: AttributeValidationNote) -> str:
    return key_of(getattr(attrs.fields(class_), note.name))


def _index(note: IterableValidationNote) -> int | str:
    return note.index


def _shown_key(key: str) -> str:
    """A key that is not one of a machine file: in quotes unless it is a plain one, and abbreviated."""
    is_plain = key.isascii() and key.replace("-", "_").isidentifier() and len(key) <= LONGEST_VALUE
    return key if is_plain else shown(key)


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _suggestion(key: str, class_: type[Any]) -> str:
    import difflib  # which few machine files need

    known = [key_of(field) for field in attrs.fields(class_)]
    close = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; the keys are {', '.join(known)}"


_CONVERTER = _converter()
