"""Which loop devices of the host a sandbox has added, in records that outlive it.

The kernel detaches the file of a loop device whose last opener is gone (autoclear), and keeps the device itself.  A
sandbox deletes those that it added.  If it is killed before, its reaper does so (`reaper`), and if that is killed as
well, the next sandbox (`sweep`).  So that none of them deletes a device of anybody else, each sandbox has a directory
below `DIRECTORY`, with a file for each device that it uses, and holds a lock on the directory while it or its reaper
lives.  The file names the device by its number and holds its instance, the inode number of its directory in sysfs,
which no later device of the same number has.

A symbolic link in the directory leads from the file that a device is attached to, to the device's record, so that
another sandbox of the same machine need not read a thousand records to find one.  It is a hint: it is made before the
record names the file and removed after it names another one, and only the record counts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from attrs import Factory, define, frozen

from nvdimmfs.sandbox.device_node import NodeNumber
from nvdimmfs.sandbox.small_files import read_small

#: On the host, where it has the directories of the sandboxes.
DIRECTORY = Path("/run/nvdimmfs-loop")

# Requests (include/uapi/linux/loop.h).
_LOOP_CTL_ADD = 0x4C80
_LOOP_CTL_REMOVE = 0x4C81

#: The least number of a device that a sandbox adds: LOOP_CTL_GET_FREE, with which other programs find a device, adds
#: the lowest number that does not exist (loop_control_get_free, drivers/block/loop.c, Linux 6.1).
_FIRST_NUMBER = 256

#: Marks the record of a device that its sandbox no longer uses and is about to delete.
_LEAVING = "~"

#: Begins the name of a link from a file to the record of its device.
_LINK = "@"

#: Deleting a device takes the kernel tens of milliseconds, in which it waits; so many are deleted at a time.
_DELETIONS_AT_A_TIME = 16

#: The pauses between attempts to delete devices that are still open, in seconds: the first and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1


@frozen
class BackingFile:
    """A file that a loop device is attached to: its file system (st_dev) and inode number."""

    device: int
    inode: int

    @property
    def link(self) -> str:
        """The name of the link to its device's record."""
        return f"{_LINK}{self.device}.{self.inode}"

    def is_in(self, record: str) -> bool:
        """Whether that is the content of a record of a device that is attached to this file."""
        return record.endswith(f" {self.device} {self.inode}")


@frozen
class HostLoops:
    """The host's loop devices, as a sandbox reaches them after its /dev, /sys and /run have been replaced.

    Attributes:
        control: an open /dev/loop-control.
        disks: the open directory of virtual disks in the host's sysfs.
    """

    control: int
    disks: int

    @classmethod
    def open(cls) -> Self:
        """Open them.  OSError where the host has no loop devices, or this process may not use them."""
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            return cls(control, os.open("/sys/devices/virtual/block", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            os.close(control)
            raise

    def close(self) -> None:
        """Close both files."""
        os.close(self.control)
        os.close(self.disks)

    def numbers(self) -> set[int]:
        """The numbers of all loop devices."""
        names = (name.removeprefix("loop") for name in _names(self.disks) if name.startswith("loop"))
        return {int(name) for name in names if name.isdecimal()}

    def add(self, number: int) -> None:
        """Add a device with that number.  EEXIST when there is one; EINVAL beyond the largest number."""
        fcntl.ioctl(self.control, _LOOP_CTL_ADD, number)

    def instance(self, number: int) -> int:
        """What distinguishes this device from later ones with the same number.  FileNotFoundError."""
        return os.stat(f"loop{number}", dir_fd=self.disks).st_ino

    def node_number(self, number: int) -> NodeNumber:
        """The number of a device's node, which is not the device's own number where loop devices have partitions."""
        major, _, minor = read_small(f"loop{number}/dev", self.disks).strip().partition(":")
        return NodeNumber(int(major), int(minor))

    def delete(self, number: int, instance: int | None) -> bool:
        """Delete a device unless it is open or attached to a file; whether it is gone.

        A device that was added later with the same number is left alone.  `instance` is None when the sandbox was
        killed while it added the device.
        """
        try:
            if instance not in (None, self.instance(number)):
                return True
            fcntl.ioctl(self.control, _LOOP_CTL_REMOVE, number)
        except OSError as failure:
            return failure.errno in (errno.ENOENT, errno.ENODEV)
        return True


@define(eq=False)
class LoopRecords:
    """The loop devices of this sandbox.

    Attributes:
        host: the host's loop devices.
        base: the open `DIRECTORY`.
        own: the open directory of this sandbox, which is locked.
        name: its name.
    """

    host: HostLoops
    base: int
    own: int
    name: str
    # The highest number of a device of this sandbox, and the numbers that were taken when a device was added.
    _highest: int = _FIRST_NUMBER - 1
    _taken: set[int] = Factory(set)

    @classmethod
    def create(cls, host: HostLoops) -> Self:
        """Create the directory of a new sandbox.  OSError where that is not possible."""
        name = f"{_boot()}.{os.urandom(8).hex()}"
        while True:
            with contextlib.suppress(FileExistsError):
                DIRECTORY.mkdir(mode=0o700)
            with contextlib.suppress(FileNotFoundError):  # another sandbox has just removed an empty directory
                return cls._create(host, name)

    @classmethod
    def _create(cls, host: HostLoops, name: str) -> Self:
        base = _open_directory(DIRECTORY)
        try:
            os.mkdir(name, mode=0o700, dir_fd=base)
            own = _open_directory(name, base)
        except OSError:
            os.close(base)
            raise
        fcntl.flock(own, fcntl.LOCK_EX)
        if os.fstat(own).st_nlink == 0:
            os.close(own)
            os.close(base)
            raise FileNotFoundError
        return cls(host, base, own, name)

    @classmethod
    def received(cls, name: str, descriptors: Sequence[int]) -> Self:
        """Those of a sandbox with that name, in a process that has received `descriptors`."""
        control, disks, base, own = descriptors
        return cls(HostLoops(control, disks), base, own, name)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The open files with which a process deletes the devices."""
        return (self.host.control, self.host.disks, self.base, self.own)

    def close(self) -> None:
        """Unlock the directory, if no other process shares the lock."""
        os.close(self.own)
        os.close(self.base)

    def add_device(self) -> int:
        """Add a loop device to the host and return its number; no other process has added it.

        The number is above those of this sandbox: lsblk(8) sorts by it, and a partition comes after its disk.

        Raises:
            OSError: ENOSPC when all numbers are taken; what the kernel reports otherwise.
        """
        for number in itertools.count(self._highest + 1):
            if number in self._taken:
                continue
            self._write(number, "")
            try:
                self.host.add(number)
                self._write(number, str(self.host.instance(number)))
            except OSError as failure:
                os.unlink(str(number), dir_fd=self.own)
                if failure.errno == errno.EINVAL:
                    raise OSError(errno.ENOSPC, "all numbers of loop devices are taken") from None
                if failure.errno not in (errno.EEXIST, errno.ENOENT):  # it exists, or another sandbox has deleted it
                    raise
                self._taken = self.host.numbers()
                continue
            self._highest = number
            return number
        raise AssertionError

    def record(self, number: int, file: BackingFile) -> None:
        """Record that this sandbox uses a device, and for which file.  FileNotFoundError when it has been deleted."""
        instance = self.host.instance(number)
        former = self._file_of(number)
        if former != file:
            self._link(file, number)
        self._write(number, f"{instance} {file.device} {file.inode}")
        if former not in (None, file):
            self._unlink(former)
        self._highest = max(self._highest, number)

    def devices_of_others(self, file: BackingFile) -> list[int]:
        """The devices that other sandboxes have attached to a file, according to their records."""
        found = []
        for sandbox in _names(self.base):
            if sandbox == self.name:
                continue
            with contextlib.suppress(FileNotFoundError):  # it has none, or is about to delete it
                record = os.readlink(f"{sandbox}/{file.link}", dir_fd=self.base)
                if file.is_in(read_small(f"{sandbox}/{record}", self.base)):
                    found.append(int(record))
        return found

    def names_of_others(self) -> frozenset[str]:
        """The names of the devices of other sandboxes."""
        records = _records_of_others(self.base, self.name)
        return frozenset(f"loop{record.removesuffix(_LEAVING)}" for _, record in records)

    def delete_devices(self, patience: float) -> bool:
        """Delete all devices of this sandbox, and then its directory; whether none is left.

        Args:
            patience: how long to wait for devices that are still open, in seconds.
        """
        return _delete_recorded(self.host, self.base, self.name, self.own, patience)

    def _file_of(self, number: int) -> BackingFile | None:
        """The file that this sandbox has recorded for a device; None without one."""
        try:
            words = read_small(str(number), self.own).split()
        except FileNotFoundError:
            return None
        return BackingFile(*map(int, words[1:])) if len(words) > 1 else None

    def _link(self, file: BackingFile, number: int) -> None:
        """Lead from a file to a record; one that leads to another record is replaced."""
        self._unlink(file)
        os.symlink(str(number), file.link, dir_fd=self.own)

    def _unlink(self, file: BackingFile) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file.link, dir_fd=self.own)

    def _write(self, number: int, text: str) -> None:
        """Write a record; one of the same instance is readable as such at any moment."""
        descriptor = os.open(str(number), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode=0o600, dir_fd=self.own)
        try:
            os.ftruncate(descriptor, os.write(descriptor, text.encode()))
        finally:
            os.close(descriptor)


def is_added(name: str) -> bool:
    """Whether a loop device of that name may be one that a sandbox has added, and deletes."""
    number = name.removeprefix("loop")
    return number != name and number.isdecimal() and int(number) >= _FIRST_NUMBER


def sweep(host: HostLoops) -> None:
    """Delete the loop devices of sandboxes that were killed, except those in use."""
    try:
        base = _open_directory(DIRECTORY)
    except OSError:
        return  # no sandbox has left any
    try:
        for name in _names(base):
            with contextlib.suppress(OSError):  # it belongs to a sandbox that lives, or another sweep was quicker
                _sweep(host, base, name)
    finally:
        os.close(base)


def _sweep(host: HostLoops, base: int, name: str) -> None:
    own = _open_directory(name, base)
    try:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if name.partition(".")[0] != _boot():  # the devices ended with the kernel that had them
            for record in _names(own):
                os.unlink(record, dir_fd=own)
        _delete_recorded(host, base, name, own, patience=0)
    finally:
        os.close(own)


def _delete_recorded(host: HostLoops, base: int, name: str, own: int, patience: float) -> bool:
    """Delete the devices that a sandbox has records of, the records, and its directory; whether none is left.

    A device that another sandbox has a record of is left to that one.  Of two that share a device and end at the same
    time, at least one finds no record of the other, because each marks its own first.  A record of another instance is
    none of the device, nor is an empty one: that sandbox is about to find that it cannot add the device.
    """
    for record in _records(own):
        if not record.endswith(_LEAVING):
            os.rename(record, record + _LEAVING, src_dir_fd=own, dst_dir_fd=own)
    others = {
        (record, _recorded_instance(base, f"{sandbox}/{record}")) for sandbox, record in _records_of_others(base, name)
    }
    for record in _records(own):
        number = record.removesuffix(_LEAVING)
        instance = _recorded_instance(own, record) or _instance(host, int(number))
        if instance is not None and (number, instance) in others:
            os.unlink(record, dir_fd=own)
    _delete_devices(host, own, patience)
    if _records(own):
        return False
    for link in _names(own):
        os.unlink(link, dir_fd=own)
    _remove_directory(base, name)
    return True


def _delete_devices(host: HostLoops, own: int, patience: float) -> None:
    def delete(record: str) -> None:
        if host.delete(int(record.removesuffix(_LEAVING)), _recorded_instance(own, record)):
            os.unlink(record, dir_fd=own)

    deadline = time.monotonic() + patience
    pause = _FIRST_PAUSE
    while records := _records(own):
        _in_threads(delete, records)
        if time.monotonic() >= deadline:
            break
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _instance(host: HostLoops, number: int) -> int | None:
    """The instance of the device that has that number now; None when there is no such device."""
    try:
        return host.instance(number)
    except FileNotFoundError:
        return None


def _recorded_instance(directory: int, path: str) -> int | None:
    """The instance in a record; None when the device has yet to be added, or the record is gone."""
    try:
        words = read_small(path, directory).split()
    except FileNotFoundError:
        return None
    return int(words[0]) if words else None


def _records_of_others(base: int, name: str) -> Iterator[tuple[str, str]]:
    for sandbox in _names(base):
        if sandbox != name:
            for record in _names_below(base, sandbox):
                if not record.startswith(_LINK):
                    yield sandbox, record


def _in_threads(act: Callable[[str], None], names: list[str]) -> None:
    """Act on each name, on several at a time."""

    def act_on_some() -> None:
        while names:
            with contextlib.suppress(IndexError, OSError):
                act(names.pop())

    threads = [threading.Thread(target=act_on_some) for _ in names[1:_DELETIONS_AT_A_TIME]]
    with contextlib.suppress(RuntimeError):  # there can be no more threads
        for thread in threads:
            thread.start()
    act_on_some()
    for thread in threads:
        if thread.ident is not None:
            thread.join()


def _remove_directory(base: int, name: str) -> None:
    """Remove a sandbox's directory, and `DIRECTORY` after the last one."""
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=base)
        DIRECTORY.rmdir()


def _open_directory(path: Path | str, parent: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)


def _names(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def _records(directory: int) -> list[str]:
    """The names in a sandbox's directory, without the links."""
    return [name for name in _names(directory) if not name.startswith(_LINK)]


def _names_below(parent: int, directory: str) -> list[str]:
    """The names in a directory; none when it has just been removed."""
    try:
        descriptor = _open_directory(directory, parent)
    except OSError:
        return []
    try:
        return _names(descriptor)
    finally:
        os.close(descriptor)


def _boot() -> str:
    """The id of this boot of the host (random(4))."""
    return read_small("/proc/sys/kernel/random/boot_id").strip()
