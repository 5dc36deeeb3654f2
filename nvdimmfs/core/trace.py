"""Records a machine's trace: the calls that programs make, and what the engine reports while one is carried out.

`System.trace` is the recorder while it records, else None: engine code reports by

    if (trace := system.trace) is not None:
        trace.report(Claimed(self.name, namespace.name))
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import ClassVar, Self

import attrs

from nvdimmfs.core.clock import Clock, Event
from nvdimmfs.core.user_memory import CopyIn, CopyOut, IoctlSteps
from nvdimmfs.errors import KernelError, refused_by_host
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.kernfs import ATTRIBUTE_SIZE, TracedProcess, Tree
from nvdimmfs.traces.effects import Effect, Probed, WorkDone
from nvdimmfs.traces.event import Op, TraceEvent

#: How many lines a recorder keeps by default, and the most that it can keep.
DEFAULT_SIZE = 10_000
LARGEST_SIZE = 1_000_000

#: Bytes of one call that are kept: of a write all that an attribute can take, of anything else the beginning.
KEPT_OF_WRITE = ATTRIBUTE_SIZE
KEPT = 256

_ACCESS_MODES = {os.O_RDONLY: "O_RDONLY", os.O_WRONLY: "O_WRONLY", os.O_RDWR: "O_RDWR"}
_OPEN_FLAGS = ("O_APPEND", "O_TRUNC", "O_NONBLOCK", "O_DSYNC", "O_DIRECT", "O_CLOEXEC")

#: The caller of what the kernel does by itself.
NO_CALLER = TracedProcess(None)

#: Receives each event when it has ended.
Listener = Callable[[TraceEvent], None]


@attrs.define(eq=False)
class TracedCall:
    """A call that is being carried out, or was; as a context, in which an exception is its refusal.

    What is not listed here is that of `TraceEvent`.

    Attributes:
        recorder: where it is recorded when it has ended.
        thread: the id of the calling thread; None for none.
        caller: its process.
        room: the number of effects that it may have.
        depth: the number of acts that are being carried out, each part of the one before.
        before: the call that was being carried out when this one began.
    """

    recorder: TraceRecorder
    time: int
    host_time: float
    room: int
    op: str
    path: str = ""
    thread: int | None = None
    flags: int | None = None
    request: str = ""
    offset: int | None = None
    size: int | None = None
    data: bytes = b""
    data_size: int = 0
    output: bytes = b""
    output_size: int = 0
    result: int | None = None
    errno: int | None = None
    reason: str = ""
    effects: list[Effect] = attrs.field(factory=list)
    omitted: int = 0
    number: int = 0
    caller: TracedProcess = NO_CALLER
    depth: int = 0
    before: TracedCall | None = None

    def __enter__(self) -> Self:
        self.resume()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.suspend()
        self.ends(error)

    def resume(self) -> None:
        """What is reported from now on happens because of the call."""
        self.before = self.recorder.current
        self.recorder.current = self

    def suspend(self) -> None:
        """What is reported from now on does not."""
        self.recorder.current = self.before

    def returns(self, result: int, data: bytes = b"") -> None:
        """The call succeeds, and `data` are the bytes that were read."""
        self.result = result
        if data:
            self.data, self.data_size = data[:KEPT], len(data)

    def ends(self, error: BaseException | None) -> None:
        """The call has ended, and is recorded."""
        if isinstance(error, OSError):
            error = refused_by_host(error)
        if isinstance(error, KernelError):
            self.errno, self.reason = error.errno, "; ".join(error.reasons)
        self.recorder.record(self)

    def add(self, effect: Effect) -> None:
        """Something happens because of the call."""
        if len(self.effects) >= self.room:
            self.omitted += 1
        else:
            self.effects.append(attrs.evolve(effect, depth=self.depth) if self.depth else effect)

    def put(self, position: int, effect: Effect) -> None:
        """An act has ended: what happened since the list had the length `position` was part of it."""
        self.effects.insert(position, attrs.evolve(effect, depth=self.depth))
        if len(self.effects) > self.room:
            self.effects.pop()
            self.omitted += 1

    @property
    def lines(self) -> int:
        """As `TraceEvent.lines`."""
        return 1 + len(self.effects)

    def event(self) -> TraceEvent:
        """The event that it is in the trace."""
        return TraceEvent(
            number=self.number,
            time=self.time / SECOND,
            host_time=self.host_time,
            op=self.op,
            path=self.path,
            pid=self.caller.pid,
            command=self.caller.command,
            flags="" if self.flags is None else flags_text(self.flags),
            request=self.request,
            offset=self.offset,
            size=self.size,
            data=self.data,
            data_size=self.data_size,
            output=self.output,
            output_size=self.output_size,
            result=self.result,
            errno=self.errno,
            reason=self.reason,
            effects=tuple(self.effects),
            omitted=self.omitted,
        )


class TraceRecorder:
    """Records events in a ring: when there is no room for a new one, the oldest are dropped.

    Room is counted in lines: an event takes one, and one more for each of its effects.  Effects for which the whole
    ring has no room are omitted.

    Attributes:
        size: the number of lines that are kept at most.
        dropped: the number of events that were dropped since the start, or since `clear`.
        recorded: the number of events so far, dropped ones included.
        listeners: receive each event when it has ended.
        current: the call that is being carried out.
    """

    #: Not part of a snapshot: what has happened has happened.
    UNSAVED: ClassVar[frozenset[str]] = frozenset(
        {"current", "dropped", "listeners", "recorded", "size", "_calls", "_lines"}
    )

    def __init__(self, clock: Clock, tree: Tree) -> None:
        self._clock = clock
        self._tree = tree
        self.size = DEFAULT_SIZE
        self.dropped = 0
        self.recorded = 0
        self.listeners: list[Listener] = []
        self.current: TracedCall | None = None
        self._calls: deque[TracedCall] = deque()
        self._lines = 0

    # The ring

    @property
    def events(self) -> tuple[TraceEvent, ...]:
        """The events that are kept, the oldest first."""
        return tuple(call.event() for call in self._calls)

    @property
    def first_number(self) -> int:
        """The number of the oldest event that is kept; without one, that of the next."""
        return self._calls[0].number if self._calls else self.recorded + 1

    def since(self, number: int, most: int) -> tuple[TraceEvent, ...]:
        """The events that are kept, from a number on, `most` at most."""
        start = max(0, number - self.first_number)
        return tuple(call.event() for call in itertools.islice(self._calls, start, start + most))

    def clear(self) -> None:
        """Forget the events.  Numbers go on."""
        self._calls.clear()
        self._lines = 0
        self.dropped = 0

    def resize(self, lines: int) -> None:
        """Keep so many lines at most; the oldest events beyond that are dropped."""
        assert 0 < lines <= LARGEST_SIZE, "checked by the caller"
        self.size = lines
        self._drop()

    def _drop(self) -> None:
        while self._lines > self.size and len(self._calls) > 1:
            self._lines -= self._calls.popleft().lines
            self.dropped += 1

    def record(self, call: TracedCall) -> None:
        """A call has ended."""
        if call.thread is not None:
            call.caller = self._tree.caller_of(call.thread)
        self.recorded += 1
        call.number = self.recorded
        self._calls.append(call)
        self._lines += call.lines
        if self._lines > self.size:
            self._drop()
        if self.listeners:
            event = call.event()
            for listener in tuple(self.listeners):
                listener(event)

    # What the engine reports

    def report(self, effect: Effect) -> None:
        """Something happens because of the call at hand; without one, the kernel does it by itself."""
        if self.current is not None:
            self.current.add(effect)
            return
        with self._begun(Op.KERNEL) as call:
            call.add(effect)

    @contextlib.contextmanager
    def probe(self, driver: str, device: str) -> Iterator[None]:
        """A driver probes a device in this context; what it does is reported as part of that."""
        with self._act() as act:
            try:
                yield
            except (KernelError, OSError) as error:
                refusal = refused_by_host(error) if isinstance(error, OSError) else error
                act.effect = Probed(driver, device, refusal.errno, refusal.reason)
                raise
            act.effect = Probed(driver, device)

    @contextlib.contextmanager
    def work(self, event: Event) -> Iterator[None]:
        """Work that is due is done in this context."""
        with self._act() as act:
            act.effect = WorkDone(event.what, event.due / SECOND)
            yield

    def boot(self) -> TracedCall:
        """A context in which the machine boots."""
        return self._begun(Op.BOOT)

    @contextlib.contextmanager
    def _act(self) -> Iterator[_Act]:
        """An act that other effects are part of.  Without a call, it is an event of its own."""
        with contextlib.nullcontext(self.current) if self.current else self._begun(Op.KERNEL) as call:
            act, position = _Act(), len(call.effects)
            call.depth += 1
            try:
                yield act
            finally:
                call.depth -= 1
                if act.effect is not None:
                    call.put(position, act.effect)

    # Calls

    def call(
        self,
        op: str,
        path: str,
        thread: int,
        *,
        flags: int | None = None,
        offset: int | None = None,
        size: int | None = None,
        data: bytes = b"",
    ) -> TracedCall:
        """A context in which a call is carried out, see `kernfs.Tracer.call`."""
        call = self._begun(op)
        call.path, call.thread, call.flags, call.offset, call.size = path, thread, flags, offset, size
        call.data, call.data_size = bytes(data[:KEPT_OF_WRITE]), len(data)
        return call

    @contextlib.contextmanager
    def module_call(self, op: Op, path: str, thread: int) -> Iterator[None]:
        """Load or unload a module in this context.

        Args:
            op: LOAD or UNLOAD.
            path: the module's directory.
            thread: the id of the calling thread.
        """
        with self.call(op, path, thread) as call:
            yield
            call.returns(0)

    def ioctl(self, path: str, thread: int, request: str, steps: Callable[[], IoctlSteps]) -> IoctlSteps:
        """Carry out an ioctl, and record it when it has ended.

        Between its steps, other calls may be carried out.

        Args:
            path: the device's node.
            thread: the id of the calling thread.
            request: number and name.
            steps: starts the ioctl.
        """
        call = self.call(Op.IOCTL, path, thread)
        call.request = request
        error: BaseException | None = None
        try:
            with _resumed(call):
                conversation = steps()
                access = next(conversation)
            while True:
                try:
                    received = yield _to_be_continued(access)
                except KernelError as fault:
                    with _resumed(call):
                        access = conversation.throw(fault)
                    continue
                _note(call, access, received)
                with _resumed(call):
                    access = conversation.send(received)
        except StopIteration as end:
            call.returns(end.value)
            return int(end.value)
        except (KernelError, OSError) as refusal:
            error = refusal
            raise
        finally:
            call.ends(error)

    def _begun(self, op: str) -> TracedCall:
        return TracedCall(self, self._clock.now, time.time(), max(1, self.size - 1), op)


def _to_be_continued(access: CopyIn | CopyOut) -> CopyIn | CopyOut:
    """The same access, after which the ioctl is always continued: how it ends is recorded."""
    return access if isinstance(access, CopyIn) else attrs.evolve(access, result=None)


@contextlib.contextmanager
def _resumed(call: TracedCall) -> Iterator[None]:
    """Carry out a part of a call."""
    call.resume()
    try:
        yield
    finally:
        call.suspend()


@attrs.define
class _Act:
    """An act that is being carried out.

    Attributes:
        effect: the act, once it is known how it ends.
    """

    effect: Effect | None = None


def _note(call: TracedCall, access: CopyIn | CopyOut, received: bytes) -> None:
    """Keep the bytes that an ioctl has taken from its caller, or given to it."""
    if isinstance(access, CopyIn):
        call.data, call.data_size = _overlaid(call.data, call.data_size, access.offset, received)
    else:
        call.output, call.output_size = _overlaid(call.output, call.output_size, access.offset, access.data)


def _overlaid(known: bytes, size: int, offset: int, piece: bytes) -> tuple[bytes, int]:
    """An argument, of which a piece is copied: the kernel copies parts of one more than once.

    A piece elsewhere in the caller's memory, to which the argument points, counts as if it followed.

    Returns:
        The bytes that are kept, and how many there were.
    """
    if not 0 <= offset <= size:
        offset = size
    if offset <= len(known):
        known = (known[:offset] + piece + known[offset + len(piece) :])[:KEPT_OF_WRITE]
    return known, max(size, offset + len(piece))


def flags_text(flags: int) -> str:
    """The flags of open(2) by name; the fourth access mode is 3."""
    access = flags & os.O_ACCMODE
    names = [_ACCESS_MODES.get(access, str(access))]
    names += [name for name in _OPEN_FLAGS if flags & (bit := getattr(os, name)) == bit]
    return "|".join(names)
