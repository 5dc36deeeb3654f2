#!/usr/bin/env python3
"""Another user of a mount, who keeps hold of something in it: `strangers.py POSITION`, run by root in the mount's root.

It becomes an ordinary user, takes its position, prints `ready`, and stays until its stdin is closed or it is killed.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from stuck_memory import SIZE, StuckMemory, libc, list_into

#: The user id of `nobody`, on Debian and elsewhere.
USER = 65534


def lists(place: Path, memory: StuckMemory) -> None:
    """Lists a directory into memory that never comes."""
    list_into(os.open(place, os.O_RDONLY | os.O_DIRECTORY), memory)


def reads(place: Path, memory: StuckMemory) -> None:
    """Reads a file into memory that never comes."""
    libc.read(os.open(place, os.O_RDONLY), ctypes.c_void_p(memory.address), SIZE)


#: The positions, by name: what each does, and where in a machine.
POSITIONS: dict[str, tuple[Callable[[Path, StuckMemory], None], str]] = {
    "lists": (lists, "sys/bus/nd/devices"),
    "reads": (reads, "sys/bus/nd/devices/region0/size"),
}


def main() -> None:
    position, where = POSITIONS[sys.argv[1]]
    place = Path(sys.argv[2] if len(sys.argv) > 2 else where)
    memory = StuckMemory()
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)
    threading.Thread(target=position, args=(place, memory), daemon=True).start()
    memory.wait_until_touched()
    print("ready", flush=True)
    sys.stdin.read()
    memory.release()
    os._exit(0)


if __name__ == "__main__":
    main()
