"""A trace as JSON Lines: one object a line, described by docs/reference/trace.schema.json.

Bytes are a string with one character for each byte, U+0000 to U+00FF.  All but printable ASCII is escaped.
"""

from __future__ import annotations

import json
from typing import Any

import attrs

from nvdimmfs.traces.effects import KINDS, Effect
from nvdimmfs.traces.event import TraceEvent, TraceState

#: The version of the format, which the first line of the debug folder's file states.
VERSION = 1

_FIELDS = {each.name: each for each in attrs.fields(TraceEvent)}
_ALWAYS = ("number", "time", "host_time", "op")


class TraceFormatError(ValueError):
    """A line that is no event; str() is the message for the user."""


@attrs.frozen
class Dropped:
    """Stands for events that were dropped before the reader came to them.

    Attributes:
        count: how many.
    """

    count: int


def line_of(event: TraceEvent) -> str:
    """An event as a line, with its newline.  What has the value that the schema gives as default is left out."""
    fields: dict[str, Any] = {}
    for name, field in _FIELDS.items():
        value = getattr(event, name)
        if name in _ALWAYS or value != field.default:
            fields[name] = _encoded(value)
    return _line(fields)


def state_line(state: TraceState) -> str:
    """The first line of the debug folder's file, with its newline."""
    return _line({"trace": {"version": VERSION, **attrs.asdict(state)}})


def dropped_line(count: int) -> str:
    """The line that stands for dropped events, with its newline."""
    return _line({"dropped": count})


def decoded(line: str | bytes) -> TraceEvent | TraceState | Dropped:
    """What a line stands for.  TraceFormatError, also for a version of the format that is not known."""
    try:
        fields = json.loads(line)
        if "trace" in fields:
            return _state(fields["trace"])
        if "dropped" in fields:
            return Dropped(int(fields["dropped"]))
        for name in ("data", "output"):
            if name in fields:
                fields[name] = fields[name].encode("latin-1")
        fields["effects"] = tuple(_effect(each) for each in fields.get("effects", ()))
        return TraceEvent(**fields)
    except TraceFormatError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise TraceFormatError(f"not a line of a trace: {line[:80]!r}") from error


def _encoded(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, tuple):
        return [{"kind": each.kind, **attrs.asdict(each)} for each in value]
    return str(value) if isinstance(value, str) else value


def _state(fields: dict[str, Any]) -> TraceState:
    if (version := fields.pop("version")) != VERSION:
        raise TraceFormatError(f"a trace of version {version}; this nvdimmfs reads version {VERSION}")
    return TraceState(**fields)


def _effect(fields: dict[str, Any]) -> Effect:
    return KINDS[fields.pop("kind")](**fields)


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":")) + "\n"
