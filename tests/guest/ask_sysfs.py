#!/usr/bin/env python3
"""Ask a live kernel the questions of a recording, in a guest or wherever /sys is; needs nothing but Python.

    ask_sysfs.py < QUESTIONS.jsonl > ANSWERS.jsonl
    ask_sysfs.py --sys DIR/sys --dev DIR/dev < QUESTIONS.jsonl      # on a mounted machine, to try the questions

A question is a JSON object on a line: `op` and its arguments (`Call` in `tests/stories/recording.py`).  The answers are
the same lines with a `result`, which `scripts/import-recording` turns into a recording.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: More than any attribute holds.
READ_LENGTH = 65536

Call = dict[str, Any]


def transfer(path: Path, call: Call) -> Any:
    """Read or write at an offset."""
    writes = call["op"] in ("write", "pwrite")
    descriptor = os.open(path, os.O_WRONLY if writes else os.O_RDONLY)
    try:
        match call["op"]:
            case "read":
                return {"data": os.read(descriptor, READ_LENGTH).decode("latin-1")}
            case "write":
                return {"wrote": os.write(descriptor, call["data"].encode("latin-1"))}
            case "pread":
                return {"hex": os.pread(descriptor, call["length"], call["offset"]).hex()}
            case "pwrite":
                wrote = os.pwrite(descriptor, bytes.fromhex(call["hex"]), call["offset"])
                os.fsync(descriptor)
                return {"wrote": wrote}
    finally:
        os.close(descriptor)


def rows(sys_folder: Path, path: str, skip: list[str], depth: int | None) -> Iterator[Call]:
    """A node and all below it, by name."""
    if any(word in path for word in skip):
        return
    place = sys_folder / path
    status = place.lstat()
    row: Call = {"path": path, "mode": stat.filemode(status.st_mode)}
    if stat.S_ISLNK(status.st_mode):
        row["link"] = os.readlink(place)  # noqa: PTH115  # the text as it stands
    elif stat.S_ISREG(status.st_mode):
        row["size"] = status.st_size
        if status.st_mode & 0o444:
            row |= refusable(transfer, place, {"op": "read"})
    yield row
    if stat.S_ISDIR(status.st_mode) and depth != 0:
        for name in sorted(child.name for child in place.iterdir()):
            yield from rows(sys_folder, f"{path}/{name}", skip, None if depth is None else depth - 1)


def refusable(function: Any, *arguments: Any) -> Any:
    """What a function returns, or the errno's name."""
    try:
        return function(*arguments)
    except OSError as refusal:
        return {"errno": errno.errorcode.get(refusal.errno or 0, str(refusal.errno))}


def answer(call: Call, sys_folder: Path, dev: Path) -> Any:
    """The answer to one question."""
    path = sys_folder / call.get("path", "")
    match call["op"]:
        case "read" | "write":
            return transfer(path, call)
        case "pread" | "pwrite":
            return transfer(dev / call["dev"].removeprefix("/dev/"), call)
        case "ls":
            return {"names": sorted(child.name for child in path.iterdir())}
        case "readlink":
            return {"link": os.readlink(path)}  # noqa: PTH115
        case "stat":
            status = path.lstat()
            return {"mode": stat.filemode(status.st_mode), "size": status.st_size}
        case "dump":
            return {"rows": list(rows(sys_folder, call["path"], call.get("skip", []), call.get("depth")))}
        case "sleep":
            time.sleep(call["seconds"])
            return {}
        case "run":
            done = subprocess.run(call["argv"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
            return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    raise ValueError(f"a recording holds no {call['op']!r} step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sys", type=Path, default=Path("/sys"), dest="sys_folder")
    parser.add_argument("--dev", type=Path, default=Path("/dev"))
    parser.add_argument("--settle", type=float, default=0.05, help="seconds of rest after each write (default 0.05)")
    options = parser.parse_args()
    for line in sys.stdin:
        call = json.loads(line)
        result = refusable(answer, call, options.sys_folder, options.dev)
        if call["op"] == "write":
            time.sleep(options.settle)
        print(json.dumps({**call, "result": result}), flush=True)


if __name__ == "__main__":
    main()
