"""The system calls that change modules, with the kernel's checks in the kernel's order (kernel/module/main.c, 6.1)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from nvdimmfs.formats.elf_module import FILE_HEADER_SIZE, module_name
from nvdimmfs.sandbox.calling_thread import CallingThread
from nvdimmfs.sandbox.control_client import ControlClient
from nvdimmfs.sandbox.errors import os_error
from nvdimmfs.sandbox.thread_file import ThreadFile
from nvdimmfs.units import U32_MASK

#: The capability that the calls require (CAP_SYS_MODULE, include/uapi/linux/capability.h).
_CAP_SYS_MODULE = 16

#: Largest size of a module's name, its NUL included (MODULE_NAME_LEN, include/linux/module.h, 64-bit).
_MODULE_NAME_LENGTH = 56

#: Flags of finit_module(2) (include/uapi/linux/module.h).
_KNOWN_FLAGS = 0x7
_COMPRESSED_FILE = 0x4

#: The kernel refuses to read a file of this size or more in one piece (kernel_read_file, fs/kernel_read_file.c).
_FIRST_LENGTH_TOO_LARGE = 1 << 31

#: How many bytes of an image to keep for parsing; no module of a machine is larger.
_LARGEST_IMAGE = 64 << 20

#: How /proc names a file that never had a directory entry (memfd_create(2)); such a file has no counted writers.
_NEVER_LINKED = "/memfd:"

#: How much of a caller's memory is copied at once.
_PIECE = 1 << 20

#: The machine's loaded modules, in the sandbox's /sys, and the file that is there in a kernel with decompression.
_LOADED = Path("/sys/module")
_COMPRESSION = _LOADED / "compression"


class ModuleSyscalls:
    """Executes the calls on a machine.  Each raises OSError to refuse.

    Args:
        client: the machine.
        open_nodes: returns the names of the machine's device nodes that are in use.
    """

    def __init__(self, client: ControlClient, open_nodes: Callable[[], tuple[str, ...]]) -> None:
        self._client = client
        self._open_nodes = open_nodes

    def delete_module(self, caller: CallingThread, arguments: tuple[int, ...]) -> int:
        """Unload a module.  EPERM, EFAULT, and the machine's refusals."""
        _require_capability(caller)
        name = caller.read_string(arguments[0], _MODULE_NAME_LENGTH).decode("latin-1")
        return self._client.unload(name, caller.thread, self._open_nodes())

    def init_module(self, caller: CallingThread, arguments: tuple[int, ...]) -> int:
        """Load an image from memory.  EPERM, ENOEXEC for no valid image, ENOMEM, EFAULT, and the machine's refusals."""
        _require_capability(caller)
        address, length, parameters, *_ = arguments
        if length < FILE_HEADER_SIZE:
            raise os_error(errno.ENOEXEC)
        if length > _memory_size():
            raise os_error(errno.ENOMEM)
        return self._load(_image_in_memory(caller, address, length), caller, parameters)

    def finit_module(self, caller: CallingThread, arguments: tuple[int, ...]) -> int:
        """Load an image from a file.

        EPERM, EINVAL for unknown flags and for anything but a regular file that is not empty, EBADF, ETXTBSY when the
        file is open for writing, EFBIG, EIO, ENOEXEC, EFAULT, and the machine's refusals.  With the flag for
        compressed files, EOPNOTSUPP, or of a kernel with decompression EINVAL for a file that is none.
        """
        _require_capability(caller)
        descriptor, parameters, flags, *_ = arguments
        if flags & U32_MASK & ~_KNOWN_FLAGS:
            raise os_error(errno.EINVAL)
        file = caller.file(descriptor & U32_MASK)
        if file is None or not file.is_readable:
            raise os_error(errno.EBADF)
        image = _image_in_file(file)
        if flags & _COMPRESSED_FILE:
            image = _decompressed(image)
        return self._load(image, caller, parameters)

    def _load(self, image: bytes, caller: CallingThread, parameters: int) -> int:
        try:
            name = module_name(image)
        except ValueError:
            raise os_error(errno.ENOEXEC) from None
        if not (_LOADED / name).exists():  # the kernel refuses a loaded module before it reads the parameters
            caller.read_string(parameters, _LARGEST_IMAGE)
        return self._client.load(name, caller.thread)


def _require_capability(caller: CallingThread) -> None:
    if not caller.has_capability(_CAP_SYS_MODULE):
        raise os_error(errno.EPERM)


def _image_in_memory(caller: CallingThread, address: int, length: int) -> bytes:
    """An image in the caller's memory.  All of it must be readable, even where it is too long to be kept."""
    image = bytearray()
    for offset in range(0, length, _PIECE):
        piece = caller.read(address + offset, min(_PIECE, length - offset))
        if len(image) < _LARGEST_IMAGE:
            image += piece
    return bytes(image)


def _image_in_file(file: ThreadFile) -> bytes:
    """An image in a file; errors as `finit_module`."""
    if not file.is_regular:
        raise os_error(errno.EINVAL)
    if file.is_writable and not file.path.startswith(_NEVER_LINKED):
        raise os_error(errno.ETXTBSY)
    with os.fdopen(file.reopen(), "rb") as content:
        length = os.fstat(content.fileno()).st_size
        if length <= 0:
            raise os_error(errno.EINVAL)
        if length >= _FIRST_LENGTH_TOO_LARGE:
            raise os_error(errno.EFBIG)
        wanted = min(length, _LARGEST_IMAGE)
        image = content.read(wanted)
    if len(image) < wanted:
        raise os_error(errno.EIO)
    return image


def _decompressed(image: bytes) -> bytes:
    """What an image contains that xz(1) has compressed (module_decompress, kernel/module/decompress.c, Linux 6.12)."""
    if not _COMPRESSION.exists():
        raise os_error(errno.EOPNOTSUPP)
    import lzma  # which no other kernel needs

    try:
        return lzma.decompress(image, lzma.FORMAT_XZ)
    except lzma.LZMAError:
        raise os_error(errno.EINVAL) from None


def _memory_size() -> int:
    """Bytes of RAM; the kernel cannot allocate memory for a longer image."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
