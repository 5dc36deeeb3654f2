"""The folders of loaded modules have what Linux 6.1, 5.10 and 6.12 show there, file by file."""

from __future__ import annotations

import errno
import itertools
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import boot

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, Directory, Node, Symlink
from nvdimmfs.kernfs.file_stat import file_size
from nvdimmfs.kernfs.open_file import open_node
from nvdimmfs.machine.machine import Machine
from nvdimmfs.units import PAGE_SIZE

RECORDINGS = Path(__file__).parent.parent / "recordings"

#: A build id is that of the module's file, which is not the kernel's: its length and its owner are the same.
BUILD_ID_HEADER = 16

Row = list[str | int | None]


def recorded(name: str) -> tuple[Machine, list[Row]]:
    """The machine of a recording, by its path without the ending, and the rows that the kernel gave."""
    header, *rows = map(json.loads, (RECORDINGS / f"{name}.jsonl").read_text().splitlines())
    machine = boot(header["machine"])
    for module in header["load"]:
        machine.persistent_memory.modules.probe(module)
        machine.system.settle()
    return machine, rows


def content(node: Node) -> str | None:
    if isinstance(node, Symlink):
        return node.text
    if not isinstance(node, Attribute) or not node.mode & 0o444:
        return None
    data = open_node(node, 0).read(0, 1 << 16)
    return data.hex() if "/notes/" in node.path else data.decode()


def rows_of(directory: Directory) -> Iterator[Row]:
    for name in directory.listing.names:
        node = directory.find(name)
        yield [node.path.removeprefix("/sys/module/"), stat.filemode(node.mode), file_size(node), content(node)]
        if isinstance(node, Directory):
            yield from rows_of(node)


def _beginning(path: str) -> str:
    """The section that addresses count from: that of code, or the one in the memory that the kernel has freed."""
    return ".symtab" if path.rpartition("/")[2] in (".init.text", ".init.data", ".symtab", ".strtab") else ".text"


def _distance(address: dict[str, int], path: str, *, newer: bool) -> int:
    """Bytes from the beginning of the memory; each memory of 6.12 begins with a section at the beginning of a page."""
    folder, _, _ = path.rpartition("/")
    if not newer:
        return address[path] - address[f"{folder}/{_beginning(path)}"]
    own = (found for other, found in address.items() if other.startswith(f"{folder}/") and found % PAGE_SIZE == 0)
    return address[path] - max(found for found in own if found <= address[path])


def comparable(rows: list[Row], *, newer: bool) -> list[Row]:
    """The rows with addresses as distances within a module's memory, and without build ids."""
    address = {str(path): int(str(text), 16) for path, _, _, text in rows if "/sections/" in str(path)}
    changed = []
    for path, mode, size, text in rows:
        if str(path).partition("/")[2] == "notes/.note.gnu.build-id":
            text = str(text)[: 2 * BUILD_ID_HEADER]
        elif str(path) in address:
            text = f"{_distance(address, str(path), newer=newer):#x}"
        changed.append([path, mode, size, text])
    return changed


FOLDERS = ("modules", "linux-5.10/modules", "linux-6.12/modules")
STORIES = [f"{folder}/{name}" for folder in FOLDERS for name in ("e820", "nfit", "virtio")]


@pytest.mark.parametrize("name", STORIES)
def test_the_folder_of_a_module_is_the_kernels(name):
    """All names in the kernel's order, all modes, sizes and contents."""
    machine, kernel = recorded(name)
    modules = dict.fromkeys(str(path).partition("/")[0] for path, *_ in kernel)
    here = [row for module in modules for row in rows_of(machine.system.sys.find(f"module/{module}"))]
    newer = name.startswith("linux-6.12")
    assert comparable(here, newer=newer) == comparable(kernel, newer=newer)


def test_an_address_is_read_from_its_beginning():
    """As the guest answered: read(fd, 4) gives `0xff`, the next one EINVAL; behind the end there is nothing."""
    machine, _ = recorded("modules/e820")
    opened = open_node(machine.system.sys.find("module/nd_pmem/sections/.text"), 0)
    assert opened.read(0, 4) == b"0xff"
    with pytest.raises(KernelError) as refused:
        opened.read(4, 4)
    assert refused.value.errno == errno.EINVAL
    assert (opened.read(19, 4), opened.read(1000, 4)) == (b"", b"")
    note = open_node(machine.system.sys.find("module/nd_pmem/notes/.note.Linux"), 0)
    assert (note.read(0, 4), note.read(4, 4), note.read(60, 4)) == (b"\6\0\0\0", b"\4\0\0\0", b"")


def test_files_of_an_unloaded_module_are_gone():
    machine, _ = recorded("modules/e820")
    opened = open_node(machine.system.sys.find("module/kmem/sections/.text"), 0)
    machine.persistent_memory.modules.unload("kmem")
    for offset in (0, 5):
        with pytest.raises(KernelError) as refused:
            opened.read(offset, 5)
        assert refused.value.errno == errno.ENODEV


@pytest.mark.parametrize("name", ["modules/e820", "linux-6.12/modules/e820"])
def test_modules_do_not_overlap_and_their_memory_is_used_again(name):
    machine, _ = recorded(name)
    modules = machine.persistent_memory.modules
    places = sorted((module.address, module.span) for module in modules.loaded.values())
    assert all(start + size < behind for (start, size), (behind, _) in itertools.pairwise(places))
    address = modules.loaded["kmem"].address
    modules.unload("kmem")
    modules.load("kmem")
    assert modules.loaded["kmem"].address == address


@pytest.mark.parametrize("module", ["nfit_test", "nfit_test_iomap", "libnvdimm"])
def test_modules_of_the_test_platform_have_folders(module):
    machine = boot({"machine": "nfit_test"})
    sections = machine.system.sys.find(f"module/{module}/sections")
    assert {".text", ".data", ".symtab", ".note.Linux", ".gnu.linkonce.this_module"} <= set(sections.listing.names)
    assert len(machine.system.sys.find(f"module/{module}/notes").listing.names) == 2
