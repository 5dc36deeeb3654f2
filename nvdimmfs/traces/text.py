"""A trace as text that reads like that of strace(1).

Every event is one line, and each effect a line below it, indented.  Bytes and names come from user space: what is not
printable is escaped, so that no line breaks and no terminal obeys.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

from nvdimmfs.errors import printable
from nvdimmfs.traces.event import Op, TraceEvent, TraceState

#: Bytes of data that a line shows.
SHOWN = 64

#: Escapes of C for what else would end a string, and the most frequent control characters.
_ESCAPES = {ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r", ord('"'): '\\"', ord("\\"): "\\\\"}

_PRINTABLE = range(0x20, 0x7F)

#: The events of poll(2), by bit.
_POLL_NAMES = ("POLLIN", "POLLPRI", "POLLOUT", "POLLERR", "POLLHUP", "POLLRDNORM", "POLLWRNORM")

_INDENT = "    "


def text_of(event: TraceEvent) -> str:
    """The lines of an event, each with its newline."""
    return "".join(f"{line}\n" for line in lines_of(event))


def lines_of(event: TraceEvent) -> Iterator[str]:
    """The lines of an event."""
    yield f"{_clock(event.host_time)} [{event.time:12.6f}] {call_text(event)}"
    for effect in event.effects:
        yield f"{_INDENT * (1 + effect.depth)}{effect.text}"
    if event.omitted:
        yield f"{_INDENT}... and {event.omitted} more"


def call_text(event: TraceEvent) -> str:
    """The call and its answer, without the time."""
    if event.op == Op.BOOT:
        return "--- the machine boots ---"
    if event.op == Op.KERNEL:
        return "--- the kernel is at work ---"
    return f"{_caller(event)}{request_text(event)} = {answer_text(event)}"


def request_text(event: TraceEvent) -> str:
    """The call with its arguments, without caller and answer; empty for what no program has called."""
    return "" if event.op in (Op.BOOT, Op.KERNEL) else f"{event.op}({', '.join(_arguments(event))})"


def state_text(state: TraceState) -> str:
    """The line, with its newline, that the debug folder's file begins with."""
    dropped = f"; {state.dropped} events were dropped" if state.dropped else ""
    return f"--- the trace is {'on' if state.on else 'off'}, with room for {state.size} lines{dropped} ---\n"


def dropped_text(count: int) -> str:
    """The line, with its newline, that stands for events that were dropped."""
    return f"--- {count} {'event was' if count == 1 else 'events were'} dropped ---\n"


def quoted(data: bytes, size: int, shown: int = SHOWN) -> str:
    """Bytes as a string of C; `...` follows it where bytes are left out.

    Args:
        data: the bytes that are known.
        size: how many there were.
        shown: how many to show at most.
    """
    return f'"{"".join(map(_escaped, data[:shown]))}"{"..." if size > min(len(data), shown) else ""}'


def _escaped(byte: int) -> str:
    return _ESCAPES.get(byte) or (chr(byte) if byte in _PRINTABLE else f"\\x{byte:02x}")


def _name(text: str) -> str:
    """A path as a string of C."""
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _clock(seconds: float) -> str:
    """The time of day on the host, local time."""
    microseconds = round(seconds * 1_000_000)
    try:
        of_day = time.strftime("%H:%M:%S", time.localtime(microseconds // 1_000_000))
    except (OverflowError, ValueError, OSError):  # a time that no calendar has
        of_day = "??:??:??"
    return f"{of_day}.{microseconds % 1_000_000:06}"


def _caller(event: TraceEvent) -> str:
    if event.pid is None:
        return ""
    return f"{printable(event.command) or '?'}[{event.pid}] "


def _arguments(event: TraceEvent) -> Iterator[str]:
    yield _name(event.path)
    if event.flags:
        yield printable(event.flags)
    if event.request:
        yield printable(event.request)
    if event.op == Op.IOCTL:
        yield f"in {quoted(event.data, event.data_size)}"
        yield f"out {quoted(event.output, event.output_size)}"
    elif event.size is not None:
        yield quoted(event.data, event.data_size)
        yield str(event.size)
    if event.offset:
        yield f"at {event.offset}"


def answer_text(event: TraceEvent) -> str:
    """What the call returned, or why it was refused."""
    if event.errno is not None:
        return f"-1 {event.code}{f' ({printable(event.reason)})' if event.reason else ''}"
    if event.result is None:
        return "?"
    return _poll_events(event.result) if event.op == Op.POLL else str(event.result)


def _poll_events(mask: int) -> str:
    names = (name for name in _POLL_NAMES if mask & getattr(select, name))
    return "|".join(names) or "0"
