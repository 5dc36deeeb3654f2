"""Notes of ELF files: who wrote them, what they are, and a few bytes (ELF: System V ABI, "Note Section").

Linux keeps the notes of a loaded module in /sys/module/NAME/notes, a file for each section.
"""

from __future__ import annotations

import binascii
import struct

_HEADER = struct.Struct("<III")
_ALIGN = 4

#: The kind of a note of the GNU tools that has the build id (NT_GNU_BUILD_ID, include/uapi/linux/elf.h).
_BUILD_ID = 3

#: Kinds of notes of the kernel (include/linux/build-salt.h and include/linux/elfnote-lto.h, Linux 6.1).
_BUILD_SALT, _LTO = 0x100, 0x101

#: 32-bit words of a build id, which is as long as a SHA-1 digest.
_BUILD_ID_WORDS = 5


#: The kind of a note with properties of a file (NT_GNU_PROPERTY_TYPE_0), and one of them.
_PROPERTIES, _X86_FEATURES, _IBT = 5, 0xC000_0002, 1


def note(owner: str, kind: int, content: bytes) -> bytes:
    """Return a note; name and content are padded to 4 bytes each."""
    name = owner.encode("ascii") + b"\0"
    return _HEADER.pack(len(name), len(content), kind) + _padded(name) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGN)


def kernel_note(salt: str, *, names_lto: bool = True) -> bytes:
    """Return the section .note.Linux of a module.

    Args:
        salt: CONFIG_BUILD_SALT, which distributions set to the kernel's release.
        names_lto: whether a first note is about optimisation by the linker, as in Linux 6.1, not in 5.10.
    """
    of_lto = note("Linux", _LTO, bytes(4)) if names_lto else b""
    return of_lto + note("Linux", _BUILD_SALT, salt.encode("ascii") + b"\0")


def ibt_note() -> bytes:
    """Return the section .note.gnu.property of a module whose code supports indirect branch tracking.

    One property of four bytes, padded to eight (GNU_PROPERTY_X86_FEATURE_1_AND, GNU_PROPERTY_X86_FEATURE_1_IBT; the
    System V ABI's supplement for x86-64).
    """
    return note("GNU", _PROPERTIES, struct.pack("<4I", _X86_FEATURES, 4, _IBT, 0))


def build_id_note(text: str) -> bytes:
    """Return the section .note.gnu.build-id of a file, with an id that follows from a text."""
    words = (binascii.crc32(text.encode("ascii"), start) for start in range(_BUILD_ID_WORDS))
    return note("GNU", _BUILD_ID, struct.pack(f"<{_BUILD_ID_WORDS}I", *words))
