"""The system calls that change modules, refused where and as the kernel does (kernel/module/main.c, Linux 6.1)."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from nvdimmfs.formats.elf_module import FILE_HEADER_SIZE, module_name
from nvdimmfs.sandbox.caller import Caller, OpenFile
from nvdimmfs.sandbox.link import MachineLink

#: The capability that it takes (CAP_SYS_MODULE, include/uapi/linux/capability.h).
_CAP_SYS_MODULE = 16

#: Bytes of a module's name at most, with its end (MODULE_NAME_LEN, include/linux/module.h, 64-bit).
_MODULE_NAME_LENGTH = 56

#: Flags of finit_module(2) (include/uapi/linux/module.h); a kernel without decompression refuses the last.
_KNOWN_FLAGS = 0x7
_COMPRESSED_FILE = 0x4

#: A file as long as that is too large to be read at once (kernel_read_file, fs/kernel_read_file.c).
_FIRST_LENGTH_TOO_LARGE = 1 << 31

#: The largest image that is kept to look into; no module of a machine has more bytes.
_LARGEST_IMAGE = 64 << 20

#: What /proc calls a file that was never in a folder (memfd_create(2)); nobody counts as its writer.
_NEVER_IN_A_FOLDER = "/memfd:"

#: How much of a caller's memory is copied at once.
_PIECE = 1 << 20

_WORD = 0xFFFFFFFF

#: Where the machine's modules are seen.
_LOADED = Path("/sys/module")


class ModuleCalls:
    """Answers them on a machine.  What is not allowed or not possible is an OSError."""

    def __init__(self, link: MachineLink) -> None:
        self._link = link

    def delete_module(self, caller: Caller, arguments: tuple[int, ...]) -> int:
        """Unload a module.  EPERM, EFAULT, and whatever the machine says."""
        _require_right(caller)
        return self._link.unload(caller.text(arguments[0], _MODULE_NAME_LENGTH).decode("latin-1"))

    def init_module(self, caller: Caller, arguments: tuple[int, ...]) -> int:
        """Load an image.  EPERM, ENOEXEC for what is none, ENOMEM, EFAULT, and whatever the machine says."""
        _require_right(caller)
        address, length, parameters, *_ = arguments
        if length < FILE_HEADER_SIZE:
            raise _error(errno.ENOEXEC)
        if length > _memory_size():
            raise _error(errno.ENOMEM)
        return self._load(_image(caller, address, length), caller, parameters)

    def finit_module(self, caller: Caller, arguments: tuple[int, ...]) -> int:
        """Load a file.

        EPERM, EINVAL for unknown flags and for what is not a file with bytes, EBADF, ETXTBSY when it is open for
        writing, EFBIG, EIO, EOPNOTSUPP for a compressed one, ENOEXEC, EFAULT, and whatever the machine says.
        """
        _require_right(caller)
        descriptor, parameters, flags, *_ = arguments
        if flags & _WORD & ~_KNOWN_FLAGS:
            raise _error(errno.EINVAL)
        file = caller.file(descriptor & _WORD)
        if file is None or not file.is_readable:
            raise _error(errno.EBADF)
        image = _content(caller, file)
        if flags & _COMPRESSED_FILE:
            raise _error(errno.EOPNOTSUPP)
        return self._load(image, caller, parameters)

    def _load(self, image: bytes, caller: Caller, parameters: int) -> int:
        try:
            name = module_name(image)
        except ValueError:
            raise _error(errno.ENOEXEC) from None
        if not (_LOADED / name).exists():  # one that is loaded is refused before its parameters are looked at
            caller.text(parameters, _LARGEST_IMAGE)
        return self._link.load(name)


def _require_right(caller: Caller) -> None:
    if not caller.has_capability(_CAP_SYS_MODULE):
        raise _error(errno.EPERM)


def _image(caller: Caller, address: int, length: int) -> bytes:
    """An image in memory.  All of it must be there, even where it is too long to be looked into."""
    image = bytearray()
    for offset in range(0, length, _PIECE):
        piece = caller.read(address + offset, min(_PIECE, length - offset))
        if len(image) < _LARGEST_IMAGE:
            image += piece
    return bytes(image)


def _content(caller: Caller, file: OpenFile) -> bytes:
    """An image in a file."""
    length = file.status.st_size
    if not stat.S_ISREG(file.status.st_mode):
        raise _error(errno.EINVAL)
    if file.is_writable and not caller.path(file).startswith(_NEVER_IN_A_FOLDER):
        raise _error(errno.ETXTBSY)
    if length <= 0:
        raise _error(errno.EINVAL)
    if length >= _FIRST_LENGTH_TOO_LARGE:
        raise _error(errno.EFBIG)
    wanted = min(length, _LARGEST_IMAGE)
    with os.fdopen(caller.open(file), "rb") as content:
        image = content.read(wanted)
    if len(image) < wanted:
        raise _error(errno.EIO)
    return image


def _memory_size() -> int:
    """Bytes of memory; the kernel makes no room for an image that is longer."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
