"""Directories are listed as Linux 6.1 lists them: order, types, offsets, link counts and blocks."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from ask_listings import Entry
from machines import boot

from nvdimmfs.kernfs import Directory
from nvdimmfs.kernfs.file_stat import link_count
from nvdimmfs.kernfs.open_file import OpenDirectory
from nvdimmfs.kernfs.path import resolve
from nvdimmfs.machine.machine import Machine

RECORDINGS = Path(__file__).parent.parent / "recordings" / "listings"

#: What ask_listings.py writes for a type; a device's node is a regular file in `dev/`.
LETTERS = {stat.S_IFDIR: "d", stat.S_IFREG: "-", stat.S_IFLNK: "l"}
NODES = ("b", "c")


def entries(directory: Directory, start: int = 0) -> Iterator[Entry]:
    for name, node, offset in OpenDirectory(directory, 1, may_cache=True).entries(start):
        yield name, LETTERS[stat.S_IFMT(node.mode)], offset


def booted(recording: str) -> tuple[Machine, list[dict]]:
    """The machine of a recording, after its writes, and what the kernel answered."""
    first, *answers = map(json.loads, (RECORDINGS / f"{recording}.jsonl").read_text().splitlines())
    machine = boot(first["machine"])
    for path, text in first["writes"]:
        resolve(machine.system.sys, path).store(text.encode())
        machine.system.settle()
    return machine, answers


@pytest.mark.parametrize("recording", ["e820", "nfit"])
def test_directories_are_listed_as_the_kernel_lists_them(recording):
    """A directory that is modelled in part lists in the kernel's order what it has."""
    machine, answers = booted(recording)
    whole = 0
    for answer in (each for each in answers if "entries" in each):
        directory = resolve(machine.system.tree.root, answer["path"].lstrip("/"))
        kernel = [(name, "-" if kind in NODES else kind, offset) for name, kind, offset in answer["entries"]]
        here = list(entries(directory))
        common = {name for name, _, _ in kernel} & {name for name, _, _ in here}
        assert [each[:2] for each in here if each[0] in common] == [each[:2] for each in kernel if each[0] in common]
        if len(common) == len(kernel) == len(here):
            whole += 1
            assert here == kernel, answer["path"]
            assert (link_count(directory), 0) == (answer["links"], answer["blocks"]), answer["path"]
    assert whole >= 24


def test_a_listing_continues_where_lseek_says():
    """At an offset that no name has, the kernel may also begin with the name before it (`Listing.index`)."""
    machine, answers = booted("nfit")
    asked = 0
    for answer in (each for each in answers if "seeks" in each):
        directory = resolve(machine.system.tree.root, answer["path"].lstrip("/"))
        every = list(entries(directory))
        offsets = {0, *(offset for _, _, offset in every)}
        for offset, kernel in answer["seeks"]:
            here = list(entries(directory, offset))
            first = [tuple(entry) for entry in kernel][:1]
            preceding = every[: len(every) - len(here)][-1:]
            assert here[:1] == first or (offset not in offsets and preceding == first), offset
            asked += 1
    assert asked > 50
