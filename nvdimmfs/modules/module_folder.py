"""/lib/modules/RELEASE: the modules' files and the indexes that depmod(8) generates."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from nvdimmfs.formats.elf_module import elf_module
from nvdimmfs.formats.kmod_index import Entry, write_index
from nvdimmfs.modules.module_files import ModuleFile
from nvdimmfs.modules.module_sections import notes_of

#: The options after the release in the reference kernel's vermagic.
VERMAGIC_OPTIONS = "SMP preempt mod_unload modversions "

#: Modules that persistent memory needs and that are built into the reference kernel.
BUILTIN_PATHS = ("kernel/drivers/dax/dax.ko",)
_BUILTIN_MODINFO = b"dax.license=GPL v2\0dax.file=drivers/dax/dax\0"


def write_module_folder(folder: Path, files: Sequence[ModuleFile], release: str) -> None:
    """Fill a folder as a kernel's package and depmod(8) fill /lib/modules/RELEASE.

    Besides the modules it contains the files that libkmod reads (`modules.*.bin`, `modules.softdep`,
    `modules.builtin.modinfo`, `modules.devname`) and the same as text.

    Args:
        folder: created if it does not exist.
        files: the modules, in the order of modules.order: of two with one alias, the first is tried first.
        release: the kernel's release, as uname -r prints it.
    """
    made: set[Path] = set()
    for path, data in module_folder(tuple(files), release).items():
        target = folder / path
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        target.write_bytes(data)


@functools.cache
def module_folder(files: tuple[ModuleFile, ...], release: str) -> dict[str, bytes]:
    """The content of each file in such a folder; computed once in a process and those that it forks."""
    modules = {
        file.path: elf_module(
            file.info, f"{release} {VERMAGIC_OPTIONS}", exports_of(file.name, files), notes_of(file.name)
        )
        for file in files
    }
    return modules | _lists(_Catalogue(files))


def exports_of(name: str, files: Iterable[ModuleFile]) -> list[str]:
    """The symbols that other modules import from a module, each once."""
    taken = (symbol for file in files for module, symbol in file.info.imports if module == name)
    return list(dict.fromkeys(taken))


@attrs.frozen
class _Catalogue:
    """All modules, and the relations that depmod computes.

    Attributes:
        files: in the order of their priority.
    """

    files: Sequence[ModuleFile]

    def dependencies(self) -> list[str]:
        """A line for each module: its path, then its direct and indirect dependencies, users before what they use."""
        rank = self._users_first()
        by_name = {file.name: file for file in self.files}
        lines = []
        for file in self.files:
            needed = sorted(self._needed(file, by_name), key=lambda name: rank[name])
            lines.append(" ".join([f"{file.path}:", *(by_name[name].path for name in needed)]))
        return lines

    def _needed(self, file: ModuleFile, by_name: dict[str, ModuleFile]) -> set[str]:
        needed = set(file.info.depends)
        for name in file.info.depends:
            needed |= self._needed(by_name[name], by_name)
        return needed

    def _users_first(self) -> dict[str, int]:
        """A topological order: of the modules without remaining users, the one found last is next."""
        users = {file.name: 0 for file in self.files}
        for file in self.files:
            for name in file.info.depends:
                users[name] += 1
        depends = {file.name: file.info.depends for file in self.files}
        unused = [name for name, count in users.items() if not count]
        rank: dict[str, int] = {}
        while unused:
            name = unused.pop()
            rank[name] = len(rank)
            for used in depends[name]:
                users[used] -= 1
                if not users[used]:
                    unused.append(used)
        return rank

    def aliases(self) -> list[Entry]:
        """The modaliases with their modules."""
        return [Entry(alias, file.name, place) for place, file in enumerate(self.files) for alias in file.info.aliases]

    def symbols(self) -> list[Entry]:
        """The symbols with their modules."""
        return [
            Entry(f"symbol:{symbol}", file.name, place)
            for place, file in enumerate(self.files)
            for symbol in exports_of(file.name, self.files)
        ]


def _lists(catalogue: _Catalogue) -> dict[str, bytes]:
    lines = catalogue.dependencies()
    names = [file.name for file in catalogue.files]
    dependencies = [Entry(name, line, place) for place, (name, line) in enumerate(zip(names, lines, strict=True))]
    builtin = [Entry(Path(path).stem, "") for path in BUILTIN_PATHS]
    return {
        "modules.order": _text(file.path for file in catalogue.files),
        "modules.dep": _text(lines),
        "modules.dep.bin": write_index(dependencies),
        "modules.alias": _text(_alias_lines(catalogue.aliases())),
        "modules.alias.bin": write_index(catalogue.aliases()),
        "modules.symbols": _text(_alias_lines(catalogue.symbols())),
        "modules.symbols.bin": write_index(catalogue.symbols()),
        "modules.softdep": b"",
        "modules.devname": b"",
        "modules.builtin": _text(BUILTIN_PATHS),
        "modules.builtin.bin": write_index(builtin),
        "modules.builtin.modinfo": _BUILTIN_MODINFO,
        "modules.builtin.alias.bin": write_index([]),
    }


def _alias_lines(entries: Iterable[Entry]) -> list[str]:
    return [f"alias {entry.key} {entry.value}" for entry in entries]


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("ascii")
