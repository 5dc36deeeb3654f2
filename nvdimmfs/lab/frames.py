"""Messages between the lab and the agent in a guest, over a serial line.

A message is JSON, compressed, after its length.  A serial line drops what its receiver has no room for: the lab sends
pieces, and waits for a byte of the agent after each.  The lab itself receives as fast as a guest can send.  The module
runs in guests, too, so it imports the standard library alone.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Message: TypeAlias = dict[str, Json]

_LENGTH = struct.Struct(">I")

#: Bytes that the agent receives at a time: a terminal of Linux has room for 4096 (N_TTY_BUF_SIZE, drivers/tty/n_tty.c).
PIECE = 2048

#: The byte by which the agent asks for the next piece.
NEXT = b"."

#: The message that the agent sends when it has started.
READY: Message = {"ready": True}

#: How to get so many bytes, or fewer, but at least one.
Receive: TypeAlias = Callable[[int], bytes]


def encoded(message: Message) -> bytes:
    """The bytes of a message."""
    body = zlib.compress(json.dumps(message).encode(), 1)
    return _LENGTH.pack(len(body)) + body


def pieces(frame: bytes) -> list[bytes]:
    """The parts of a message for the agent, each of which it asks for."""
    return [frame[: _LENGTH.size], *(frame[start : start + PIECE] for start in range(_LENGTH.size, len(frame), PIECE))]


def received(receive: Receive, ask_for_next: Callable[[], object] = lambda: None) -> Message:
    """Receive a message.  EOFError when the other side has closed the line.

    Args:
        receive: gets bytes.
        ask_for_next: called after each of `pieces`.
    """
    (length,) = _LENGTH.unpack(_exactly(receive, _LENGTH.size))
    ask_for_next()
    body = bytearray()
    while len(body) < length:
        body += _exactly(receive, min(PIECE, length - len(body)))
        ask_for_next()
    message: Message = json.loads(zlib.decompress(body))
    return message


def _exactly(receive: Receive, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = receive(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data
