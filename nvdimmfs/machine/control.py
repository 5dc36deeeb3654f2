"""The control channel of the debug folder, for requests of a sandbox that no file in /sys supports.

The messages are in `formats.control`.
"""

from __future__ import annotations

import contextlib
import errno
import stat
from collections import deque

import attrs

from nvdimmfs.block.disk import Disk
from nvdimmfs.block.ioctl_values import disk_of, is_read_only
from nvdimmfs.block.partition import Partition
from nvdimmfs.core.device_number import DeviceNumber, Numbered
from nvdimmfs.core.device_uses import DeviceUses
from nvdimmfs.core.module import Modules
from nvdimmfs.core.system import System
from nvdimmfs.core.user_memory import IoctlSteps
from nvdimmfs.dax.device import DevDax
from nvdimmfs.dax.memory import check_mapping
from nvdimmfs.errors import KernelError, refused_by_host
from nvdimmfs.formats import control
from nvdimmfs.formats.control import Message
from nvdimmfs.kernfs import Channel, Directory
from nvdimmfs.machine.device_calls import device_named, ioctl_delay, traced_ioctl, traced_module_call
from nvdimmfs.machine.ioctl_call import IoctlCall
from nvdimmfs.machine.listener import Listener
from nvdimmfs.machine.node_owners import owner_of_node
from nvdimmfs.machine.watcher import Watcher, directory_at
from nvdimmfs.traces.event import Op

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
        if not isinstance(request, control.Waited | control.Copied | control.Fault):
            self._forget_ioctl()  # the one before has ended, or is given up
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
        self._forget_ioctl()
        return control.Refused(refusal.errno, refusal.reason)

    def _forget_ioctl(self) -> None:
        self._ioctl, self._delayed, self._device_name = None, None, ""

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
                return listed(self._system, directories)
            case control.ListNodes():
                return _nodes(self._system)
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
            case control.RenumberAll(changes):
                for change in changes:
                    with contextlib.suppress(KernelError):  # it is gone, or another sandbox has changed its number
                        self._renumber(control.Renumber(*change))
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
        faults = self._system.faults
        if faults.delays:
            delay = ioctl_delay(faults, self._device(_number(call)), _IoctlCaller(call.uid, call.comm))
            if delay:
                self._delayed = attrs.evolve(call, ahead=b"")  # the caller's memory may change until then
                return control.Wait(delay)
        return self._start(call)

    def _start(self, call: control.Ioctl) -> Message:
        self._ioctl = IoctlCall(self._conversation(call), call.ahead)
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
            uses=DeviceUses(frozenset(call.open_nodes), frozenset(call.claimed_nodes)),
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


def _found(found: tuple[DeviceNumber, Numbered] | None) -> Message:
    """ENOENT for no device."""
    if found is None:
        raise KernelError(errno.ENOENT, "there is no such device")
    number, _ = found
    return control.Found(number.kind, number.major, number.minor)


def listed(system: System, paths: tuple[str, ...]) -> control.Listed:
    """What directories contain, in the order of listings; without those that are missing, and those that do not fit."""
    found: list[str] = []
    entries: list[tuple[str, str]] = []
    for path in paths:
        try:
            directory = directory_at(system, path)
        except KernelError:
            continue
        names = directory.listing.names
        if len(entries) + len(names) <= MOST_LISTED:
            found.append(path)
            prefix = f"{path}/" if path else ""
            entries.extend((f"{prefix}{name}", _kind(directory, name)) for name in names)
    return control.Listed(tuple(found), tuple(entries))


def _nodes(system: System) -> control.Nodes:
    """The devices that have a node: character devices first, in the order of the texts of their numbers."""
    in_order = sorted(system.numbered.items(), key=lambda item: (item[0].kind != "char", str(item[0])))
    return control.Nodes(tuple(_node(number, device) for number, device in in_order))


def _node(number: DeviceNumber, device: Numbered) -> tuple[str, int, int, str, int, bool]:
    """What `control.Nodes` has of a device."""
    block_size, read_only = 0, False
    if isinstance(device, Disk | Partition):
        block_size, read_only = disk_of(device).limits.logical_block_size, is_read_only(device)
    return number.kind, number.major, number.minor, device.name, block_size, read_only


def _kind(directory: Directory, name: str) -> str:
    """What an entry of a directory is."""
    node = directory.peek(name)
    assert node is not None, "the directory has it"
    return "directory" if stat.S_ISDIR(node.mode) else "link" if stat.S_ISLNK(node.mode) else "file"


@attrs.frozen
class _IoctlCaller:
    """The process that calls ioctl(2), see `faults.Caller`."""

    uid: int
    command: str


def _number(call: control.Ioctl) -> DeviceNumber:
    return DeviceNumber(call.kind, call.major, call.minor)
