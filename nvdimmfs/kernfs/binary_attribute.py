"""Attributes whose content is bytes that never change."""

from __future__ import annotations

import errno

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs.attribute import Attribute


@attrs.frozen
class _Constant:
    """Show and store of such an attribute."""

    data: bytes

    def show(self, _subject: object) -> bytes:
        return self.data

    def store(self, _subject: object, _data: bytes) -> None:
        """EIO: the file cannot be written."""
        raise KernelError(errno.EIO, "the file cannot be written")


class BinaryAttribute(Attribute[object]):
    """An attribute whose st_size is that of its content (struct bin_attribute, include/linux/sysfs.h, Linux 6.1).

    Attributes:
        is_read_from_start: whether a read within the content, but not from its beginning, is EINVAL.
    """

    __slots__ = ("is_read_from_start", "size")

    def __init__(self, name: str, permissions: int, data: bytes, *, is_read_from_start: bool = False) -> None:
        super().__init__(name, permissions, _Constant(data), None)
        self.size = len(data)
        self.is_read_from_start = is_read_from_start
