"""The supervisor: it serves a running command.

It applies the machine's events to /dev and /sys, sends uevents, answers system calls and forwards signals.  The main
thread only forwards signals and waits for the end, so that nothing delays these.  One thread waits for events of the
machine; each system call that is being answered has a thread of its own (`call_threads`, `call_limits`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import threading
from pathlib import Path

from attrs import evolve

from nvdimmfs.core.device_uses import NO_USES, DeviceUses
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.control import DeviceEvent, EntryEvent, StaleDiskEvent
from nvdimmfs.sandbox.call_threads import CallThreads, start_thread
from nvdimmfs.sandbox.command import RunningCommand
from nvdimmfs.sandbox.control_client import ControlClient
from nvdimmfs.sandbox.dev_directory import DevDirectory
from nvdimmfs.sandbox.device_node import NodeNumber, is_terminal_of_another, parse_number
from nvdimmfs.sandbox.disk_directory import DiskDescription
from nvdimmfs.sandbox.ioctl_syscall import IoctlSyscall
from nvdimmfs.sandbox.memory_syscalls import MemorySyscalls
from nvdimmfs.sandbox.merged_view import MergedView
from nvdimmfs.sandbox.module_syscalls import ModuleSyscalls
from nvdimmfs.sandbox.mount_syscalls import MountSyscalls
from nvdimmfs.sandbox.open_nodes import OpenNodes
from nvdimmfs.sandbox.signals import forward_signals
from nvdimmfs.sandbox.syscall_dispatch import SyscallDispatcher
from nvdimmfs.sandbox.thread_file import ThreadFile
from nvdimmfs.sandbox.uevents import UeventSender

log = logging.getLogger(__name__)

#: How long the end waits for a change of nodes or /sys that is being made, in seconds.
_LONGEST_CHANGE = 5.0


class Supervisor:
    """Keeps a sandbox's view of the machine current while its command runs.

    Args:
        client: the machine.
        dev: the sandbox's /dev.
        view: the sandbox's /sys.
        proc: an open /proc that shows the command's processes.
        uevents: sends the machine's uevents; None to send none.
    """

    def __init__(
        self, client: ControlClient, dev: DevDirectory, view: MergedView, proc: int, uevents: UeventSender | None
    ) -> None:
        self._client = client
        self._dev = dev
        self._view = view
        self._uevents = uevents
        self._poll = select.epoll()
        self._devices: set[tuple[str, NodeNumber]] = set()
        #: Held by the thread that changes `dev`, `view` and `_devices`, or looks through the first.
        self._changing = threading.Lock()
        self._stopped = False
        self._failure: Exception | None = None
        self._has_failed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        ioctl = IoctlSyscall(client, self._devices, dev.terminal_filesystem, self._process_events, self._used_nodes)
        #: The names of devices by the numbers of their nodes, also of those that are gone: no other node gets such a
        #: number while one is open.
        self._names: dict[tuple[str, NodeNumber], str] = {}
        #: The names of disks that are regular files, by file system and inode.
        self._disk_files: dict[tuple[int, int], str] = {}
        memory = MemorySyscalls(client, ioctl.is_machine_device, self._is_gone_dax, dev.open_files())
        self._nodes = OpenNodes(
            proc,
            self._name_of_node,
            lambda file: self._name_of("char", memory.device_of(file)) or self._disk_files.get(file),
            lambda number: self._name_of("block", parse_number(number)),
        )
        modules = ModuleSyscalls(client, self._nodes.names)
        mounts = MountSyscalls(self._node_of_disk, dev.machine)
        syscalls = SyscallDispatcher(ioctl, modules, memory, mounts, proc, self._process_events)
        self._calls = CallThreads(syscalls.answer, self._fail)
        self._has_command = threading.Event()

    def create_nodes(self) -> None:
        """Create the nodes of the devices that already exist.

        A device may go meanwhile, or get another number, because another sandbox uses the machine as well.  The events
        of that are received afterwards.
        """
        changes = []
        for kind, major, minor, name, block_size, read_only in self._client.nodes():
            disk = DiskDescription(block_size, read_only) if kind == "block" else None
            new = self._create_node(kind, name, NodeNumber(major, minor), disk)
            if new is not None:
                changes.append((kind, (major, minor), (new.major, new.minor)))
        self._client.renumber_all(changes)

    def watch(self) -> None:
        """Receive the machine's events from now on.

        epoll(7) asks only files that have announced something.  poll(2) would ask the machine's process each time.
        """
        self._client.watch(tuple(self._view.directories))
        self._poll.register(self._client.fileno(), select.EPOLLIN)

    def close(self) -> None:
        """Watch nothing any more."""
        self._poll.close()

    def start_threads(self) -> None:
        """Start the threads, before the PID namespace is unshared (`CallThreads.start`).  They wait for a command.

        OSError as `start_thread`.
        """
        self._calls.start()
        start_thread(self._follow_machine, "events")

    def run_until_exit(self, command: RunningCommand, signals: int, server: int | None) -> int:
        """Serve the command until it has ended, and return its wait(2) status.

        Args:
            command: the running command.
            signals: the descriptor from `blocked_signals`, which was entered before the command was started.
            server: the process id of the sandbox's server; None with --attach.
        """
        self._calls.listen(command.listener)
        self._has_command.set()
        poll = select.poll()
        for descriptor in (signals, command.reports, self._has_failed):
            poll.register(descriptor, select.POLLIN)
        try:
            while True:
                ready = dict(poll.poll())
                if signals in ready:
                    forward_signals(signals, command.process)
                    if server is not None:  # if it is stopped, a command that waits for it could not end
                        os.kill(server, signal.SIGCONT)
                if command.reports in ready:
                    status = command.wait_status()
                    return signal.SIGKILL if status is None else status
                if self._failure is not None:
                    raise self._failure
        finally:
            self._stop()

    def _follow_machine(self) -> None:
        """Process the machine's events as they come."""
        self._has_command.wait()
        try:
            while self._poll.poll() and not self._stopped:
                self._process_events()
        except Exception as failure:
            self._fail(failure)

    def _fail(self, failure: Exception) -> None:
        """Have the main thread raise an exception of another thread."""
        if not self._stopped:
            self._failure = failure
            os.eventfd_write(self._has_failed, 1)

    def _stop(self) -> None:
        """Change nothing from now on.  A change that is being made may take its time, but not forever."""
        self._stopped = True
        if self._changing.acquire(timeout=_LONGEST_CHANGE):
            self._changing.release()

    def _used_nodes(self, target: NodeNumber) -> DeviceUses:
        """The nodes that are in use while a request is made to the target.

        Where the target is a disk without partitions, nothing is looked for, which takes milliseconds: udevd reads the
        table of each disk again that was written to.  The target counts as claimed only where it is mounted: a process
        that has it to itself may be the caller.
        """
        with self._changing:
            claims = self._dev.claims_of_relatives(target)
        if not claims:
            return NO_USES
        used = self._nodes.used()
        return evolve(used, claimed=used.claimed | {name for name, is_claimed in claims.items() if is_claimed})

    def _is_gone_dax(self, file: ThreadFile) -> bool:
        """Whether a file is the node of a dax device that is gone."""
        name = self._name_of_node(file)
        return name is not None and name.startswith("dax") and ("char", file.number) not in self._devices

    def _name_of_node(self, file: ThreadFile) -> str | None:
        """The name of the device, possibly one that is gone, whose node a file is; None for other files."""
        if not file.kind:
            is_open = file.is_readable or file.is_writable
            return self._disk_files.get((file.status.filesystem, file.status.inode)) if is_open else None
        if file.kind == "char" and is_terminal_of_another(
            file.number, file.status.filesystem, self._dev.terminal_filesystem
        ):
            return None
        return self._name_of(file.kind, file.number)

    def _node_of_disk(self, number: NodeNumber) -> Path | None:
        name = self._name_of("block", number) if ("block", number) in self._devices else None
        return None if name is None else self._dev.path(name)

    def _name_of(self, kind: str, number: NodeNumber | None) -> str | None:
        return None if number is None else self._names.get((kind, number))

    def _process_events(self) -> None:
        """Apply all pending events, and acknowledge them."""
        with self._changing:
            if self._stopped:
                return
            sequence = 0
            for event in self._client.events():
                try:
                    self._apply(event)
                except (OSError, KernelError) as failure:
                    log.warning("cannot apply %s: %s", event, failure)
                sequence = event.sequence
            if sequence:
                self._client.acknowledge(sequence)

    def _apply(self, event: DeviceEvent | EntryEvent | StaleDiskEvent) -> None:
        if isinstance(event, EntryEvent):
            self._view.update_entry(event.path, present=event.present)
            return
        if isinstance(event, StaleDiskEvent):
            self._dev.drop_pages(event.name)
            return
        properties = event.properties
        if "MAJOR" in dict(properties):
            number = self._update_node(dict(properties))
            renumbered = {"MAJOR": str(number.major), "MINOR": str(number.minor)}
            properties = tuple((key, renumbered.get(key, value)) for key, value in properties)
        if self._uevents is not None:
            self._uevents.send(properties)

    def _update_node(self, properties: dict[str, str]) -> NodeNumber:
        """Create, remove or change a node, and return its number, which differs from the machine's own number."""
        name, kind = properties["DEVNAME"], "block" if properties["SUBSYSTEM"] == "block" else "char"
        number = NodeNumber(int(properties["MAJOR"]), int(properties["MINOR"]))
        if properties["ACTION"] == "add":
            new = self._create_node(kind, name, number)
            if new is not None:
                self._client.renumber(kind, (number.major, number.minor), (new.major, new.minor))
                number = new
        elif properties["ACTION"] == "remove":
            number_of_node = self._dev.number(name) or number
            self._devices.discard((kind, number_of_node))
            self._dev.remove(name)
        else:
            number = self._dev.number(name) or number
            if "DISK_RO" in properties:
                self._dev.set_read_only(name, read_only=properties["DISK_RO"] == "1")
        return number

    def _create_node(
        self, kind: str, name: str, number: NodeNumber, disk: DiskDescription | None = None
    ) -> NodeNumber | None:
        """Create a node and return its number, which the machine has to know; None for a regular file."""
        new = self._dev.add(name, number, block=kind == "block", disk=disk)
        if new is None:
            with contextlib.suppress(OSError):  # the disk is gone by now
                status = self._dev.path(name).stat()
                self._disk_files[status.st_dev, status.st_ino] = name
            return None
        self._devices.add((kind, new))
        self._names[kind, new] = name
        return new
