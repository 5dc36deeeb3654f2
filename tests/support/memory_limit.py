"""A control group whose processes may use so much memory and no more: the kernel kills one that needs more."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from sandboxes import wait_until

#: Where groups are made, by the file that holds the limit: version 1 and version 2 of the interface.
_HIERARCHIES = {
    "memory.limit_in_bytes": Path("/sys/fs/cgroup/memory"),
    "memory.max": Path("/sys/fs/cgroup"),
}


def why_not() -> str | None:
    """The reason why no group can be made here; None when one can."""
    try:
        with limited_memory(1 << 30):
            return None
    except OSError as failure:
        return f"no control group with a limit of memory can be made: {failure}"


@contextlib.contextmanager
def limited_memory(size: int) -> Iterator[Callable[[], None]]:
    """A group with a limit in bytes.  Yields what a process calls to enter it: a `preexec_fn`.  OSError.

    Its processes must have ended at the end.
    """
    group, limit = _new_group()
    try:
        group.joinpath(limit).write_text(str(size))
        swap = group / "memory.swap.max"
        if swap.exists():  # only version 2, and only where the kernel counts swap
            swap.write_text("0")

        def enter() -> None:
            group.joinpath("cgroup.procs").write_text(str(os.getpid()))

        yield enter
    finally:
        wait_until(lambda: _is_removed(group))


def _is_removed(group: Path) -> bool:
    """Remove a group; False while it still has processes that have ended, and that nobody has waited for."""
    try:
        group.rmdir()
    except OSError as failure:
        if failure.errno != errno.EBUSY:
            raise
        return False
    return True


def _new_group() -> tuple[Path, str]:
    """A new group, and the name of the file with its limit."""
    failure = OSError("the memory controller is in no hierarchy")
    for limit, hierarchy in _HIERARCHIES.items():
        group = hierarchy / f"nvdimmfs-{uuid.uuid4().hex}"
        try:
            group.mkdir()
        except OSError as error:
            failure = error
            continue
        if group.joinpath(limit).exists():
            return group, limit
        group.rmdir()
    raise failure
