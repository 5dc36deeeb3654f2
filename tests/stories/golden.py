"""The golden dumps of the machines: what a machine shows at rest, a line a node."""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Iterator

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, Directory, Node, Symlink
from nvdimmfs.machine.machine import Machine

SHOWN = ("devices", "bus/nd", "bus/dax", "class/nd")
#: Left out wherever they are: the block layer's, power management's, and System RAM.
SKIPPED = {"power", "block", "bdi", "system"}


def lines(machine: Machine) -> Iterator[str]:
    """The nodes, each before what is in it, by name."""
    for place in SHOWN:
        yield from _lines(machine.system.sys.find(place), place)


def _lines(node: Node, path: str) -> Iterator[str]:
    yield f"{stat.filemode(node.mode)} {path}{_content(node)}"
    if isinstance(node, Directory):
        for child in sorted(node, key=lambda child: child.name):
            if child.name not in SKIPPED:
                yield from _lines(child, f"{path}/{child.name}")


def _content(node: Node) -> str:
    if isinstance(node, Symlink):
        return f" -> {node.text}"
    if not isinstance(node, Attribute) or not node.mode & 0o444:
        return ""
    try:
        return f" {json.dumps(node.show().decode('latin-1'))}"
    except KernelError as refusal:
        return f" {errno.errorcode[refusal.errno]}"
