"""The process that keeps a sandbox: it makes nodes, answers system calls, passes on signals and uevents."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.control import DeviceEvent, EntryEvent
from nvdimmfs.sandbox.calls import Calls
from nvdimmfs.sandbox.command import RunningCommand
from nvdimmfs.sandbox.link import MachineLink
from nvdimmfs.sandbox.node import NodeNumber
from nvdimmfs.sandbox.nodes import Nodes
from nvdimmfs.sandbox.uevents import UeventSender
from nvdimmfs.sandbox.views import MergedView

log = logging.getLogger(__name__)

#: Signals that the command gets when the supervisor gets them.
_PASSED_ON = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGWINCH,
    signal.SIGCONT,
)

#: Those that a terminal sends to the command as well.
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH)


class Supervisor:
    """Keeps a sandbox for as long as its command runs.

    Args:
        link: the machine.
        nodes: its /dev.
        view: its /sys.
        proc: an open /proc in which the command's processes are.
        uevents: sends what happens to devices; None to keep it to oneself.
    """

    def __init__(
        self, link: MachineLink, nodes: Nodes, view: MergedView, proc: int, uevents: UeventSender | None
    ) -> None:
        self._link = link
        self._nodes = nodes
        self._view = view
        self._uevents = uevents
        self._characters: set[NodeNumber] = set()
        self._calls = Calls(link, self._characters, proc, self._act)

    def make_nodes(self, sys: Path) -> None:
        """Make the nodes of the devices that are there already.

        Args:
            sys: the machine's /sys, in its mount.
        """
        for kind in ("char", "block"):
            folder = sys / "dev" / kind
            for entry in sorted(folder.iterdir()):
                name = entry.readlink().name
                major, _, minor = entry.name.partition(":")
                self._make_node(kind, name, NodeNumber(int(major), int(minor)))

    def watch(self) -> None:
        """Hear from now on of devices and entries."""
        self._link.watch(tuple(self._view.folders))

    def keep(self, command: RunningCommand, signals: int) -> int:
        """Do all that until the command has ended; return how it ended, as wait(2) tells.

        Args:
            command: it runs already.
            signals: what `caught_signals` gave before it did.
        """
        listener = command.listener.fileno()
        poll = select.poll()
        for descriptor in (signals, command.reports, listener, self._link.fileno()):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if signals in ready:
                _pass_on(signals, command)
            if self._link.fileno() in ready:
                self._act()
            if ready.get(listener, 0) & select.POLLIN:
                self._calls.answer(command.listener)
            elif listener in ready:
                poll.unregister(listener)  # nobody is left who is filtered
            if command.reports in ready:
                ending = command.ending()
                return signal.SIGKILL if ending is None else ending

    def _act(self) -> None:
        sequence = 0
        for event in self._link.events():
            try:
                self._act_on(event)
            except (OSError, KernelError) as failure:
                log.warning("cannot act on %s: %s", event, failure)
            sequence = event.sequence
        if sequence:
            self._link.done(sequence)

    def _act_on(self, event: DeviceEvent | EntryEvent) -> None:
        if isinstance(event, EntryEvent):
            self._view.changed(event.path, present=event.present)
            return
        properties = dict(event.properties)
        if "MAJOR" in properties:
            self._act_on_node(properties)
        if self._uevents is not None:
            self._uevents.send(properties)

    def _act_on_node(self, properties: dict[str, str]) -> None:
        """Make or remove a node, and put its number where the machine's own was."""
        name, kind = properties["DEVNAME"], "block" if properties["SUBSYSTEM"] == "block" else "char"
        number = NodeNumber(int(properties["MAJOR"]), int(properties["MINOR"]))
        if properties["ACTION"] == "add":
            number = self._make_node(kind, name, number)
        elif properties["ACTION"] == "remove":
            self._nodes.remove(name)
            self._characters.discard(number)
        else:
            number = self._nodes.number(name) or number
        properties |= {"MAJOR": str(number.major), "MINOR": str(number.minor)}

    def _make_node(self, kind: str, name: str, number: NodeNumber) -> NodeNumber:
        """Make a node and return its number, which is the machine's own when the node has none."""
        new = self._nodes.add(name, block=kind == "block")
        if new is None:
            return number
        self._link.renumber(kind, (number.major, number.minor), (new.major, new.minor))
        if kind == "char":
            self._characters.add(new)
        return new


def _pass_on(signals: int, command: RunningCommand) -> None:
    for number in os.read(signals, 64):
        if number in _PASSED_ON and not (number in _FROM_TERMINAL and _in_foreground()):
            command.send(number)


def _in_foreground() -> bool:
    """Whether the terminal sends its signals to this process, and so to the command."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


@contextlib.contextmanager
def caught_signals() -> Iterator[int]:
    """Catch what is to be passed on: gives a descriptor that reads a byte for each signal, its number."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    caught = [number for number in _PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: None) for number in caught}
    old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
