"""Disks as block devices: loop devices over files, which may also be files of a FUSE mount."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Self

from attrs import define, frozen

from nvdimmfs.sandbox.node import NODE_MODE, NodeNumber
from nvdimmfs.sandbox.seccomp import BLKROSET

# Requests and flags, and the major number (include/uapi/linux/loop.h, include/uapi/linux/major.h).
_LOOP_CTL_REMOVE = 0x4C81
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_LO_FLAGS_DIRECT_IO = 16
_LOOP_MAJOR = 7
#: struct loop_config: the file, the block size, struct loop_info64 of which only the flags are set, what is reserved.
_LOOP_CONFIG = struct.Struct("=II52xI176x64x")

#: How often a loop device that was free may be taken by somebody else before this one takes it.
_TRIES = 32


@define(eq=False)
class LoopNode:
    """A disk that is a block device.

    Attributes:
        place: its node.
        number: the loop device's.
        loop: the device, open: it is free again when the last who has it open closes it.
        spare: what removes the device from the host then; None when the host had it before.
    """

    place: Path
    number: NodeNumber
    loop: int
    spare: int | None

    def is_claimed(self) -> bool:
        """Whether somebody has it for themselves, such as a mounted file system."""
        try:
            os.close(os.open(self.place, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as failure:
            return failure.errno == errno.EBUSY
        return False

    def set_read_only(self, *, read_only: bool) -> None:
        """Let it refuse writes, or take them."""
        _set_read_only(self.loop, read_only=read_only)

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.place.unlink()
        with contextlib.suppress(OSError):
            _set_read_only(self.loop, read_only=False)
        with contextlib.suppress(OSError):  # the machine's disk has gone, but takes what is on its way
            os.fsync(self.loop)
        os.close(self.loop)
        if self.spare is not None:
            with contextlib.suppress(OSError):  # somebody has it mounted still
                fcntl.ioctl(self.spare, _LOOP_CTL_REMOVE, self.number.minor)


@frozen
class LoopDevices:
    """The host's loop devices.

    Attributes:
        control: an open /dev/loop-control.
        hosts: the names of those that the host has without this.
    """

    control: int
    hosts: Collection[str]

    @classmethod
    def of_host(cls) -> Self | None:
        """Those of this host; None where there are none, or not for this process."""
        try:
            control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        return cls(control, {entry.name for entry in Path("/sys/block").glob("loop*")})

    def over(self, file: Path, place: Path, block_size: int, *, read_only: bool) -> LoopNode:
        """A block device with the bytes of a file.

        It bypasses the page cache of the file: the engine changes that behind its back.

        Args:
            file: the bytes.
            place: where the node is to be.
            block_size: bytes of a logical block; a power of two (EINVAL).
            read_only: whether the device refuses writes, until somebody allows them (blockdev(8)).
        """
        backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            for _ in range(_TRIES):
                minor = fcntl.ioctl(self.control, _LOOP_CTL_GET_FREE)
                os.mknod(place, stat.S_IFBLK | NODE_MODE, os.makedev(_LOOP_MAJOR, minor))
                try:
                    loop = _configured(place, backing, block_size)
                except OSError as failure:
                    place.unlink()
                    if failure.errno != errno.EBUSY:  # somebody else was quicker
                        raise
                    continue
                _set_read_only(loop, read_only=read_only)
                spare = None if f"loop{minor}" in self.hosts else self.control
                return LoopNode(place, NodeNumber(_LOOP_MAJOR, minor), loop, spare)
            raise OSError(errno.EBUSY, "other processes claim every free loop device")
        finally:
            os.close(backing)


def _configured(place: Path, backing: int, block_size: int) -> int:
    """Open a loop device that is free and give it its file.

    While it is open for this process alone, nobody else can take it.
    """
    claim = os.open(place, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    try:
        flags = _LO_FLAGS_DIRECT_IO | _LO_FLAGS_AUTOCLEAR
        fcntl.ioctl(claim, _LOOP_CONFIGURE, _LOOP_CONFIG.pack(backing, block_size, flags))
        return os.open(place, os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(claim)


def _set_read_only(loop: int, *, read_only: bool) -> None:
    """Let a device refuse writes or not.  The flag stays with it when its file goes, for whoever has it next."""
    fcntl.ioctl(loop, BLKROSET, struct.pack("=i", read_only))
