"""Which device nodes of the machine the processes of a sandbox have open, mapped or mounted.

Each use holds the module whose code serves the device, and one of a partition keeps it from being deleted.  The host's
kernel knows of it, the machine does not; so the supervisor looks for uses when they matter: when a module is unloaded,
and at the requests to disks that they can prevent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from nvdimmfs.core.device_uses import DeviceUses
from nvdimmfs.formats.mount_table import parse_mounts
from nvdimmfs.sandbox.mappings import mapped_files
from nvdimmfs.sandbox.thread_file import ThreadFile, numbers_in, open_files

#: The namespace of process ids that the children of this process are in, and that of a process (proc(5)).
_OF_CHILDREN, _OWN = "self/ns/pid_for_children", "ns/pid"


class OpenNodes:
    """Looks through the processes of a sandbox.

    Args:
        proc: an open /proc that shows them, and this process.
        name_of_node: the name of the device whose node a file is; None for other files.
        name_of_memory: the name of the device whose memory is mapped with a file, by file system and inode.
        name_of_disk: the name of the disk with a number, `major:minor`.
    """

    def __init__(
        self,
        proc: int,
        name_of_node: Callable[[ThreadFile], str | None],
        name_of_memory: Callable[[tuple[int, int]], str | None],
        name_of_disk: Callable[[str], str | None],
    ) -> None:
        self._proc = proc
        self._name_of_node = name_of_node
        self._name_of_memory = name_of_memory
        self._name_of_disk = name_of_disk

    def names(self) -> tuple[str, ...]:
        """The names of the devices, in alphabetical order."""
        return tuple(sorted(self.used().open))

    def used(self) -> DeviceUses:
        """The names of the devices by how they are used."""
        open_nodes: set[str | None] = set()
        mounted: set[str | None] = set()
        namespace = os.stat(_OF_CHILDREN, dir_fd=self._proc)
        tables: set[int] = set()
        for process in numbers_in(self._proc, "."):
            with contextlib.suppress(OSError):  # it has ended, or it is another user's
                directory = os.open(process, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._proc)
                try:
                    if os.path.samestat(namespace, os.stat(_OWN, dir_fd=directory)):
                        open_nodes.update(self._opened_by(directory))
                        mounted.update(self._mounted_for(directory, tables))
                finally:
                    os.close(directory)
        return DeviceUses(_names(open_nodes | mounted), _names(mounted))

    def _opened_by(self, directory: int) -> Iterator[str | None]:
        """What a process has open or mapped."""
        for file in open_files(directory, self._proc):
            yield self._name_of_node(file)
        for memory in mapped_files(directory):
            yield self._name_of_memory(memory)

    def _mounted_for(self, directory: int, tables: set[int]) -> Iterator[str | None]:
        """What is mounted in the namespace of a process, unless that is among `tables` already."""
        namespace = os.stat("ns/mnt", dir_fd=directory).st_ino
        if namespace not in tables:
            tables.add(namespace)
            with os.fdopen(os.open("mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory), "rb") as table:
                yield from (self._name_of_disk(mount.device) for mount in parse_mounts(table.read()))


def _names(found: set[str | None]) -> frozenset[str]:
    return frozenset(name for name in found if name is not None)
