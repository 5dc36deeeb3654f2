"""The agent in a guest: it receives requests on a serial line and answers them.  Only guests run it.

    {"steps": [CALL, ...], "settle": SECONDS, "together": SECONDS}
                                                  {"answers": [ANSWER, ...]} as they come, then {"done": true}
    {"shell": LINE}                               {"rc": STATUS, "stdout": TEXT, "stderr": TEXT}
    {"file": PATH, "hex": BYTES, "mode": MODE}    {"done": true}

Answers are kept for the seconds of `together`, to be sent in one message: each costs a serial line some interrupts.  A
request that is none is answered by {"mistake": TEXT}.  Text of a shell is latin-1, one character a byte.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from nvdimmfs.lab import frames, mounts, uevents, watchers
from nvdimmfs.lab.asking import CHANGES, Answer, Call, answered, ask
from nvdimmfs.lab.frames import Json, Message
from nvdimmfs.lab.guest_modules import MODULES_FILE, change_modules
from nvdimmfs.lab.holders import QUESTIONS, Holders
from nvdimmfs.lab.uevents import Uevents
from nvdimmfs.lab.watchers import Watchers

_HOLDERS = Holders()
_UEVENTS = Uevents()
_WATCHERS = Watchers()


def serve(line: int) -> None:
    """Answer requests forever."""
    tty.setraw(line)
    _send(line, frames.READY)
    while True:
        request = frames.received(lambda count: os.read(line, count), lambda: os.write(line, frames.NEXT))
        try:
            for message in _answers(request):
                _send(line, message)
        except (KeyError, TypeError, ValueError) as mistake:
            _send(line, {"mistake": f"{type(mistake).__name__}: {mistake}"})


def _answers(request: Message) -> Iterator[Message]:
    if "shell" in request:
        done = subprocess.run(
            ["/bin/sh", "-c", cast("str", request["shell"])], capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
        _UEVENTS.forget()
        output, errors = done.stdout.decode("latin-1"), done.stderr.decode("latin-1")
        yield {"rc": done.returncode, "stdout": output, "stderr": errors}
        return
    if "file" in request:
        path = Path(cast("str", request["file"]))
        path.write_bytes(bytes.fromhex(cast("str", request["hex"])))
        path.chmod(cast("int", request["mode"]))
    else:
        settle, together = cast("float", request["settle"]), cast("float", request["together"])
        yield from _asked(cast("list[Call]", request["steps"]), settle, together)
    yield {"done": True}


def _asked(calls: list[Call], settle: float, together: float) -> Iterator[Message]:
    """The answers to questions, many in a message."""
    answers: list[Json] = []
    sent = time.monotonic()
    for call in calls:
        answers.append(cast("Json", _answer(call)))
        if call["op"] in CHANGES:
            time.sleep(settle)
        if time.monotonic() - sent > together:
            yield {"answers": answers}
            answers, sent = [], time.monotonic()
    yield {"answers": answers}


def _answer(call: Call) -> Answer:
    if call["op"] == uevents.QUESTION:
        return _UEVENTS.answer()
    _UEVENTS.forget()
    if call["op"] in QUESTIONS:
        return _HOLDERS.answer(call)
    if call["op"] in watchers.QUESTIONS:
        return _WATCHERS.answer(call)
    if call["op"] in mounts.QUESTIONS:
        return mounts.answer(call)
    if call["op"] != "write" or call["path"] != MODULES_FILE:
        return ask(call)
    return answered(lambda: {"wrote": change_modules(call["data"])})


def _send(line: int, message: Message) -> None:
    data = memoryview(frames.encoded(message))
    while data:
        data = data[os.write(line, data) :]


if __name__ == "__main__":
    serve(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY))
