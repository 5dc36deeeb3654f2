"""The uevents that a kernel sends.  Guests run this, too: the standard library alone."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator

from nvdimmfs.lab.asking import Answer

#: The question about them.
QUESTION = "uevents"

#: The protocol, and the group of what the kernel itself sends (include/uapi/linux/netlink.h, lib/kobject_uevent.c).
_NETLINK_KOBJECT_UEVENT = 15
_OF_KERNEL = 1

#: The option that exceeds the host's limit of the receive buffer (include/uapi/asm-generic/socket.h), and bytes for all
#: that one question causes.
_SO_RCVBUFFORCE = 33
_BUFFER = 1 << 24

#: More bytes than an event has.
_LARGEST = 1 << 16

#: What begins each event, in the order of an answer.
_HEAD = ("ACTION=", "DEVPATH=", "SUBSYSTEM=")
_SEQUENCE = "SEQNUM="


class Uevents:
    """What the kernel sends to this network namespace.  OSError when it cannot be received."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_KOBJECT_UEVENT)
        with contextlib.suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.bind((0, _OF_KERNEL))

    def answer(self, silence: float = 0) -> Answer:
        """The events that were sent since the last call, until none follows for some seconds."""
        return {"events": list(self._received(silence))}

    def forget(self) -> None:
        """Leave out what was sent up to now."""
        for _ in self._received(0):
            pass

    def _received(self, silence: float) -> Iterator[list[str]]:
        while select.select([self._socket], [], [], silence)[0]:
            _, *words = self._socket.recv(_LARGEST).decode("latin-1").rstrip("\0").split("\0")
            head = [next(word.partition("=")[2] for word in words if word.startswith(key)) for key in _HEAD]
            yield [*head, *(word for word in words if not word.startswith((*_HEAD, _SEQUENCE)))]
