"""ioctl(2) on the machine's character and block devices, passed on to the machine."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Container, Iterator

from attrs import define

from nvdimmfs.formats.block_requests import BLKROSET, BLKRRPART
from nvdimmfs.formats.control import Ioctl
from nvdimmfs.host import CAP_SYS_ADMIN
from nvdimmfs.sandbox.calling_thread import CallingThread, ThreadFile, ThreadMemory
from nvdimmfs.sandbox.control_client import ArgumentMemory, ControlClient
from nvdimmfs.sandbox.device_node import NodeNumber
from nvdimmfs.units import U32_MASK


class IoctlSyscall:
    """Executes ioctl(2).

    Args:
        client: the machine.
        devices: the kinds and numbers of the machine's device nodes.
        terminal_filesystem: the file system (st_dev) of its character devices.  The host's terminals have the same
            numbers, on another file system.
        process_events: applies the machine's pending events.
        has_claimed_partitions: whether a partition of the disk with that number is mounted or otherwise claimed.
    """

    def __init__(
        self,
        client: ControlClient,
        devices: Container[tuple[str, NodeNumber]],
        terminal_filesystem: int,
        process_events: Callable[[], None],
        has_claimed_partitions: Callable[[NodeNumber], bool],
    ) -> None:
        self._client = client
        self._devices = devices
        self._terminal_filesystem = terminal_filesystem
        self._process_events = process_events
        self._has_claimed_partitions = has_claimed_partitions

    def execute(self, caller: CallingThread, arguments: tuple[int, ...]) -> int | None:
        """The call's return value, or a negative errno; None to have the kernel execute the call."""
        descriptor, request, address, *_ = arguments
        file = caller.file(descriptor & U32_MASK)
        if file is None or not self.is_machine_device(file):
            return None
        call = Ioctl(
            file.kind,
            file.number.major,
            file.number.minor,
            request & U32_MASK,
            address,
            writable=file.is_writable,
            privileged=caller.has_capability(CAP_SYS_ADMIN),
            thread=caller.thread,
            uid=caller.user,
            comm=caller.comm,
        )
        if file.kind == "block" and call.request == BLKRRPART:
            if call.privileged and self._has_claimed_partitions(file.number):
                return -errno.EBUSY
            _sync(file)
        memory = _KeptInput(ThreadMemory(caller, address))
        value = self._client.ioctl(call, memory)
        if file.kind == "block":
            self._process_events()
            if call.request == BLKROSET and value == 0:
                _set_read_only(file, memory.last)
        return value

    def is_machine_device(self, file: ThreadFile) -> bool:
        """Whether it is the node of one of the machine's devices."""
        if file.kind == "char" and file.status.filesystem != self._terminal_filesystem:
            return False
        return (file.kind, file.number) in self._devices


@define
class _KeptInput:
    """The memory that the argument points to, of which the bytes that the machine read last are kept."""

    memory: ArgumentMemory
    last: bytes = b""

    def read(self, offset: int, length: int) -> tuple[bytes, bytes]:
        self.last, ahead = self.memory.read(offset, length)
        return self.last, ahead

    def write(self, offset: int, data: bytes) -> None:
        self.memory.write(offset, data)


def _sync(file: ThreadFile) -> None:
    """Write the loop device's page cache back to the machine's disk, such as a new partition table."""
    with _reopened(file) as device:
        os.fsync(device)


def _set_read_only(file: ThreadFile, value: bytes) -> None:
    """Give the loop device in front of the disk the flag that the machine has taken.

    If the kernel executed the call instead, it would look at the descriptor and at the value once more.
    """
    with _reopened(file) as device:
        fcntl.ioctl(device, BLKROSET, value)


@contextlib.contextmanager
def _reopened(file: ThreadFile) -> Iterator[int]:
    device = file.reopen()
    try:
        yield device
    finally:
        os.close(device)
