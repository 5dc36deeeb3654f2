"""Disks as block devices: loop devices over files, including files of a FUSE mount."""

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

from nvdimmfs.formats.block_requests import BLKROSET
from nvdimmfs.sandbox.device_node import NODE_MODE, NodeNumber

# Requests and flags, and the major number (include/uapi/linux/loop.h, include/uapi/linux/major.h).
_LOOP_CTL_REMOVE = 0x4C81
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_LO_FLAGS_DIRECT_IO = 16
_LOOP_MAJOR = 7
#: struct loop_config: the file, the block size, struct loop_info64 with only its flags set, and reserved bytes.
_LOOP_CONFIG = struct.Struct("=II52xI176x64x")

#: How often to try again when another process takes the loop device that was just found free.
_TRIES = 32


@define(eq=False)
class LoopNode:
    """A disk that is a block device.

    Attributes:
        path: its node.
        number: the loop device's number.
        loop: the open loop device; the device becomes free when its last opener closes it.
        removal_control: an open /dev/loop-control with which to delete the device afterwards; None for a device that
            the host had before.
    """

    path: Path
    number: NodeNumber
    loop: int
    removal_control: int | None

    def is_claimed(self) -> bool:
        """Whether the device is claimed exclusively, such as by a mounted file system."""
        try:
            os.close(os.open(self.path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as failure:
            return failure.errno == errno.EBUSY
        return False

    def set_read_only(self, *, read_only: bool) -> None:
        """Make the device refuse writes, or accept them again."""
        _set_read_only(self.loop, read_only=read_only)

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        with contextlib.suppress(OSError):
            _set_read_only(self.loop, read_only=False)
        with contextlib.suppress(OSError):  # the machine's disk has gone, but still accepts writes that are under way
            os.fsync(self.loop)
        os.close(self.loop)
        if self.removal_control is not None:
            with contextlib.suppress(OSError):  # it is still mounted
                fcntl.ioctl(self.removal_control, _LOOP_CTL_REMOVE, self.number.minor)


@frozen
class LoopDevices:
    """The host's loop devices.

    Attributes:
        control: an open /dev/loop-control.
        preexisting: the names of the loop devices that the host had before this sandbox.
    """

    control: int
    preexisting: Collection[str]

    @classmethod
    def on_host(cls) -> Self | None:
        """The loop devices of this host; None where it has none, or this process may not use them."""
        try:
            control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        return cls(control, {entry.name for entry in Path("/sys/block").glob("loop*")})

    def attach(self, file: Path, path: Path, block_size: int, *, read_only: bool) -> LoopNode:
        """Create a block device over a file.

        The device uses direct I/O, past the page cache of the file, because the engine changes the file's bytes itself.

        Args:
            file: the file.
            path: where to create the node.
            block_size: bytes of a logical block; a power of two (EINVAL).
            read_only: whether the device refuses writes, until BLKROSET permits them (blockdev(8)).
        """
        backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            for _ in range(_TRIES):
                minor = fcntl.ioctl(self.control, _LOOP_CTL_GET_FREE)
                os.mknod(path, stat.S_IFBLK | NODE_MODE, os.makedev(_LOOP_MAJOR, minor))
                try:
                    loop = _configure(path, backing, block_size)
                except OSError as failure:
                    path.unlink()
                    if failure.errno != errno.EBUSY:  # EBUSY: another process was quicker
                        raise
                    continue
                _set_read_only(loop, read_only=read_only)
                removal_control = None if f"loop{minor}" in self.preexisting else self.control
                return LoopNode(path, NodeNumber(_LOOP_MAJOR, minor), loop, removal_control)
            raise OSError(errno.EBUSY, f"other processes took {_TRIES} free loop devices in a row")
        finally:
            os.close(backing)


def _configure(path: Path, backing: int, block_size: int) -> int:
    """Attach a file to a free loop device and return the open device.

    The exclusive open in between keeps other processes from taking the device.
    """
    claim = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    try:
        flags = _LO_FLAGS_DIRECT_IO | _LO_FLAGS_AUTOCLEAR
        fcntl.ioctl(claim, _LOOP_CONFIGURE, _LOOP_CONFIG.pack(backing, block_size, flags))
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(claim)


def _set_read_only(loop: int, *, read_only: bool) -> None:
    """Set the device's read-only flag, which the kernel keeps when the file is detached: the next user inherits it."""
    fcntl.ioctl(loop, BLKROSET, struct.pack("=i", read_only))
