"""The control channel of the debug folder, for requests of a sandbox that no file in /sys supports.

The messages are in `formats.control`.
"""

from __future__ import annotations

import errno
import fnmatch
import itertools
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import attrs

from nvdimmfs.block.disk import Disk
from nvdimmfs.block.ioctl import block_ioctl
from nvdimmfs.block.partition import Partition
from nvdimmfs.core.device import Device
from nvdimmfs.core.device_number import BLOCK_EXT_MAJOR, DIMM_MAJOR, DeviceNumber, Numbered
from nvdimmfs.core.module import Modules
from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import Action, Uevent
from nvdimmfs.core.user_memory import CopyIn, CopyOut, IoctlSteps
from nvdimmfs.dax.device import DevDax
from nvdimmfs.dax.memory import check_mapping
from nvdimmfs.errors import KernelError, refused_by_host
from nvdimmfs.faults.faults import Caller, Faults
from nvdimmfs.faults.rule import Operation
from nvdimmfs.formats import control
from nvdimmfs.formats.block_requests import REQUEST_NAMES
from nvdimmfs.formats.control import Message
from nvdimmfs.formats.ndctl import BusCommand, DimmCommand
from nvdimmfs.kernfs import Channel, Directory, Node
from nvdimmfs.machine.listener import Listener
from nvdimmfs.machine.node_owners import owner_of_node
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.ioctl import ioctl_target, nd_ioctl
from nvdimmfs.traces.event import Op

#: Bytes of the caller's memory in one message; encoded in base64 they must fit into one FUSE request.
PIECE = 1 << 16

#: How many entries are listed in one message at most.
MOST_LISTED = 1000


class ControlSession:
    """The engine's end of one open file of the channel.

    Args:
        system: the machine's devices, uevents and tree.
        channel: the channel that was opened.
        modules: the modules that can be loaded and unloaded.
    """

    def __init__(self, system: System, channel: Channel, modules: Modules) -> None:
        self._system = system
        self._channel = channel
        self._modules = modules
        self._outgoing: deque[bytes] = deque()
        self._ioctl: IoctlCall | None = None
        self._device_name = ""
        self._delayed: control.Ioctl | None = None
        self._watcher: Watcher | None = None
        self._listener: Listener | None = None

    @property
    def has_message(self) -> bool:
        return bool(self._outgoing) or (self._listener is not None and self._listener.has_event)

    @property
    def has_unacknowledged(self) -> bool:
        return self._watcher is not None and self._watcher.has_unacknowledged

    def read(self) -> bytes:
        if self._outgoing:
            return self._outgoing.popleft()
        return b"" if self._listener is None else self._listener.read()

    def write(self, message: bytes) -> None:
        """EINVAL for text that is not a message."""
        try:
            request = control.decode(message)
        except control.ControlError as error:
            raise KernelError(errno.EINVAL, str(error)) from None
        try:
            reply = self._handle(request)
        except KernelError as refusal:
            reply = self._refused(refusal)
        except OSError as failure:
            reply = self._refused(refused_by_host(failure))
        if reply is not None:
            self._outgoing.append(control.encode(reply))  # without waking pollers: the client reads it now

    def _refused(self, refusal: KernelError) -> Message:
        if self._device_name:
            self._system.tree.refusals.report(refusal, "ioctl", f"/dev/{self._device_name}")
        self._ioctl, self._delayed, self._device_name = None, None, ""
        return control.Refused(refusal.errno, refusal.reason)

    def close(self) -> None:
        for receiver in (self._watcher, self._listener):
            if receiver is not None:
                receiver.close()

    def _handle(self, request: Message) -> Message | None:
        """Carry out a request and return the reply, if it has one.  EINVAL for one that is not valid now."""
        match request:
            case control.Ioctl():
                return self._begin(request)
            case control.Waited() if self._delayed:
                call, self._delayed = self._delayed, None
                return self._start(call)
            case control.Map():
                return self._map(request)
            case control.Find(name):
                return _found(device_named(self._system, name))
            case control.List(directories):
                return _listed(self._system, directories)
            case control.Copied(data, ahead) if self._ioctl:
                return self._ioctl.copied(data, ahead)
            case control.Fault() if self._ioctl:
                return self._ioctl.fault()
            case control.Load(name, thread):
                with traced_module_call(self._system, Op.LOAD, name, thread):
                    self._modules.load(name)
                return control.Result(0)
            case control.Unload(name, thread, open_nodes):
                holders = [node for node in open_nodes if owner_of_node(node) == name]
                with traced_module_call(self._system, Op.UNLOAD, name, thread):
                    self._modules.unload(name, holders)
                return control.Result(0)
            case control.Renumber():
                self._renumber(request)
                return control.Result(0)
            case control.Watch(directories) if self._watcher is None and self._listener is None:
                self._watcher = Watcher(self._system, directories, self._report)
                return None
            case control.Listen() if self._watcher is None and self._listener is None:
                self._listener = Listener(self._system, self._channel.wake)
                return None
            case control.Done(sequence) if self._watcher:
                self._watcher.done = max(sequence, self._watcher.done)
                return None
        raise KernelError(errno.EINVAL, f"message not valid in this state: {request}")

    def _report(self, message: Message) -> None:
        self._outgoing.append(control.encode(message))
        self._channel.wake()

    def _begin(self, call: control.Ioctl) -> Message:
        """Start an ioctl, or have the client wait first."""
        self._ioctl = None
        faults = self._system.faults
        if faults.delays:
            delay = ioctl_delay(faults, self._device(_number(call)), _IoctlCaller(call.uid, call.comm))
            if delay:
                self._delayed = call
                return control.Wait(delay)
        return self._start(call)

    def _start(self, call: control.Ioctl) -> Message:
        self._ioctl = IoctlCall(self._conversation(call))
        return self._ioctl.start()

    def _conversation(self, call: control.Ioctl) -> IoctlSteps:
        """Start an ioctl.  ENODEV for a device that was removed, and the errors of `device_ioctl`."""
        number = _number(call)
        device = self._system.numbered.get(number)
        self._device_name = "" if device is None else device.name
        return traced_ioctl(
            self._system,
            number,
            call.request,
            call.argument,
            thread=call.thread,
            writable=call.writable,
            privileged=call.privileged,
            caller=_IoctlCaller(call.uid, call.comm),
        )

    def _map(self, request: control.Map) -> Message:
        """ENODEV for a device whose memory cannot be mapped; else as `check_mapping`."""
        device = self._device(DeviceNumber(request.kind, request.major, request.minor))
        if not isinstance(device, DevDax):
            raise KernelError(errno.ENODEV, f"{device.name} cannot be mapped")
        try:
            check_mapping(device, request.start, request.length, shared=request.shared)
        except KernelError as refusal:
            self._system.tree.refusals.report(refusal, "mmap", f"/dev/{device.name}")
            raise
        return control.Mappable(device.name, device.align)

    def _renumber(self, request: control.Renumber) -> None:
        device = self._device(DeviceNumber(request.kind, request.major, request.minor))
        device.renumber(DeviceNumber(request.kind, request.new_major, request.new_minor))

    def _device(self, number: DeviceNumber) -> Numbered:
        device = self._system.numbered.get(number)
        if device is None:
            raise KernelError(errno.ENODEV, f"no {number.kind} device {number}")
        return device


def device_named(system: System, name: str) -> tuple[DeviceNumber, Numbered] | None:
    """The device whose node in /dev has a name, and its number; None when there is none."""
    return next(((number, device) for number, device in system.numbered.items() if device.name == name), None)


def _found(found: tuple[DeviceNumber, Numbered] | None) -> Message:
    """ENOENT for no device."""
    if found is None:
        raise KernelError(errno.ENOENT, "there is no such device")
    number, _ = found
    return control.Found(number.kind, number.major, number.minor)


def _listed(system: System, paths: tuple[str, ...]) -> control.Listed:
    """What directories contain, in the order of listings; without those that are missing, and those that do not fit."""
    listed: list[str] = []
    entries: list[tuple[str, str]] = []
    for path in paths:
        try:
            directory = _directory(system, path)
        except KernelError:
            continue
        names = directory.listing.names
        if len(entries) + len(names) <= MOST_LISTED:
            listed.append(path)
            prefix = f"{path}/" if path else ""
            entries.extend((f"{prefix}{name}", _kind(directory, name)) for name in names)
    return control.Listed(tuple(listed), tuple(entries))


def _kind(directory: Directory, name: str) -> str:
    """What an entry of a directory is."""
    node = directory.peek(name)
    assert node is not None, "the directory has it"
    return "directory" if stat.S_ISDIR(node.mode) else "link" if stat.S_ISLNK(node.mode) else "file"


def traced_module_call(system: System, op: Op, module: str, thread: int) -> AbstractContextManager[object]:
    """A context in which a thread loads or unloads a module; the call is recorded in the trace if there is one."""
    if (trace := system.trace) is None:
        return nullcontext()
    return trace.module_call(op, f"/sys/module/{module}", thread)


def traced_ioctl(
    system: System,
    number: DeviceNumber,
    request: int,
    argument: int,
    *,
    thread: int,
    writable: bool,
    privileged: bool,
    caller: Caller,
) -> IoctlSteps:
    """As `device_ioctl` on the device with a number, recorded in the trace if there is one.  ENODEV without a device.

    Args:
        system: the device's system.
        number: the device's number.
        request: as for `device_ioctl`, as are the next ones.
        argument: as there.
        writable: as there.
        privileged: as there.
        thread: the id of the calling thread.
        caller: the process, for fault rules.
    """
    device = system.numbered.get(number)

    def start() -> IoctlSteps:
        if device is None:
            raise KernelError(errno.ENODEV, f"no {number.kind} device {number}")
        if system.faults.ioctls:
            refuse_ioctl(system.faults, device, caller)
        return device_ioctl(device, request, argument, writable=writable, privileged=privileged)

    if (trace := system.trace) is None:
        return start()
    path = f"/dev/{device.name if device else f'{number.kind}/{number}'}"
    return trace.ioctl(path, thread, _request_text(device, request), start)


def _request_text(device: Numbered | None, request: int) -> str:
    """The number of an ioctl, with its name where it has one."""
    target = ioctl_target(device)
    if target is None:
        name = REQUEST_NAMES.get(request)
    else:
        commands = DimmCommand if isinstance(target, DimmDevice) else BusCommand
        name = next((command.name for command in commands if command == request & 0xFF), None)
    return f"{name} ({request:#x})" if name else f"{request:#x}"


@attrs.frozen
class _IoctlCaller:
    """The process that calls ioctl(2), see `faults.Caller`."""

    uid: int
    command: str


def _number(call: control.Ioctl) -> DeviceNumber:
    return DeviceNumber(call.kind, call.major, call.minor)


def ioctl_delay(faults: Faults, device: Numbered, caller: Caller) -> int:
    """How long an ioctl must wait, by the rules, in nanoseconds of the host's time.  Ask once for each ioctl."""
    path = f"dev/{device.name}"
    return faults.delay(Operation.IOCTL, lambda pattern: fnmatch.fnmatchcase(path, pattern), path, caller)


def refuse_ioctl(faults: Faults, device: Numbered, caller: Caller) -> None:
    """Fail with the errno of the rule that applies to an ioctl.  KernelError."""
    faults.refuse(faults.ioctls, f"dev/{device.name}", caller)


def device_ioctl(device: Numbered, request: int, argument: int, *, writable: bool, privileged: bool) -> IoctlSteps:
    """Start an ioctl on a device.  ENOTTY for a device that supports none, and the errors of the ioctl.

    Args:
        device: the device behind the node.
        request: the ioctl's number.
        argument: the address passed to ioctl(2).
        writable: whether the node was opened for more than reading.
        privileged: whether the caller has CAP_SYS_ADMIN.
    """
    if isinstance(device, Disk | Partition):
        return block_ioctl(device, request, argument, writable=writable, privileged=privileged)
    target = ioctl_target(device)
    if target is None:
        raise KernelError(errno.ENOTTY, f"{device.name} supports no ioctl")
    return nd_ioctl(target, request, writable)


class IoctlCall:
    """A running ioctl.  Each access to the caller's memory is split into pieces that fit into a message.

    The kernel reads the same few bytes several times.  Those that the caller has sent already are not asked for again.
    """

    def __init__(self, conversation: IoctlSteps) -> None:
        self._conversation = conversation
        self._copy: CopyIn | CopyOut | None = None
        self._copied = bytearray()
        self._sent = 0
        self._seen_at, self._seen = 0, b""

    def start(self) -> Message:
        """Return the first access to the caller's memory, or the result."""
        return self._next(lambda: next(self._conversation))

    def copied(self, data: bytes, ahead: bytes) -> Message:
        """Continue after the last access succeeded.  EINVAL for more bytes than requested, or none.

        Args:
            data: the bytes that were read.
            ahead: those that follow.  The caller had them at the same time, so they may be read at once.
        """
        copy = self._copy
        if isinstance(copy, CopyIn):
            if not data or len(self._copied) + len(data) > copy.length:
                raise KernelError(errno.EINVAL, f"{len(data)} bytes do not fit the requested length")
            self._copied += data
            if len(self._copied) < copy.length:
                return self._piece(copy)
        elif isinstance(copy, CopyOut) and self._sent < len(copy.data):
            return self._piece(copy)
        received, self._copied = bytes(self._copied), bytearray()
        if isinstance(copy, CopyIn):
            self._seen_at, self._seen = copy.offset, received + ahead
        else:
            self._seen = b""
        return self._next(lambda: self._conversation.send(received))

    def fault(self) -> Message:
        """Continue after the last access failed with EFAULT."""
        return self._next(lambda: self._conversation.throw(KernelError(errno.EFAULT, "bad address in the caller")))

    def _next(self, resume: Callable[[], CopyIn | CopyOut]) -> Message:
        try:
            copy = resume()
            while (known := self._known(copy)) is not None:
                copy = self._conversation.send(known)
        except StopIteration as end:
            return control.Result(end.value)
        self._copy = copy
        self._copied.clear()
        self._sent = 0
        return self._piece(copy)

    def _known(self, copy: CopyIn | CopyOut) -> bytes | None:
        """What an access returns for which the caller need not be asked; None for others."""
        if not _length(copy):
            return b""
        first = copy.offset - self._seen_at
        if isinstance(copy, CopyIn) and first >= 0 and first + copy.length <= len(self._seen):
            return self._seen[first : first + copy.length]
        return None

    def _piece(self, copy: CopyIn | CopyOut) -> Message:
        if isinstance(copy, CopyIn):
            have = len(self._copied)
            return control.ReadMemory(copy.offset + have, min(PIECE, copy.length - have))
        offset = self._sent
        data = copy.data[offset : offset + PIECE]
        self._sent += len(data)
        return control.WriteMemory(copy.offset + offset, data)


def _length(copy: CopyIn | CopyOut) -> int:
    return copy.length if isinstance(copy, CopyIn) else len(copy.data)


def _directory(system: System, path: str) -> Directory:
    """Return the directory at a path below /sys.  ENOENT, ENOTDIR."""
    node = system.sys.find(path)
    if not isinstance(node, Directory):
        raise KernelError(errno.ENOTDIR, f"{path} is not a directory")
    return node


def _uevent(device: Device, action: Action) -> Uevent:
    """The uevent that a device would send, for the sandbox alone: the machine does not count it."""
    subsystem = device.bus or device.device_class
    assert subsystem is not None, "a device with a number belongs to one"
    devpath = device.system.devpath(device.directory)
    return Uevent(action, devpath, subsystem.name, tuple(device.uevent_variables()), 0)


class Watcher:
    """Reports uevents of devices, and changes in some directories, to a session.

    Attributes:
        done: sequence number of the last message that the sandbox has acted on.
    """

    def __init__(self, system: System, directories: tuple[str, ...], send: Callable[[Message], None]) -> None:
        self._system = system
        self._send = send
        self._directories = {_directory(system, path): f"{path}/" if path else "" for path in directories}
        self._sequence = 0
        self._needs_action = 0
        self._before: dict[DeviceNumber, tuple[Device, Uevent]] = {}
        self.done = 0
        system.listen(self)
        system.tree.subscribe(self)

    @property
    def has_unacknowledged(self) -> bool:
        return self.done < self._needs_action

    def close(self) -> None:
        """Stop reporting."""
        self._system.stop_listening(self)
        self._system.tree.unsubscribe(self)

    def uevent(self, event: Uevent) -> None:
        """Report a uevent.  Adding or removing a device with a number requires the sandbox to act on its node."""
        self._sequence += 1
        properties = event.properties
        if "MAJOR" in dict(properties) and event.action in (Action.ADD, Action.REMOVE):
            self._needs_action = self._sequence
        self._send(control.DeviceEvent(self._sequence, properties))

    def added(self, directory: Directory, node: Node) -> None:
        """Report a new entry."""
        self._report_entry(directory, node, present=True)

    def instantiated(self, directory: Directory, node: Node) -> None:
        """Ignored: the entry existed before."""

    def removed(self, directory: Directory, node: Node) -> None:
        """Report a removed entry."""
        self._report_entry(directory, node, present=False)

    def notified(self, node: Node) -> None:
        """Ignored: the FUSE mount wakes pollers."""

    def revoked(self, node: Node) -> None:
        """Ignored: the FUSE mount has the pages."""

    def resetting(self) -> None:
        """Remember the devices with numbers, to find out later which came or went."""
        self._before = {number: (device, _uevent(device, Action.REMOVE)) for number, device in self._numbered()}

    def restored(self) -> None:
        """Report devices with numbers that came or went.  The entries were reported one by one.

        Those that came get free numbers first: their nodes will have numbers that another one of them had.
        """
        before, self._before = self._before, {}
        after = dict(self._numbered())
        for number, (device, event) in before.items():
            if after.get(number) is not device:
                self.uevent(event)
        came = [device for number, device in after.items() if number not in before or before[number][0] is not device]
        for device in came:
            device.renumber(self._free_number(device))
        for device in came:
            self.uevent(_uevent(device, Action.ADD))

    def _free_number(self, device: Device) -> DeviceNumber:
        assert device.number is not None, "it has a number"
        kind = device.number.kind
        major = BLOCK_EXT_MAJOR if kind == "block" else DIMM_MAJOR
        candidates = (DeviceNumber(kind, major, minor) for minor in itertools.count())
        return next(number for number in candidates if number not in self._system.numbered)

    def _numbered(self) -> Iterator[tuple[DeviceNumber, Device]]:
        return ((number, device) for number, device in self._system.numbered.items() if isinstance(device, Device))

    def _report_entry(self, directory: Directory, node: Node, *, present: bool) -> None:
        path = self._directories.get(directory)
        if path is None:
            return
        self._sequence += 1
        self._needs_action = self._sequence
        self._send(control.EntryEvent(self._sequence, f"{path}{node.name}", present))
