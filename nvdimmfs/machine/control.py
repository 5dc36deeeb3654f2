"""The control channel of the debug folder: what a sandbox needs that no file in /sys gives (`formats.control`)."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Generator

from nvdimmfs.block.disk import Disk
from nvdimmfs.block.ioctl import block_ioctl
from nvdimmfs.block.partition import Partition
from nvdimmfs.core.device_number import DeviceNumber, Numbered
from nvdimmfs.core.module import Modules
from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import Action, Uevent
from nvdimmfs.core.user_memory import CopyIn, CopyOut
from nvdimmfs.errors import KernelError
from nvdimmfs.formats import control
from nvdimmfs.formats.control import Message
from nvdimmfs.kernfs import Channel, Directory, Node
from nvdimmfs.nd.ioctl import ioctl_target, nd_ioctl

#: Bytes of the caller's memory that one message carries; a FUSE request of a message must hold them in base64.
PIECE = 1 << 16

#: An ioctl under way: it asks for the caller's memory and returns what the system call returns.
Conversation = Generator[CopyIn | CopyOut, bytes, int]


class ControlSession:
    """One open file of the channel.

    Args:
        system: the machine's.
        channel: what was opened.
        modules: those that can be loaded and unloaded.
    """

    def __init__(self, system: System, channel: Channel, modules: Modules) -> None:
        self._system = system
        self._channel = channel
        self._modules = modules
        self._answers: deque[bytes] = deque()
        self._ioctl: IoctlCall | None = None
        self._watcher: Watcher | None = None

    @property
    def has_message(self) -> bool:
        return bool(self._answers)

    @property
    def has_unacknowledged(self) -> bool:
        return self._watcher is not None and self._watcher.has_unacknowledged

    def read(self) -> bytes:
        return self._answers.popleft() if self._answers else b""

    def write(self, message: bytes) -> None:
        """EINVAL for what is no message, or not one that a sandbox sends now."""
        try:
            said = control.decode(message)
        except control.ControlError as error:
            raise KernelError(errno.EINVAL, str(error)) from None
        try:
            answer = self._answer(said)
        except KernelError as refusal:
            self._ioctl = None
            answer = control.Refused(refusal.errno, refusal.reason)
        if answer is not None:
            self._say(answer)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()

    def _answer(self, said: Message) -> Message | None:
        match said:
            case control.Ioctl():
                self._ioctl = IoctlCall(self._conversation(said))
                return self._ioctl.start()
            case control.Copied(data) if self._ioctl:
                return self._ioctl.copied(data)
            case control.Fault() if self._ioctl:
                return self._ioctl.fault()
            case control.Load(name):
                self._modules.load(name)
                return control.Result(0)
            case control.Unload(name):
                self._modules.unload(name)
                return control.Result(0)
            case control.Renumber():
                self._renumber(said)
                return control.Result(0)
            case control.Watch(directories) if self._watcher is None:
                self._watcher = Watcher(self._system, directories, self._say)
                return None
            case control.Done(sequence) if self._watcher:
                self._watcher.done = max(sequence, self._watcher.done)
                return None
        raise KernelError(errno.EINVAL, f"not now: {said}")

    def _say(self, message: Message) -> None:
        self._answers.append(control.encode(message))
        self._channel.wake()

    def _conversation(self, call: control.Ioctl) -> Conversation:
        """ENOTTY for what takes no ioctls, ENODEV for what is gone."""
        device = self._device(DeviceNumber(call.kind, call.major, call.minor))
        if isinstance(device, Disk | Partition):
            return block_ioctl(device, call.request, call.argument, privileged=call.privileged)
        target = ioctl_target(device)
        if target is None:
            raise KernelError(errno.ENOTTY, f"{device.name} takes no ioctl")
        return nd_ioctl(target, call.request, call.writable)

    def _renumber(self, wish: control.Renumber) -> None:
        device = self._device(DeviceNumber(wish.kind, wish.major, wish.minor))
        device.renumber(DeviceNumber(wish.kind, wish.new_major, wish.new_minor))

    def _device(self, number: DeviceNumber) -> Numbered:
        device = self._system.numbered.get(number)
        if device is None:
            raise KernelError(errno.ENODEV, f"no {number.kind} device {number}")
        return device


class IoctlCall:
    """An ioctl under way.  What it wants of the caller's memory is cut into pieces that a message can carry."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._wish: CopyIn | CopyOut | None = None
        self._copied = bytearray()
        self._sent = 0

    def start(self) -> Message:
        """Its first wish, or its end."""
        return self._next(lambda: next(self._conversation))

    def copied(self, data: bytes) -> Message:
        """The last wish was granted.  EINVAL when that many bytes were not asked for."""
        wish = self._wish
        if isinstance(wish, CopyIn):
            if not data or len(self._copied) + len(data) > wish.length:
                raise KernelError(errno.EINVAL, "not what was asked for")
            self._copied += data
            if len(self._copied) < wish.length:
                return self._piece(wish)
        elif isinstance(wish, CopyOut) and self._sent < len(wish.data):
            return self._piece(wish)
        granted, self._copied = bytes(self._copied), bytearray()
        return self._next(lambda: self._conversation.send(granted))

    def fault(self) -> Message:
        """There is no such memory."""
        return self._next(lambda: self._conversation.throw(KernelError(errno.EFAULT, "the caller's memory")))

    def _next(self, go_on: Callable[[], CopyIn | CopyOut]) -> Message:
        try:
            wish = go_on()
            while not _length(wish):
                wish = self._conversation.send(b"")
        except StopIteration as end:
            return control.Result(end.value)
        self._wish = wish
        self._copied.clear()
        self._sent = 0
        return self._piece(wish)

    def _piece(self, wish: CopyIn | CopyOut) -> Message:
        if isinstance(wish, CopyIn):
            have = len(self._copied)
            return control.CopyIn(wish.offset + have, min(PIECE, wish.length - have))
        offset = self._sent
        data = wish.data[offset : offset + PIECE]
        self._sent += len(data)
        return control.CopyOut(wish.offset + offset, data)


def _length(wish: CopyIn | CopyOut) -> int:
    return wish.length if isinstance(wish, CopyIn) else len(wish.data)


def _directory(system: System, path: str) -> Directory:
    """The directory at a path below /sys.  ENOENT, ENOTDIR."""
    node = system.sys.find(path)
    if not isinstance(node, Directory):
        raise KernelError(errno.ENOTDIR, f"{path} is not a directory")
    return node


class Watcher:
    """Tells a session of devices, and of what comes and goes in some directories.

    Attributes:
        done: the last message that has been acted on.
    """

    def __init__(self, system: System, directories: tuple[str, ...], say: Callable[[Message], None]) -> None:
        self._system = system
        self._say = say
        self._directories = {_directory(system, path): f"{path}/" if path else "" for path in directories}
        self._sequence = 0
        self._needs_action = 0
        self.done = 0
        system.listen(self)
        system.tree.subscribe(self)

    @property
    def has_unacknowledged(self) -> bool:
        return self.done < self._needs_action

    def close(self) -> None:
        """Tell nothing any more."""
        self._system.stop_listening(self)
        self._system.tree.unsubscribe(self)

    def uevent(self, event: Uevent) -> None:
        """A device comes, goes or changes.  When it has a number, its node has to do the same."""
        self._sequence += 1
        properties = event.properties
        if "MAJOR" in dict(properties) and event.action in (Action.ADD, Action.REMOVE):
            self._needs_action = self._sequence
        self._say(control.DeviceEvent(self._sequence, properties))

    def added(self, directory: Directory, node: Node) -> None:
        """An entry appears."""
        self._tell_of(directory, node, present=True)

    def instantiated(self, directory: Directory, node: Node) -> None:
        """A file that was there all the time is looked at for the first time."""

    def removed(self, directory: Directory, node: Node) -> None:
        """An entry leaves."""
        self._tell_of(directory, node, present=False)

    def notified(self, node: Node) -> None:
        """Whoever polls the file hears of it."""

    def _tell_of(self, directory: Directory, node: Node, *, present: bool) -> None:
        path = self._directories.get(directory)
        if path is None:
            return
        self._sequence += 1
        self._needs_action = self._sequence
        self._say(control.EntryEvent(self._sequence, f"{path}{node.name}", present))
