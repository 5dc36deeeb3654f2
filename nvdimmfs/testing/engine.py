"""`Engine`: a machine in this process, used by path, without a mount."""

from __future__ import annotations

import errno
import functools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

from nvdimmfs.core.device_number import DeviceNumber
from nvdimmfs.core.uevent import Uevent as SentUevent
from nvdimmfs.dumps.difference import differences
from nvdimmfs.dumps.dump import dump_of_machine, rows_of_machine
from nvdimmfs.dumps.text import rows_of
from nvdimmfs.errors import KernelError
from nvdimmfs.faults.faults import Faults
from nvdimmfs.faults.rule import Operation
from nvdimmfs.kernfs import Directory, Node, Symlink, TracedProcess
from nvdimmfs.kernfs.file_stat import file_size, link_count
from nvdimmfs.kernfs.open_file import OpenChannel, OpenFile, delay_of, open_node
from nvdimmfs.kernfs.path import resolve
from nvdimmfs.kernfs.traced_calls import traced_open, traced_read, traced_write
from nvdimmfs.machine.caller_memory import ARGUMENT_ADDRESS, UserMemory
from nvdimmfs.machine.checkpoint import CheckpointError
from nvdimmfs.machine.device_calls import device_named, ioctl_delay, traced_ioctl
from nvdimmfs.machine.first_boot import NewMachineError
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine.pool import MachinePool, PooledMachine
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine_file.type_checks import require
from nvdimmfs.testing.arguments import AnyPath, Value, data_of, offset_of, path_of, size_of
from nvdimmfs.testing.controls import Checkpoint, Clock, Modules
from nvdimmfs.testing.engine_controls import EngineClock, EngineFault, EngineModules
from nvdimmfs.testing.events import Events, Uevent
from nvdimmfs.testing.faults import THIS_PROCESS, Fault, FaultDetails, rule_of_arguments
from nvdimmfs.testing.refusals import as_os_error
from nvdimmfs.testing.selection import described, folder_of
from nvdimmfs.testing.trace import Trace
from nvdimmfs.testing.trace_source import RecorderSource
from nvdimmfs.testing.used_by_path import UsedByPath, pieces

#: The machines of this process that engines use no longer.
_POOL = MachinePool()


class Engine(UsedByPath):
    """A machine in this process.

    Each call is one or a few system calls of root on a mount of the same machine, and has their result: `write` opens,
    writes once and closes.  A refused call raises the OSError of the errno, such as PermissionError, with the path as
    `filename` and the engine's reason as a note.

    All methods may be called from several threads; one lock has them take turns.  As a context manager it closes the
    machine at the end.

    Args:
        machine: the name of a machine that comes with nvdimmfs (`nvdimmfs machine list`), the path of a machine file,
            or a description.  None: 4 GiB of RAM and memmap=512M!4G,256M!6G.
        memmap, ram, kernel: replace what the machine has, as the options of `nvdimmfs mount`; `ram` is bytes, or a
            text such as "8G".
        media: a folder that keeps the bytes of persistent memory in files; None keeps them in memory.
        clock: what advances the machine's clock: "real", "steps" or "manual".  None is what the machine file sets;
            where that is "real", it is "steps", so that results do not depend on the speed of the host.
        trace: whether calls are recorded from the beginning; `trace.start()` begins later.

    Raises:
        ValueError: there is no such machine, it cannot exist, or `media` cannot be used.

    Attributes:
        events: the uevents since the boot.
        clock: the machine's clock.
        modules: its modules.
        trace: the calls so far, with their answers and effects.
    """

    def __init__(
        self,
        machine: AnyPath | MachineDescription | None = None,
        *,
        memmap: str | None = None,
        ram: int | str | None = None,
        kernel: str | None = None,
        media: AnyPath | None = None,
        clock: str | None = None,
        trace: bool = True,
    ) -> None:
        require("trace", trace, (bool,), "True or False")
        description = described(machine, memmap=memmap, ram=ram, kernel=kernel, clock=clock)
        super().__init__(description.name)
        folder = folder_of(media)
        try:
            if folder is None:
                self._pooled = _POOL.take(description)
            else:
                self._pooled = PooledMachine(Machine.described(description, folder), description, None)
        except NewMachineError as error:
            raise ValueError(str(error)) from None
        self._machine = self._pooled.machine
        self._lock = threading.RLock()
        self._is_open = True
        self.events = Events()
        self.clock = Clock(EngineClock(self._turn))
        self.modules = Modules(EngineModules(self._turn))
        self.trace = Trace(RecorderSource(self._turn))
        self._use(trace=trace)

    def __repr__(self) -> str:
        return f"<Engine{self._name and f' {self._name}'}{'' if self._is_open else ', closed'}>"

    def close(self) -> None:
        """Shut the machine down and close its media.  Further calls do nothing; any other use is a ValueError."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                if self._machine is self._pooled.machine:
                    _POOL.give_back(self._pooled)
                else:  # the power was cut
                    self._machine.close()

    # Files

    def read_bytes(self, path: AnyPath, offset: int = 0, size: int | None = None) -> bytes:
        """Return bytes of a file, such as a disk: `size` at most, or all up to the end."""
        length = size_of(size)
        self._wait(path, Operation.OPEN, Operation.READ)
        with self._request(path) as name, self._opened(name, os.O_RDONLY) as file:
            return b"".join(pieces(functools.partial(self._read, file), offset_of(offset), length))

    def write(self, path: AnyPath, value: Value, offset: int = 0) -> int:
        """Open a file, write to it once, close it, and return how many bytes were written.

        A text is written in UTF-8 and as it is, without a newline; a number is written in decimal, a truth value as 1
        or 0.  Path.write_text() would write a second time after a refusal, when Python closes the file.
        """
        data = data_of(value)
        self._wait(path, Operation.OPEN, Operation.WRITE)
        with self._request(path) as name, self._opened(name, os.O_WRONLY) as file:
            return self._write(file, offset_of(offset), data) if data else 0

    def ls(self, path: AnyPath = "/") -> list[str]:
        """Return the sorted names in a directory."""
        with self._request(path) as name:
            directory = self._node(f"{name}/")
            assert isinstance(directory, Directory), "a path with a slash at its end leads to a directory"
            return sorted(directory.children)

    def readlink(self, path: AnyPath) -> str:
        """Return the text of a symbolic link."""
        with self._request(path) as name:
            node = self._node(name, follow_last=False)
            if not isinstance(node, Symlink):
                raise KernelError(errno.EINVAL, f"{node.path} is not a symbolic link")
            return node.text

    def stat(self, path: AnyPath) -> os.stat_result:
        """Return mode, inode number, link count, owner and size of what a path leads to; all times are 0."""
        with self._request(path) as name:
            return _status(self._node(name))

    def lstat(self, path: AnyPath) -> os.stat_result:
        """Return the same, but of a link itself where the path ends with one."""
        with self._request(path) as name:
            return _status(self._node(name, follow_last=False))

    def _ioctl(self, path: AnyPath, request: int, memory: UserMemory, *, writable: bool) -> int:
        self._wait(path, Operation.IOCTL)
        with self._request(path) as name:
            steps = traced_ioctl(
                self._machine.system,
                self._device(name),
                request,
                ARGUMENT_ADDRESS,
                thread=0,
                writable=writable,
                privileged=True,
                caller=THIS_PROCESS,
            )
            return memory.run(steps)

    # The whole machine

    def dump(self) -> str:
        """What belongs to libnvdimm in /sys, as the text that `nvdimmfs dump` writes; time does not pass for it."""
        with self._turn():
            return dump_of_machine(self._machine.system)

    def diff(self, before: str) -> list[str]:
        """What has changed since a dump, in the words of `nvdimmfs diff`: one line for each difference.

        ValueError for a text that is no dump.
        """
        require("before", before, (str,), "the text of a dump")
        with self._turn():
            now = rows_of_machine(self._machine.system)
        return differences(rows_of(before, "before"), now)

    def checkpoint(self) -> Checkpoint:
        """Save the state of the machine: bytes, labels, bindings, numbers, modules, settings and the clock.

        `with engine.checkpoint():` goes back to it at the end.  ValueError for a machine with `media`.
        """
        with self._turn() as machine:
            try:
                checkpoint = machine.checkpoint()
            except CheckpointError as error:
                raise ValueError(str(error)) from None

        def reset() -> None:
            with self._turn() as now:
                if now is not machine:
                    raise ValueError("the machine has booted again since the checkpoint")
                checkpoint.reset()

        self._after_checkpoint()
        return Checkpoint(reset)

    def reset(self) -> None:
        """Go back to the last checkpoint.  ValueError when there is none."""
        with self._turn():
            try:
                self._machine.reset()
            except CheckpointError as error:
                raise ValueError(str(error)) from None

    def power_cycle(self) -> None:
        """Cut the power, and boot the machine again from what its media have.

        Bindings, checkpoints, the trace and the rules that were declared with `fail` are gone.  A rule of the machine
        file applies again, also one that has cut the power.  `events` keeps what was sent before; the clock begins
        again.

        Raises:
            ValueError: the machine cannot boot, because a rule of the machine file cuts the power; the machine is
                closed then.
        """
        with self._turn() as machine:
            is_traced = machine.system.trace is not None
            try:
                self._machine = machine.power_cycled()
            except NewMachineError as error:
                self.close()
                raise ValueError(str(error)) from None
            self._use(trace=is_traced)

    def fail(
        self,
        path: AnyPath,
        op: str,
        errno: int | str | None = None,
        times: int | None = None,
        after: int = 0,
        **details: Unpack[FaultDetails],
    ) -> Fault:
        """Declare that something fails from now on, until the result is removed.

        Args:
            path: a shell pattern of paths below the mount, or, for what the kernel does, of names; see
                docs/reference/faults.md.
            op: what fails: "open", "read", "write", "ioctl", "poll", "register", "altmap", "media-read", "media-write",
                "command".
            errno: the errno with which it fails, as a number or a name; None with another action in `details`.
            times: how often it fails; None for always.
            after: how often it works before it fails for the first time.
            details: the other parts of a rule.

        Returns:
            The rule, with the number of its hits.  As a context manager it is removed at the end.

        Raises:
            ValueError: there can be no such rule.
        """
        rule = rule_of_arguments(path, op, errno, times, after, details)
        with self._turn():
            try:
                fault = self._machine.faults.declare(rule)
            except KernelError as refusal:
                raise ValueError(refusal.reason) from None
        return Fault(str(rule), EngineFault(fault, self._turn))

    # Internal

    def _use(self, *, trace: bool) -> None:
        """Begin to use a machine that has booted."""
        self._machine.tree.caller_of = _this_process
        if trace:
            self._machine.system.start_trace()
        self._machine.system.clock.start()
        self._machine.system.listen(self)

    def uevent(self, event: SentUevent) -> None:
        """Receive a uevent from the machine."""
        self.events.append(Uevent(event.action.value, event.devpath, dict(event.properties)))

    @contextmanager
    def _turn(self) -> Iterator[Machine]:
        """Hold the lock, after the events that are due.  ValueError when the machine is closed."""
        with self._lock:
            if not self._is_open:
                raise ValueError("the engine is closed")
            self._machine.system.clock.run_due()
            yield self._machine

    @contextmanager
    def _request(self, path: AnyPath) -> Iterator[str]:
        """Answer a request for a path, whose text the context receives; OSError for a refusal."""
        name = path_of(path)
        with self._turn(), as_os_error(name):
            if not name:
                raise KernelError(errno.ENOENT, "the path is empty")
            yield name

    @property
    def _faults(self) -> Faults:
        return self._machine.system.faults

    def _wait(self, path: AnyPath, *operations: Operation) -> None:
        """Wait as long as the rules delay a request, without the lock."""
        with self._turn():
            if not self._faults.delays:
                return
            nanoseconds = sum(self._delay(path_of(path), operation) for operation in operations)
        if nanoseconds:
            time.sleep(nanoseconds / 1e9)

    def _delay(self, path: str, operation: Operation) -> int:
        try:
            if operation is Operation.IOCTL:
                return ioctl_delay(self._faults, self._machine.system.numbered[self._device(path)], THIS_PROCESS)
            return delay_of(operation, self._node(path), THIS_PROCESS)
        except KernelError:
            return 0  # the request itself reports it

    def _node(self, path: str, *, follow_last: bool = True) -> Node:
        return resolve(self._machine.tree.root, path, follow_last=follow_last)

    @contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[OpenFile]:
        node = self._node(path)
        if (tracer := self._machine.tree.tracer) is None:
            file = open_node(node, flags, THIS_PROCESS)
        else:
            file = traced_open(tracer, node, flags, 0, THIS_PROCESS)
        try:
            yield file
        finally:
            if isinstance(file, OpenChannel):
                file.session.close()

    def _read(self, file: OpenFile, offset: int, size: int) -> bytes:
        if (tracer := self._machine.tree.tracer) is None:
            return file.read(offset, size)
        return traced_read(tracer, file, offset, size)

    def _write(self, file: OpenFile, offset: int, data: bytes) -> int:
        if (tracer := self._machine.tree.tracer) is None:
            return file.write(offset, data)
        return traced_write(tracer, file, offset, data)

    def _device(self, path: str) -> DeviceNumber:
        """The number of the device with the node at a path.  ENOENT, and ENOTTY for a file that is no device node."""
        folder, _, name = path.strip("/").rpartition("/")
        found = device_named(self._machine.system, name) if folder == "dev" else None
        if found is not None:
            return found[0]
        raise KernelError(errno.ENOTTY, f"{self._node(path).path} is not a device")


def _status(node: Node) -> os.stat_result:
    owner = (os.getuid(), os.getgid())
    return os.stat_result((node.mode, node.ino, 0, link_count(node), *owner, file_size(node), 0, 0, 0))


def _this_process(_thread: int) -> TracedProcess:
    return _process(os.getpid())


@functools.lru_cache(1)
def _process(pid: int) -> TracedProcess:
    """The process itself; it may be a child that was forked since the last call."""
    return TracedProcess(pid, _own_command())


def _own_command() -> str:
    """The name of this process, as the kernel knows it."""
    try:
        return Path("/proc/self/comm").read_text(errors="surrogateescape").removesuffix("\n")
    except OSError:
        return ""
