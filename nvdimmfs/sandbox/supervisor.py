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
from nvdimmfs.sandbox import syscalls
from nvdimmfs.sandbox.calls import Calls
from nvdimmfs.sandbox.command import PASSED_ON, RunningCommand
from nvdimmfs.sandbox.link import MachineLink
from nvdimmfs.sandbox.node import NodeNumber
from nvdimmfs.sandbox.nodes import Nodes
from nvdimmfs.sandbox.uevents import UeventSender
from nvdimmfs.sandbox.views import MergedView

log = logging.getLogger(__name__)


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
        self._known: set[tuple[str, NodeNumber]] = set()
        self._calls = Calls(link, self._known, nodes.terminals, proc, self._act, nodes.has_claimed_partitions)

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
        properties = event.properties
        if "MAJOR" in dict(properties):
            number = self._act_on_node(dict(properties))
            renumbered = {"MAJOR": str(number.major), "MINOR": str(number.minor)}
            properties = tuple((key, renumbered.get(key, value)) for key, value in properties)
        if self._uevents is not None:
            self._uevents.send(properties)

    def _act_on_node(self, properties: dict[str, str]) -> NodeNumber:
        """Make or remove a node, and return its number, which is another than the machine's own."""
        name, kind = properties["DEVNAME"], "block" if properties["SUBSYSTEM"] == "block" else "char"
        number = NodeNumber(int(properties["MAJOR"]), int(properties["MINOR"]))
        if properties["ACTION"] == "add":
            number = self._make_node(kind, name, number)
        elif properties["ACTION"] == "remove":
            self._known.discard((kind, self._nodes.number(name) or number))
            self._nodes.remove(name)
        else:
            number = self._nodes.number(name) or number
            if "DISK_RO" in properties:
                self._nodes.set_read_only(name, read_only=properties["DISK_RO"] == "1")
        return number

    def _make_node(self, kind: str, name: str, number: NodeNumber) -> NodeNumber:
        """Make a node and return its number, which is the machine's own when the node has none."""
        new = self._nodes.add(name, block=kind == "block")
        if new is None:
            return number
        self._link.renumber(kind, (number.major, number.minor), (new.major, new.minor))
        self._known.add((kind, new))
        return new


def _pass_on(signals: int, command: RunningCommand) -> None:
    """Give the command what came.  What the terminal sends it sends to the command as well."""
    for caught in syscalls.read_signals(signals):
        if not caught.from_kernel:
            command.send(caught.number)


@contextlib.contextmanager
def caught_signals() -> Iterator[int]:
    """Keep what is to be passed on from doing anything else: gives a descriptor that reads it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    descriptor = syscalls.signal_descriptor(PASSED_ON)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
