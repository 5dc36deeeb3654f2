"""Disks as block devices: loop devices over files, including files of a FUSE mount."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import Factory, define

from nvdimmfs.errors import REMEDIES
from nvdimmfs.formats.block_requests import BLKFLSBUF, BLKROSET
from nvdimmfs.sandbox.device_node import NODE_MODE, NodeNumber
from nvdimmfs.sandbox.errors import step
from nvdimmfs.sandbox.loop_records import BackingFile, LoopRecords

# Requests and flags (include/uapi/linux/loop.h).
_LOOP_CONFIGURE = 0x4C0A
_LOOP_GET_STATUS64 = 0x4C05
_LO_FLAGS_AUTOCLEAR = 4
_LO_FLAGS_DIRECT_IO = 16
#: struct loop_config: the file, the block size, struct loop_info64 with only its flags set, and reserved bytes.
_LOOP_CONFIG = struct.Struct("=II52xI176x64x")
#: struct loop_info64: file system and inode number of the file; the rest is skipped.
_LOOP_STATUS = struct.Struct("=QQ216x")

#: How long to wait for another sandbox that creates a device for the same machine, in seconds.
_LONGEST_WAIT = 5.0
_PAUSE = 0.01

#: The flags that give a container all loop devices: the node with which to find a free one, and their major number.
_FOR_CONTAINERS = "start the container with `--device /dev/loop-control --device-cgroup-rule 'b 7:* rmw'`"

#: What helps when a device cannot be created, by errno.
_REMEDIES = {
    errno.ENOENT: _FOR_CONTAINERS,
    errno.EPERM: _FOR_CONTAINERS,
    errno.EACCES: _FOR_CONTAINERS,
    errno.EROFS: "make /run writable",
    errno.ENOSPC: "`losetup -D` detaches unused loop devices",
}


@define(eq=False)
class LoopNode:
    """A disk that is a block device.

    Attributes:
        path: its node.
        number: the node's number.
        loop: the open loop device; the kernel detaches the file when the last opener closes it.
        device: the loop device's number.
        spare: where to put that number when the disk is gone; None when another sandbox added the device.
    """

    path: Path
    number: NodeNumber
    loop: int
    device: int
    spare: list[int] | None

    def is_claimed(self) -> bool:
        """Whether the device is claimed exclusively, such as by a mounted file system."""
        try:
            os.close(os.open(self.path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as failure:
            return failure.errno == errno.EBUSY
        return False

    def set_read_only(self, *, read_only: bool) -> None:
        """Make the device refuse writes, or accept them again."""
        fcntl.ioctl(self.loop, BLKROSET, struct.pack("=i", read_only))

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        with contextlib.suppress(OSError):  # the machine's disk is gone, but still accepts writes that are under way
            fcntl.ioctl(self.loop, BLKFLSBUF)
        os.close(self.loop)
        if self.spare is not None:
            self.spare.append(self.device)


@define(eq=False)
class LoopDevices:
    """Creates block devices.

    Attributes:
        records: the loop devices of this sandbox.
        delete: has them deleted, when they are closed and there will be no other; does not wait.
        lock: a directory to lock while a device is created, where other sandboxes use the same machine.  A disk is one
            device in all of them, and so has one page cache, and the number that sysfs shows.
        spare: the numbers of devices that have no disk at the moment.  The next disks get them, because the kernel
            needs tens of milliseconds to delete a device.
    """

    records: LoopRecords
    delete: Callable[[], None]
    lock: Path | None = None
    spare: list[int] = Factory(list)

    def attach(self, file: Path, path: Path, block_size: int, *, read_only: bool) -> LoopNode:
        """Create a block device over a file.

        The device uses direct I/O, past the page cache of the file, because the engine changes the file's bytes itself.

        Args:
            file: the file.
            path: where to create the node.
            block_size: bytes of a logical block; a power of two (EINVAL).
            read_only: whether the device refuses writes, until BLKROSET permits them (blockdev(8)).

        Raises:
            OSError: EBUSY when another sandbox holds the lock for too long; ENOSPC when all numbers of loop devices are
                taken; what the kernel reports otherwise.
        """
        backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            identity = _identity(backing)
            with self._devices_of_others(identity) as others:
                for device in others:
                    shared = self._share(device, path, identity)
                    if shared is not None:
                        return shared
                node = self._new(backing, path, block_size)
                try:
                    self.records.record(node.device, identity)
                    node.set_read_only(read_only=read_only)
                except OSError:
                    node.remove()
                    raise
                return node
        finally:
            os.close(backing)

    def _new(self, backing: int, path: Path, block_size: int) -> LoopNode:
        """Attach a file to a device of this sandbox: to one that has no disk, or to a new one."""
        for device in itertools.chain(sorted(self.spare), self._added()):
            try:
                number = self._make_node(device, path)
                loop = _configure(path, backing, block_size)
            except OSError as failure:
                path.unlink(missing_ok=True)
                if failure.errno == errno.EBUSY:  # another program uses it: found it free, or looks at what it is
                    continue
                if failure.errno == errno.ENOENT:  # another program has deleted it
                    self.spare.remove(device)
                    continue
                raise
            self.spare.remove(device)
            return LoopNode(path, number, loop, device, self.spare)
        raise AssertionError

    def _added(self) -> Iterator[int]:
        while True:
            device = self.records.add_device()
            self.spare.append(device)
            yield device

    def _share(self, device: int, path: Path, file: BackingFile) -> LoopNode | None:
        """Use the device that another sandbox has attached to a file; None when it has detached it since."""
        try:
            self.records.record(device, file)  # before it is opened: a sandbox that ends leaves it to this one
            number = self._make_node(device, path)
            loop = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            path.unlink(missing_ok=True)
            return None
        if _backing_file(loop) == file:
            return LoopNode(path, number, loop, device, None)
        os.close(loop)
        path.unlink()
        with contextlib.suppress(FileNotFoundError):  # open(2) adds a device that was deleted (loop_probe in loop.c)
            self.records.record(device, file)
        return None

    def _make_node(self, device: int, path: Path) -> NodeNumber:
        number = self.records.host.node_number(device)
        os.mknod(path, stat.S_IFBLK | NODE_MODE, os.makedev(number.major, number.minor))
        return number

    @contextlib.contextmanager
    def _devices_of_others(self, file: BackingFile) -> Iterator[list[int]]:
        """The devices that other sandboxes have attached to a file; no other one is attached to it meanwhile."""
        if self.lock is None:
            yield []
            return
        descriptor = os.open(self.lock, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(descriptor)
            yield self.records.devices_of_others(file)
        finally:
            os.close(descriptor)


def raise_if_limited(failure: OSError) -> None:
    """Raise a SandboxError for a limit of this process or the host, which would also make a later step fail."""
    if failure.errno in REMEDIES:
        with step("create a block device"):
            raise failure


def why_files(failure: OSError) -> str:
    """Why disks are regular files instead of block devices, and what would help, in one line."""
    where = f"{failure.filename}: " if failure.filename else ""
    if failure.errno == errno.ENOENT and not Path("/sys/module/loop").exists():
        remedy = "run `modprobe loop` as root on the host"
    else:
        remedy = _REMEDIES.get(failure.errno or 0, "`nvdimmfs doctor` checks this host")
    return f"disks are regular files, which cannot be mounted: {where}{failure.strerror or failure}; {remedy}"


def _lock(descriptor: int) -> None:
    """Lock a file that other sandboxes lock for moments.  EBUSY when one of them does not unlock it."""
    deadline = time.monotonic() + _LONGEST_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "another sandbox of the machine is stopped while it creates one") from None
            time.sleep(_PAUSE)
        else:
            return


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


def _identity(file: int) -> BackingFile:
    status = os.fstat(file)
    return BackingFile(status.st_dev, status.st_ino)


def _backing_file(loop: int) -> BackingFile | None:
    """The file that an open loop device is attached to; None when it has none."""
    try:
        status = fcntl.ioctl(loop, _LOOP_GET_STATUS64, bytes(_LOOP_STATUS.size))
    except OSError:
        return None
    return BackingFile(*_LOOP_STATUS.unpack(status))
