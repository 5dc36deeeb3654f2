"""Processes of a sandbox that are forked before it is known for which command.

A fork of this program takes 2 ms, and the kernel copies what is used afterwards.  A process that waits for a command
has time for that.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Sequence
from typing import Generic, NoReturn, Self, TypeAlias, TypeVar, cast

from attrs import define, field, frozen

from nvdimmfs.inherited_files import STANDARD_FILES
from nvdimmfs.sandbox.surroundings import Surroundings
from nvdimmfs.sandbox.waiting_process import WaitingProcess, wait_for_message

OrderT = TypeVar("OrderT")

#: What such a process does with an order, the files that come with it, and the socket on which they came.
Act: TypeAlias = Callable[[OrderT, list[int], socket.socket], NoReturn]


@frozen
class EarlyProcess(Generic[OrderT]):
    """Such a process.  It ends with this one, unless it gets an order."""

    _process: WaitingProcess
    _takes_surroundings: bool

    @classmethod
    def forked(cls, act: Act[OrderT], prepare: Callable[[], None], *, takes_surroundings: bool) -> Self:
        """Fork it.  OSError.

        Args:
            act: what it does with its order.
            prepare: called in it, in advance.
            takes_surroundings: whether the process becomes like this one, by what its order brings, before it acts.
        """

        def prepare_all() -> None:
            prepare()
            if takes_surroundings:
                _rehearse()

        process = WaitingProcess.forked(lambda messages: _wait_for_order(messages, act, prepare_all))
        process.keep_for_later()
        return cls(process, takes_surroundings)

    def hand_over(self, order: OrderT, files: Sequence[int]) -> tuple[int, socket.socket] | None:
        """Give it an order, and files; None when that fails, as it was killed.

        This does not wait until it has them: the process may have to wait for a processor.

        Returns:
            Its process id, and the other end of its socket.
        """
        process = self._process
        text = os.memfd_create("order")
        directory = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            surroundings = Surroundings.of_this_process() if self._takes_surroundings else None
            os.write(text, pickle.dumps((order, surroundings)))
            socket.send_fds(process.messages, [b"+"], (text, *STANDARD_FILES, directory, *files))
        except OSError:
            process.end()
            return None
        finally:
            os.close(text)
            os.close(directory)
        os.close(process.pidfd)
        return process.pid, process.messages

    def end(self) -> None:
        """Kill it."""
        self._process.end()


@define(eq=False)
class EarlyProcesses(Generic[OrderT]):
    """Those of one kind that were forked for the next sandbox of this process, at most one as a rule.

    Attributes:
        takes_surroundings: whether they take on the surroundings of this process with their order.
    """

    takes_surroundings: bool = field(default=True, kw_only=True)
    _waiting: list[EarlyProcess[OrderT]] = field(factory=list)

    def fork(self, act: Act[OrderT], prepare: Callable[[], None] = lambda: None) -> None:
        """Fork one; arguments and errors as `EarlyProcess.forked`."""
        self._waiting.append(EarlyProcess.forked(act, prepare, takes_surroundings=self.takes_surroundings))

    def hand_over(self, order: OrderT, files: Sequence[int]) -> tuple[int, socket.socket] | None:
        """Give one an order, as `EarlyProcess.hand_over`; None when there is none that can take it."""
        while self._waiting:
            if taken := self._waiting.pop().hand_over(order, files):
                return taken
        return None

    def start(self, order: OrderT, files: Sequence[int]) -> int:
        """Give one an order, after which it needs no messages.  Returns its process id; 0 when there is none."""
        if (taken := self.hand_over(order, files)) is None:
            return 0
        process, messages = taken
        messages.close()
        return process

    def end(self) -> None:
        """Kill them, as they are not needed."""
        while self._waiting:
            self._waiting.pop().end()


def _rehearse() -> None:
    """In the process: take on the surroundings that it has."""
    own = pickle.dumps(Surroundings.of_this_process())
    cast("Surroundings", pickle.loads(own)).rehearse()  # noqa: S301  # its own


def _wait_for_order(messages: socket.socket, act: Act[OrderT], prepare: Callable[[], None]) -> NoReturn:
    """In the process."""
    try:
        message, files = wait_for_message(messages, None, prepare)
        if message:
            text, *others = files
            standard_files, (directory, *rest) = others[: len(STANDARD_FILES)], others[len(STANDARD_FILES) :]
            with os.fdopen(text, "rb") as stream:
                stream.seek(0)
                loaded = pickle.load(stream)  # noqa: S301  # the parent's
            order, surroundings = cast("tuple[OrderT, Surroundings | None]", loaded)
            if surroundings is not None:
                surroundings.take_on(standard_files, directory)
            act(order, rest, messages)
    finally:
        os._exit(1)
