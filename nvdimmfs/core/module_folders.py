"""The folders sections and notes in /sys/module/NAME: where the kernel put a module's code, and which build it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Protocol

import attrs

from nvdimmfs.kernfs import BinaryAttribute, Directory, Node
from nvdimmfs.units import PAGE_SIZE, align_up

#: The lowest address of a module.  The kernel's modules begin at 0xffffffffc0000000 (MODULES_VADDR with
#: CONFIG_RANDOMIZE_BASE, arch/x86/include/asm/pgtable_64_types.h), and 1 to 1024 pages above that, as chance has it
#: (get_module_load_offset, arch/x86/kernel/module.c, Linux 6.1).
_FIRST_ADDRESS = 0xFFFF_FFFF_C000_0000 + PAGE_SIZE


@attrs.frozen
class Section:
    """A section of a module's memory.

    Attributes:
        name: as its file names it.
        offset: bytes from the beginning of the memory.
        is_init: whether it is in the memory that the kernel frees once the module is loaded.
    """

    name: str
    offset: int
    is_init: bool


@attrs.frozen
class ModuleImage:
    """What a loaded module shows of its file.

    Attributes:
        sections: those that are in memory.
        notes: the bytes of each section of notes, by its name.
    """

    sections: tuple[Section, ...]
    notes: Mapping[str, bytes]


class Placed(Protocol):
    """A loaded module, as far as this is about it."""

    @property
    def address(self) -> int:
        """Where its memory begins."""

    @property
    def span(self) -> int:
        """Bytes from there to the end of its memory, whole pages."""


def free_address(loaded: Iterable[Placed], size: int) -> int:
    """Where the next module's memory begins: the first hole that has room for it and a page that is not mapped.

    (module_alloc, arch/x86/kernel/module.c; __get_vm_area_node, mm/vmalloc.c, Linux 6.1)
    """
    address = _FIRST_ADDRESS
    for module in sorted(loaded, key=lambda module: module.address):
        if module.address - address >= _with_guard(size):
            break
        address = module.address + _with_guard(module.span)
    return address


def _with_guard(size: int) -> int:
    return align_up(size, PAGE_SIZE) + PAGE_SIZE


@attrs.frozen
class _Folder:
    """The files of one of the folders, as its contents.

    Attributes:
        files: the files.
    """

    files: tuple[Node, ...]

    @property
    def names(self) -> Collection[str]:
        return [file.name for file in self.files]

    @property
    def directories(self) -> int:
        return 0

    def instantiate(self) -> Iterable[Node]:
        return self.files


@attrs.frozen
class ModuleFolders:
    """The two folders of a module, as contents that are made at the first lookup.

    Attributes:
        image: returns what it shows.
        address: where its memory begins.
        init_address: where the memory began that the kernel has freed since.
    """

    image: Callable[[], ModuleImage]
    address: int
    init_address: int

    @property
    def names(self) -> Collection[str]:
        return ("sections", "notes")

    @property
    def directories(self) -> int:
        return len(self.names)

    def instantiate(self) -> Iterator[Node]:
        """Create the folders with their files."""
        image = self.image()
        files = (tuple(map(self._section_file, image.sections)), tuple(map(_note_file, image.notes.items())))
        for name, nodes in zip(self.names, files, strict=True):
            directory = Directory(name)
            directory.populate_lazily(_Folder(nodes))
            yield directory

    def _section_file(self, section: Section) -> BinaryAttribute:
        """The address of a section, which is read from the beginning or not at all (module_sect_read, Linux 6.1)."""
        address = section.offset + (self.init_address if section.is_init else self.address)
        return BinaryAttribute(section.name, 0o400, b"%#018x\n" % address, is_read_from_start=True)


def _note_file(named: tuple[str, bytes]) -> BinaryAttribute:
    name, data = named
    return BinaryAttribute(name, 0o444, data)
