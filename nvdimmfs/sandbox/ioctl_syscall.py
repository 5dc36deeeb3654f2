"""ioctl(2) on the machine's character and block devices, passed on to the machine."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Container, Iterator

from attrs import define, evolve

from nvdimmfs.core.device_uses import DeviceUses
from nvdimmfs.formats.block_requests import (
    BLKROSET,
    BLKRRPART,
    BlockRequest,
    PartitionRequest,
    PartitionRequest32,
)
from nvdimmfs.formats.control import Ioctl
from nvdimmfs.host import CAP_SYS_ADMIN
from nvdimmfs.machine.ioctl_call import PIECE
from nvdimmfs.sandbox.calling_thread import AHEAD, CallingThread, ThreadMemory
from nvdimmfs.sandbox.control_client import ArgumentMemory, ControlClient
from nvdimmfs.sandbox.device_node import NodeNumber, is_terminal_of_another
from nvdimmfs.sandbox.libc import FileStatus
from nvdimmfs.sandbox.thread_file import ThreadFile
from nvdimmfs.units import U32_MASK

#: Requests on disks that the kernel executes on the loop device in front: those on its page cache, and on traces of its
#: requests.
_ON_LOOP_DEVICE = {
    BlockRequest.BLKFLSBUF,
    BlockRequest.BLKZEROOUT,
    BlockRequest.BLKBSZGET,
    BlockRequest.BLKTRACESETUP,
    BlockRequest.BLKTRACESTART,
    BlockRequest.BLKTRACESTOP,
    BlockRequest.BLKTRACETEARDOWN,
}
#: Requests that the machine accepts or refuses; what it has accepted, the kernel executes on the loop device as well.
_ALSO_ON_LOOP_DEVICE = {BlockRequest.BLKBSZSET, BlockRequest.BLKRASET, BlockRequest.BLKFRASET}
#: Requests of 32-bit programs whose number or argument differs from that of 64-bit ones: BLKBSZGET, BLKBSZSET,
#: BLKGETSIZE64, and those that return a long (block/compat_ioctl in Linux 5.8, block/ioctl.c since).  The loop device
#: has the same size.
_OF_32_BITS = {
    0x80041270,
    0x40041271,
    0x80041272,
    BlockRequest.BLKGETSIZE,
    BlockRequest.BLKRAGET,
    BlockRequest.BLKFRAGET,
    BlockRequest.HDIO_GETGEO,
}
#: Requests of 64-bit programs that 32-bit ones cannot make (compat_blkdev_ioctl, block/ioctl.c): BLKGETSIZE64.
_OF_64_BITS = {BlockRequest.BLKGETSIZE64}
#: Requests that the machine refuses while certain nodes are in use (`block.openers`).
_PREVENTED_BY_USES = {BlockRequest.BLKPG, BlockRequest.BLKRRPART, BlockRequest.BLKBSZSET}
#: Requests after which partitions have come or gone.
_SENDING_UEVENTS = {BlockRequest.BLKPG, BlockRequest.BLKRRPART}
#: Requests that the kernel carries out on any file before its driver sees them: FIGETBSZ, FS_IOC_FIEMAP, FIFREEZE,
#: FITHAW, FICLONE, FICLONERANGE and FIDEDUPERANGE (do_vfs_ioctl, fs/ioctl.c, Linux 6.1).
_OF_ANY_FILE = {0x2, 0xC020660B, 0xC0045877, 0xC0045878, 0x40049409, 0x4020940D, 0xC0189436}


#: The part of the request that is the number of a command of a bus or a DIMM.
_COMMAND = 0xFF


class IoctlSyscall:
    """Executes ioctl(2).

    Args:
        client: the machine.
        devices: the kinds and numbers of the machine's device nodes.
        terminal_filesystem: the file system (st_dev) of its character devices.  The host's terminals have the same
            numbers, on another file system.
        process_events: applies the machine's pending events.
        used_nodes: the nodes that are in use while a request is made to the one with that number.
    """

    def __init__(
        self,
        client: ControlClient,
        devices: Container[tuple[str, NodeNumber]],
        terminal_filesystem: int,
        process_events: Callable[[], None],
        used_nodes: Callable[[NodeNumber], DeviceUses],
    ) -> None:
        self._client = client
        self._devices = devices
        self._terminal_filesystem = terminal_filesystem
        self._process_events = process_events
        self._used_nodes = used_nodes
        #: How many bytes of its argument the last call of a command has copied.
        self._reached: dict[int, int] = {}

    def execute(self, caller: CallingThread, arguments: tuple[int, ...], *, is_native: bool = True) -> int | None:
        """The call's return value, or a negative errno; None to have the kernel execute the call.

        Args:
            caller: the calling thread.
            arguments: of ioctl(2).
            is_native: whether it is a call of the architecture that the host's own programs have.
        """
        descriptor, request, address, *_ = arguments
        request &= U32_MASK
        file = caller.file(descriptor & U32_MASK)
        if file is None or not self.is_machine_device(file) or request in _OF_ANY_FILE:
            return None
        if file.kind == "block" and (request in _ON_LOOP_DEVICE or (not is_native and request in _OF_32_BITS)):
            return None
        if file.kind == "block" and not is_native and request in _OF_64_BITS:
            return -errno.ENOTTY
        memory = ThreadMemory(caller, address)
        is_node = file.kind == "char"
        if is_node:
            caller.remember(descriptor & U32_MASK, file)
        call = Ioctl(
            file.kind,
            file.number.major,
            file.number.minor,
            request,
            address,
            writable=not file.is_read_only if is_node else file.is_writable,
            privileged=file.kind == "block" and caller.has_capability(CAP_SYS_ADMIN),
            thread=caller.thread,
            uid=caller.user,
            comm=caller.comm,
            ahead=memory.read_present(self._reached.get(request & _COMMAND, AHEAD)) if is_node else b"",
        )
        if is_node:
            return self._on_node(call, memory)
        is_short = not is_native and request == BlockRequest.BLKPG
        return self._on_disk(file, call, _PartitionOf32Bits(memory) if is_short else memory)

    def _on_node(self, call: Ioctl, memory: ThreadMemory) -> int:
        """On ndctlN, nmemN or daxN.M.

        As many bytes were sent ahead as the last call of that command has copied: mostly, all that the machine reads.
        """
        reach = _Reach(memory)
        value = self._client.ioctl(call, reach)
        if reach.end:
            self._reached[call.request & _COMMAND] = min(max(AHEAD, reach.end), PIECE)
        return value

    def _on_disk(self, file: ThreadFile, call: Ioctl, memory: ArgumentMemory) -> int | None:
        """On a disk or a partition; None to have the kernel execute the call on the loop device, too."""
        if call.request in _PREVENTED_BY_USES:
            used = self._used_nodes(file.number)
            call = evolve(call, open_nodes=tuple(sorted(used.open)), claimed_nodes=tuple(sorted(used.claimed)))
        if call.request == BLKRRPART:
            _sync(file)
        kept = _KeptInput(memory)
        value = self._client.ioctl(call, kept)
        if value == 0:
            if call.request in _ALSO_ON_LOOP_DEVICE:
                return None
            if call.request == BLKROSET:
                _set_read_only(file, kept.last)
            if call.request in _SENDING_UEVENTS:
                self._process_events()
        return value

    def is_machine_device(self, file: ThreadFile) -> bool:
        """Whether it is the node of one of the machine's devices, and accepts requests."""
        return bool(file.kind) and self._is_node(file.kind, file.number, file.status.filesystem)

    def may_concern(self, status: FileStatus) -> bool:
        """Whether a file with that status is one of the machine's devices."""
        kind = "block" if stat.S_ISBLK(status.mode) else "char" if stat.S_ISCHR(status.mode) else ""
        return bool(kind) and self._is_node(kind, NodeNumber.of(status.rdev), status.filesystem)

    def _is_node(self, kind: str, number: NodeNumber, filesystem: int) -> bool:
        if (kind, number) not in self._devices:
            return False
        return kind == "block" or not is_terminal_of_another(number, filesystem, self._terminal_filesystem)


@define
class _Reach:
    """The memory that the argument points to, and how far it was accessed."""

    memory: ArgumentMemory
    end: int = 0

    def read(self, offset: int, length: int) -> tuple[bytes, bytes]:
        self.end = max(self.end, offset + length)
        return self.memory.read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        self.end = max(self.end, offset + len(data))
        self.memory.write(offset, data)


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


@define
class _PartitionOf32Bits:
    """The argument of BLKPG of a 32-bit program, which is shorter (struct compat_blkpg_ioctl_arg, block/ioctl.c)."""

    memory: ArgumentMemory

    def read(self, offset: int, length: int) -> tuple[bytes, bytes]:
        if offset:
            return self.memory.read(offset, length)
        data, _ = self.memory.read(0, PartitionRequest32.size())
        request = PartitionRequest32.from_bytes(data)
        return PartitionRequest(request.operation, request.data).to_bytes(), b""

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
