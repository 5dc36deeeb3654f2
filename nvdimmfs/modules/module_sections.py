"""The sections of the modules' memory: what /sys/module/NAME/sections lists.

Names and distances are those of Debian's kernel 6.1.0-57-amd64; `module_sections_5_10` and
`module_sections_6_12` have those of other kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from nvdimmfs.core.module_folders import ModuleImage, Section
from nvdimmfs.formats.elf_note import build_id_note, ibt_note, kernel_note
from nvdimmfs.kernels.device_rules import ModuleBuild
from nvdimmfs.modules.module_sections_5_10 import SECTIONS as _SECTIONS_5_10
from nvdimmfs.modules.module_sections_6_12 import SECTIONS as _SECTIONS_6_12
from nvdimmfs.units import PAGE_SIZE, align_down

#: The sections of each module, `NAME:OFFSET` in hexadecimal: those of the memory that it keeps, then those of the
#: memory that the kernel frees once the module is loaded.
_SECTIONS = {
    "dax_hmem": (
        ".text:0 .exit.text:13c .note.gnu.build-id:1000 .note.Linux:1024 .rodata:1060 __mcount_loc:106c "
        ".rodata.str1.1:1084 __param:1090 .return_sites:10b8 .orc_unwind:10c0 .orc_unwind_ip:1126 .data:2000 "
        ".exit.data:20d0 .gnu.linkonce.this_module:2100 .bss:2480 | .init.text:0 .init.data:1000 .symtab:2000 "
        ".strtab:2408"
    ),
    "dax_pmem": (
        ".text:0 .text.unlikely:24a .exit.text:265 .note.gnu.build-id:1000 .note.Linux:1024 .rodata.str1.1:1060 "
        "__mcount_loc:1094 .return_sites:10ac .orc_unwind:10b4 .orc_unwind_ip:1102 .data:2000 .exit.data:20b8 "
        ".gnu.linkonce.this_module:20c0 | .init.text:0 .init.data:1000 .symtab:2000 .strtab:2468"
    ),
    "device_dax": (
        ".text:0 .text.unlikely:bcc .exit.text:c98 .note.gnu.build-id:1000 .note.Linux:1024 __ksymtab_gpl:1060 "
        "__kcrctab_gpl:106c .rodata:1080 __ksymtab_strings:1380 __mcount_loc:138f .rodata.str1.1:1407 "
        ".rodata.str1.8:1458 .retpoline_sites:15bc .return_sites:15c4 .orc_unwind:1600 .orc_unwind_ip:1888 "
        "__jump_table:2000 .data:3000 .exit.data:3178 __dyndbg:3180 .gnu.linkonce.this_module:33c0 | .init.text:0 "
        ".init.data:1000 .symtab:2000 .strtab:2a50"
    ),
    "kmem": (
        ".text:0 .exit.text:4a0 .text.unlikely:4cd .note.gnu.build-id:1000 .note.Linux:1024 .rodata.str1.1:1060 "
        "__mcount_loc:1077 .rodata.str1.8:1098 .return_sites:11eb .orc_unwind:11fb .orc_unwind_ip:136f .data:2000 "
        ".exit.data:20b8 .gnu.linkonce.this_module:20c0 .bss:2440 | .init.text:0 .init.data:1000 .symtab:2000 "
        ".strtab:25b8"
    ),
    "libnvdimm": (
        ".text:0 .exit.text:1252c .text.unlikely:1255d .altinstr_replacement:12a7c .note.gnu.build-id:13000 "
        ".note.Linux:13024 __ksymtab:13060 __ksymtab_gpl:131ec __kcrctab:13408 __kcrctab_gpl:1348c "
        ".altinstructions:13540 .rodata:135e0 __ksymtab_strings:14b4f __mcount_loc:15110 .rodata.str1.1:15c30 "
        ".smp_locks:16ddc .rodata.str1.8:16e40 .retpoline_sites:17d72 .return_sites:17e46 .orc_unwind:1859e "
        ".orc_unwind_ip:1c564 __param:1efe8 __jump_table:20000 __bug_table:21000 .data:21800 .exit.data:23128 "
        "__dyndbg:23130 .data.once:249e8 .static_call_sites:249fa .data..read_mostly:24a1a "
        ".gnu.linkonce.this_module:24a40 .bss:24dc0 | .init.text:0 .init.data:1000 .symtab:2000 .strtab:9b60"
    ),
    "nd_btt": (
        ".text:0 .exit.text:2ab4 .text.unlikely:2ac0 .note.gnu.build-id:3000 .note.Linux:3024 __ksymtab:3060 "
        "__kcrctab:3078 .rodata:3080 __ksymtab_strings:31d8 __mcount_loc:3212 .rodata.str1.1:328a "
        ".rodata.str1.8:34a0 .rodata.cst2:37a4 .retpoline_sites:37a6 .return_sites:37ea .orc_unwind:382e "
        ".orc_unwind_ip:3d44 __jump_table:5000 __bug_table:6000 .data:6060 .exit.data:6188 __dyndbg:6190 "
        ".data.once:62a8 .static_call_sites:62af .gnu.linkonce.this_module:6300 .bss:6680 | .init.text:0 "
        ".init.data:1000 .symtab:2000 .strtab:2f30"
    ),
    "nd_e820": (
        ".text:0 .exit.text:179 .note.gnu.build-id:1000 .note.Linux:1024 __mcount_loc:1060 .rodata.str1.1:1080 "
        ".rodata.str1.8:1090 .smp_locks:10c4 .return_sites:10c8 .orc_unwind:10d4 .orc_unwind_ip:1194 .data:2000 "
        ".exit.data:20d0 .gnu.linkonce.this_module:2100 .bss:2480 | .init.text:0 .init.data:1000 .symtab:2000 "
        ".strtab:2408"
    ),
    "nd_pmem": (
        ".text:0 .exit.text:14e0 .text.unlikely:14ec .note.gnu.build-id:2000 .note.Linux:2024 .rodata:2060 "
        "__mcount_loc:21b8 .rodata.str1.1:2258 .rodata.str1.8:22d0 .smp_locks:2404 .return_sites:2408 "
        ".orc_unwind:2438 .orc_unwind_ip:2954 __jump_table:3000 __bug_table:4000 .data:4020 .exit.data:4120 "
        ".data.once:4128 __dyndbg:4130 .static_call_sites:4210 .gnu.linkonce.this_module:4240 | .init.text:0 "
        ".init.data:1000 .symtab:2000 .strtab:2ed0"
    ),
    "nd_virtio": (
        ".text:0 .text.unlikely:615 .note.gnu.build-id:1000 .note.Linux:1024 __ksymtab_gpl:1060 "
        "__kcrctab_gpl:1078 __ksymtab_strings:1080 .rodata.str1.8:10a8 .rodata.str1.1:114e __mcount_loc:1176 "
        ".smp_locks:1190 .rodata:11a0 .retpoline_sites:11b2 .return_sites:11b6 .orc_unwind:11c2 "
        ".orc_unwind_ip:12c4 .data:2000 .static_call_sites:2028 .gnu.linkonce.this_module:2040 | .symtab:0 "
        ".strtab:630"
    ),
    "nfit": (
        ".text:0 .altinstr_replacement:6d11 .text.unlikely:6d15 .exit.text:6f1c .note.gnu.build-id:7000 "
        ".note.Linux:7024 __ksymtab:7060 __ksymtab_gpl:706c __kcrctab:70c0 __kcrctab_gpl:70c4 "
        ".altinstructions:70e0 .rodata:7100 __ksymtab_strings:7770 __mcount_loc:7804 .rodata.str1.8:7aa8 "
        ".rodata.str1.1:82b1 .parainstructions:8918 .smp_locks:8938 __param:89f8 .retpoline_sites:8ae8 "
        ".return_sites:8b28 .orc_unwind:8c88 .orc_unwind_ip:9d38 __jump_table:b000 __bug_table:c000 .data:c060 "
        ".exit.data:c658 __dyndbg:c660 .data.once:cf20 .data..read_mostly:cf25 .gnu.linkonce.this_module:cf40 "
        ".bss:d2c0 | .init.text:0 .init.data:1000 .symtab:2000 .strtab:46a0"
    ),
    "virtio_pmem": (
        ".text:0 .exit.text:3a3 .text.unlikely:3af .note.gnu.build-id:1000 .note.Linux:1024 __mcount_loc:1060 "
        ".rodata.str1.8:1078 .rodata.str1.1:1118 .smp_locks:1170 .rodata:1180 .retpoline_sites:1192 "
        ".return_sites:11be .orc_unwind:11c2 .orc_unwind_ip:1270 __bug_table:2000 .data:2020 .exit.data:2120 "
        ".static_call_sites:2128 .gnu.linkonce.this_module:2180 | .init.text:0 .init.data:1000 .symtab:2000 "
        ".strtab:2510"
    ),
}

#: A module of which there is no record, and one that is built of the same parts: each registers a driver for ranges.
_LIKE = {"of_pmem": "nd_e820"}

#: The tables of each build.
_TABLES = {
    ModuleBuild.LINUX_5_10: _SECTIONS_5_10,
    ModuleBuild.LINUX_6_1: _SECTIONS,
    ModuleBuild.LINUX_6_12: _SECTIONS_6_12,
}


@functools.cache
def image_of(name: str, build: ModuleBuild = ModuleBuild.LINUX_6_1) -> ModuleImage:
    """Return what a loaded module shows of its file.

    The modules of tools/testing/nvdimm that no distribution builds have the sections that all modules have.

    Args:
        name: the module.
        build: the build that it is of.
    """
    table = _TABLES[build].get(_LIKE.get(name, name))
    return ModuleImage(_sections_of(table, build) if table else _sections_of_all(build), notes_of(name, build))


def notes_of(name: str, build: ModuleBuild = ModuleBuild.LINUX_6_1) -> dict[str, bytes]:
    """The sections of notes in a module's file.  The build id follows from the name: no two modules have the same."""
    salt = build.value
    is_oldest, is_newest = build is ModuleBuild.LINUX_5_10, build is ModuleBuild.LINUX_6_12
    notes = {
        ".note.gnu.build-id": build_id_note(f"{name} {salt}"),
        ".note.Linux": kernel_note(salt, names_lto=not is_oldest),
    }
    return {".note.gnu.property": ibt_note(), **notes} if is_newest else notes


def _sections_of(table: str, build: ModuleBuild) -> tuple[Section, ...]:
    return _newer_sections(table) if build is ModuleBuild.LINUX_6_12 else _sections(table)


def _sections(tables: str) -> tuple[Section, ...]:
    kept, _, freed = tables.partition("|")
    return (*_memory(kept, is_init=False), *_memory(freed, is_init=True))


def _newer_sections(tables: str) -> tuple[Section, ...]:
    kept, _, freed = tables.partition("||")
    return (*_memories(kept.split("|"), is_init=False), *_memories(freed.split("|"), is_init=True))


def _memories(tables: Sequence[str], *, is_init: bool) -> Iterator[Section]:
    """The sections of memories that follow one another, each followed by a page that is not mapped."""
    start = 0
    for table in tables:
        sections = list(_memory(table, is_init=is_init, start=start))
        yield from sections
        start = align_down(sections[-1].offset, PAGE_SIZE) + 2 * PAGE_SIZE


def _memory(table: str, *, is_init: bool, start: int = 0) -> Iterator[Section]:
    for entry in table.split():
        name, _, offset = entry.partition(":")
        yield Section(name, start + int(offset, 16), is_init)


def _sections_of_all(build: ModuleBuild) -> tuple[Section, ...]:
    """The sections that every module has, where the smallest of them has them."""
    every = [_sections_of(table, build) for table in _TABLES[build].values()]
    shared = set[str].intersection(*({section.name for section in sections} for sections in every))
    return tuple(section for section in min(every, key=len) if section.name in shared)
