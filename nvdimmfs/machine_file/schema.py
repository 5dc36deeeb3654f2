"""The JSON Schema of machine files, generated from the classes; editors use it for completion and checks.

It is draft 7, which editors of TOML support (taplo, and so Even Better TOML).  A copy is stored beside the machines; a
file refers to it in its first line: `#:schema ./machine.schema.json`.
"""

from __future__ import annotations

import enum
import inspect
import json
import re
from typing import Any, get_args, get_origin

import attrs

from nvdimmfs.machine_file.model import CLASSES, MachineDescription, MappingDescription
from nvdimmfs.machine_file.reader import key_of
from nvdimmfs.machine_file.values import LARGEST_TOML_INTEGER, TO_BE_CHOSEN, NumberKind, number_kind
from nvdimmfs.machine_file.words import word_of

_DRAFT = "http://json-schema.org/draft-07/schema#"

#: Patterns of strings that are numbers, in the dialect of JSON Schema (ECMA 262).
_SIZE_PATTERN = "^(0[xX][0-9a-fA-F]+|0|[1-9][0-9]*)[kKmMgGtTpPeE]?$"
_NUMBER_PATTERN = "^(0[xX][0-9a-fA-F]+|0|[1-9][0-9]*)$"

_Schema = dict[str, Any]


def schema() -> _Schema:
    """The schema, ready for `json.dumps`."""
    return {
        "$schema": _DRAFT,
        "title": "A machine with persistent memory, for nvdimmfs",
        "$ref": f"#/definitions/{_name(MachineDescription)}",
        "definitions": {_name(class_): _definition(class_) for class_ in CLASSES},
    }


def schema_text() -> str:
    """The content of the schema's file beside the machines."""
    return json.dumps(schema(), indent=2) + "\n"


def documentation(class_: type[Any]) -> dict[str, str]:
    """Return the description of each attribute in the docstring of a class."""
    _, _, attributes = (inspect.getdoc(class_) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.+(?:\n     .+)*)", attributes, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _name(class_: type[Any]) -> str:
    return class_.__name__.removesuffix("Description")


def _definition(class_: type[Any]) -> _Schema:
    documents = documentation(class_)
    fields = attrs.fields(class_)
    table: _Schema = {
        "type": "object",
        "description": (inspect.getdoc(class_) or "").partition("\n\nAttributes:")[0].replace("\n", " "),
        "properties": {key_of(field): _property(field, documents[field.name]) for field in fields},
        "additionalProperties": False,
    }
    required = [key_of(field) for field in fields if field.default is attrs.NOTHING]
    if required:
        table["required"] = required
    if class_ is MappingDescription:
        return {"anyOf": [{"type": "string", "description": "The name of a DIMM."}, table]}
    return table


def _property(field: attrs.Attribute[Any], description: str) -> _Schema:
    shape = _shape(field.type)
    default = _default(field)
    about: _Schema = {"description": description[:1].upper() + description[1:]}
    if default is not None:
        about["default"] = default
    # In draft 7, keys beside a reference are ignored.
    return about | ({"allOf": [shape]} if "$ref" in shape else shape)


def _default(field: attrs.Attribute[Any]) -> Any:  # noqa: ANN401  # any value of a file
    """Return the default of a field as a file would have it; None when there is none to show."""
    default, kind = field.default, number_kind(field.type)
    if default is attrs.NOTHING or default in ("", ()) or attrs.has(type(default)):
        return None
    if isinstance(default, enum.Enum):
        return word_of(default)
    if isinstance(default, tuple):
        return [word_of(item) for item in default]
    if kind is None or not isinstance(default, int):
        return default
    if default == TO_BE_CHOSEN or default < kind.minimum:
        return None
    return kind.show(default).strip('"') if (kind.suffixes or kind.hexadecimal) and default > 0 else default


def _shape(type_: Any) -> _Schema:  # noqa: ANN401  # the type of a field
    kind = number_kind(type_)
    if kind is not None:
        return _number(kind)
    if get_origin(type_) is tuple:
        return {"type": "array", "items": _shape(get_args(type_)[0])}
    if attrs.has(type_):
        return {"$ref": f"#/definitions/{_name(type_)}"}
    if issubclass(type_, enum.Enum):
        return {"type": "string", "enum": [word_of(member) for member in type_]}
    return {"type": {str: "string", bool: "boolean"}[type_]}


def _number(kind: NumberKind) -> _Schema:
    if kind.fraction > 1:
        minimum, maximum = kind.minimum / kind.fraction, (kind.limit - 1) / kind.fraction
        return {"type": "number", "minimum": minimum, "maximum": maximum}
    number: _Schema = {"type": "integer", "minimum": kind.minimum, "maximum": min(kind.limit - 1, LARGEST_TOML_INTEGER)}
    if kind.suffixes or kind.hexadecimal:
        return {"anyOf": [number, {"type": "string", "pattern": _SIZE_PATTERN if kind.suffixes else _NUMBER_PATTERN}]}
    return number
