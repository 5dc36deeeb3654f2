"""Kernel modules as files: ELF objects with the metadata that modprobe(8), modinfo(8) and depmod(8) read.

The files contain no code, so that no kernel could run them.  They have the section .modinfo (NUL-terminated strings
`key=value`), the names of exported symbols as NUL-terminated strings in __ksymtab_strings, and imported symbols as
undefined symbols.  (ELF: System V ABI, AMD64 supplement; sections of a module: include/linux/export.h and moduleinfo.h,
Linux 6.1.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

_FILE_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")

#: Bytes of the header that every file begins with.
FILE_HEADER_SIZE = _FILE_HEADER.size

#: ELF, 64 bits, little-endian, version 1.
_IDENTIFICATION = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_RELOCATABLE = 1
_X86_64 = 62
_GLOBAL = 1 << 4

_PROGBITS = 1
_SYMTAB = 2
_STRTAB = 3
_NOTE = 7
_ALLOC = 2
_ALIGN = 8


@attrs.frozen
class ModuleInfo:
    """The metadata of a module.

    Attributes:
        name: as modprobe(8) knows it.
        imports: the modules that it depends on, in the order in which its file names them, each with a symbol that it
            imports from there.
        aliases: the modaliases that it is loaded for.
        parameters: names and types of its parameters.
        intree: whether it was built with the kernel, not out of tree.
        license: the value of MODULE_LICENSE.
    """

    name: str
    imports: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    intree: bool = True
    license: str = "GPL v2"

    @property
    def depends(self) -> tuple[str, ...]:
        """The names of the modules that it depends on."""
        return tuple(module for module, _ in self.imports)


@attrs.frozen
class _Section:
    name: str
    kind: int
    data: bytes
    flags: int = 0
    link: int = 0
    first_global: int = 0
    entry_size: int = 0


def elf_module(
    info: ModuleInfo, vermagic: str, exports: Iterable[str] = (), notes: Mapping[str, bytes] = MappingProxyType({})
) -> bytes:
    """Return the contents of a module's file.

    Args:
        info: its metadata.
        vermagic: the kernel that it is built for: a release and the options that matter.
        exports: the symbols that other modules may import from it.
        notes: the bytes of each section of notes, by its name.
    """
    names, symbols = _symbols([symbol for _, symbol in info.imports])
    sections = [
        _Section("", 0, b""),
        _Section(".modinfo", _PROGBITS, _modinfo(info, vermagic), _ALLOC),
        _Section("__ksymtab_strings", _PROGBITS, _texts(exports), _ALLOC),
        _Section(".strtab", _STRTAB, names),
        _Section(".symtab", _SYMTAB, symbols, link=3, first_global=1, entry_size=_SYMBOL.size),
        *(_Section(name, _NOTE, data, _ALLOC) for name, data in notes.items()),
    ]
    section_names = _texts(["", *(section.name for section in sections[1:]), ".shstrtab"])
    return _elf([*sections, _Section(".shstrtab", _STRTAB, section_names)], section_names)


def module_name(image: bytes) -> str:
    """Return the module's name from its file.  ValueError for a file that is not a complete module."""
    if len(image) < _FILE_HEADER.size:
        raise ValueError("too short for an ELF object")
    header = _FILE_HEADER.unpack_from(image)
    identification, kind, machine, headers_at = header[0], header[1], header[2], header[6]
    header_size, count, names_index = header[11:]
    if identification[:4] != _IDENTIFICATION[:4] or (kind, machine) != (_RELOCATABLE, _X86_64):
        raise ValueError("not an ELF object of this architecture")
    if header_size != _SECTION_HEADER.size or headers_at + count * header_size > len(image) or names_index >= count:
        raise ValueError("the section headers are missing")
    table = image[headers_at : headers_at + count * header_size]
    sections = [(fields[0], image[fields[4] : fields[4] + fields[5]]) for fields in _SECTION_HEADER.iter_unpack(table)]
    names = sections[names_index][1]
    for name_at, content in sections:
        if names[name_at:].partition(b"\0")[0] == b".modinfo":
            return _name_of(content)
    raise ValueError("no section .modinfo")


def _name_of(modinfo: bytes) -> str:
    for text in modinfo.split(b"\0"):
        key, _, value = text.partition(b"=")
        if key == b"name":
            return value.decode("ascii")
    raise ValueError("no name")


def _modinfo(info: ModuleInfo, vermagic: str) -> bytes:
    return _texts(
        [
            f"license={info.license}",
            *(f"alias={alias}" for alias in info.aliases),
            *(f"parmtype={name}:{kind}" for name, kind in info.parameters),
            f"depends={','.join(info.depends)}",
            "retpoline=Y",
            *(["intree=Y"] if info.intree else []),
            f"name={info.name}",
            f"vermagic={vermagic}",
        ]
    )


def _texts(texts: Iterable[str]) -> bytes:
    return b"".join(text.encode("ascii") + b"\0" for text in texts)


def _symbols(undefined: list[str]) -> tuple[bytes, bytes]:
    """The tables of names and of symbols; the first of each is empty."""
    names = b"\0"
    symbols = bytes(_SYMBOL.size)
    for name in undefined:
        symbols += _SYMBOL.pack(len(names), _GLOBAL, 0, 0, 0, 0)
        names += name.encode("ascii") + b"\0"
    return names, symbols


def _elf(sections: list[_Section], section_names: bytes) -> bytes:
    """The file: its header, the sections' bytes, the sections' headers."""
    body = bytearray(_FILE_HEADER.size)
    headers = b""
    name = 0
    for section in sections:
        body += bytes(-len(body) % _ALIGN)
        headers += _SECTION_HEADER.pack(
            name,
            section.kind,
            section.flags,
            0,
            len(body) if section.kind else 0,
            len(section.data),
            section.link,
            section.first_global,
            _ALIGN if section.kind else 0,
            section.entry_size,
        )
        body += section.data
        name = section_names.index(b"\0", name) + 1
    body += bytes(-len(body) % _ALIGN)
    counts = (_FILE_HEADER.size, 0, 0, _SECTION_HEADER.size, len(sections), len(sections) - 1)
    _FILE_HEADER.pack_into(body, 0, _IDENTIFICATION, _RELOCATABLE, _X86_64, 1, 0, 0, len(body), 0, *counts)
    return bytes(body) + headers
