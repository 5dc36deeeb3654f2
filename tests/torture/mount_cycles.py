"""Cycles of making and removing over a mount: each leaves the daemon as it was."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from pathlib import Path

_ND = "sys/bus/nd"
_ATTRIBUTE = f"{_ND}/drivers_autoprobe"


def open_close(root: Path) -> None:
    with (root / _ATTRIBUTE).open("rb") as file:
        file.read()


def failed_opens(root: Path) -> None:
    nd = root / _ND
    for path, flags in ((nd / "missing", os.O_RDONLY), (nd / "drivers_probe", os.O_RDONLY), (nd, os.O_WRONLY)):
        with contextlib.suppress(OSError):
            os.close(os.open(path, flags))


def listing(root: Path) -> None:
    list((root / _ND).iterdir())


def poll(root: Path) -> None:
    with (root / _ATTRIBUTE).open("rb") as file:
        poller = select.poll()
        poller.register(file, select.POLLPRI)
        file.read()
        poller.poll(0)


def channel(root: Path) -> None:
    with (root / "sys/kernel/debug/nvdimmfs/control").open("r+b", buffering=0) as file:
        file.write(b'{"Watch":{"directories":[""]}}')


def xattr(root: Path) -> None:
    if os.geteuid() == 0:
        os.setxattr(root / _ATTRIBUTE, "trusted.cycle", b"x" * 1000)
        os.removexattr(root / _ATTRIBUTE, "trusted.cycle")


def rebind(root: Path) -> None:
    """The nodes below are looked up, and forgotten when they go."""
    nd = root / _ND
    (nd / "drivers/nd_region/unbind").write_text("region0")
    (nd / "drivers/nd_region/bind").write_text("region0")
    for path in nd.joinpath("devices").iterdir():
        with contextlib.suppress(OSError):
            (path / "uevent").stat()


def disk(root: Path) -> None:
    node = next(root.joinpath("dev").iterdir(), None)
    if node:
        with node.open("r+b") as file:
            file.write(b"x" * 4096)


#: By name.  A cycle gets the mount's root.
KINDS: dict[str, Callable[[Path], None]] = {
    f"mount {cycle.__name__}": cycle
    for cycle in (open_close, failed_opens, listing, poll, channel, xattr, rebind, disk)
}
