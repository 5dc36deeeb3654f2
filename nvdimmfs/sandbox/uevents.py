"""Uevents over netlink, to whoever listens in a network namespace of one's own: udev's listeners and the kernel's.

A listener needs nothing preloaded.  What it asks for in return: it is in the same network namespace as the sender, the
sender is root there, and /run/udev/control exists, else libudev thinks that no udev runs and does not listen.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Self

from nvdimmfs.core.uevent import Uevent
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.udev_message import kernel_message, udev_message

#: The netlink family of uevents (include/uapi/linux/netlink.h, Linux 6.1).
NETLINK_KOBJECT_UEVENT = 15

#: The multicast group of what udev says once its rules have run (src/libsystemd/sd-device, systemd 252).  The kernel's
#: own is 1; only the kernel can send to it so that a listener believes it.
UDEV_GROUP = 2

#: A netlink header: length, type, flags, sequence number, port (struct nlmsghdr, include/uapi/linux/netlink.h).
_HEADER = struct.Struct("=IHHII")
#: What follows it in an answer: 0 or a negative errno (struct nlmsgerr).
_ANSWER = struct.Struct("=i")
#: The first message type that is not netlink's own (NLMSG_MIN_TYPE); the kernel looks at no more than that.
_UEVENT_TYPE = 0x10
#: NLM_F_REQUEST and NLM_F_ACK.
_REQUEST_AND_ANSWER = 0x1 | 0x4
#: More than any answer takes: it repeats the message.
_ANSWER_SIZE = 16384

#: The kernel's port: it takes what is sent there (netlink(7)).
_KERNEL_PORT = 0
#: No port: the message is for a group.
_ANY_PORT = 0


class UeventSender:
    """Sends uevents in the network namespace that it was made in.

    Each event goes out twice, as in life: first as the kernel's, then as udev's.  The kernel lends its name to the
    first (uevent_net_rcv, lib/kobject_uevent.c, since Linux 4.18) and gives it a SEQNUM of its own.

    A `core.uevent.UeventListener`; also a context manager that closes it.
    """

    def __init__(self) -> None:
        """KernelError when the sockets cannot be had."""
        with contextlib.ExitStack() as failed:
            self._udev = failed.enter_context(_open_socket())
            self._kernel = failed.enter_context(_open_socket())
            failed.pop_all()

    def send(self, properties: Sequence[tuple[str, str]]) -> None:
        """Send one event to everybody who listens; nobody need.

        Args:
            properties: ACTION, DEVPATH, SUBSYSTEM, SEQNUM and the others, in the kernel's order.  udev has only the
                last value of a key that comes several times.

        Raises:
            KernelError: EPERM outside of a network namespace of one's own, EINVAL for properties that cannot be sent;
                else as sendmsg(2).
        """
        try:
            from_kernel = kernel_message([(key, value) for key, value in properties if key != "SEQNUM"])
            from_udev = udev_message(dict(properties))
        except ValueError as error:
            raise KernelError(errno.EINVAL, str(error)) from None
        self._send_as_kernel(from_kernel)
        self._multicast(from_udev)

    def uevent(self, event: Uevent) -> None:
        """Send one event of the engine; errors as `send`."""
        self.send(event.properties)

    def close(self) -> None:
        self._udev.close()
        self._kernel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send_as_kernel(self, message: bytes) -> None:
        """Have the kernel send it to its listeners, and wait for its word that it did."""
        header = _HEADER.pack(_HEADER.size + len(message), _UEVENT_TYPE, _REQUEST_AND_ANSWER, 0, 0)
        with _refusals():
            self._kernel.sendto(header + message, (_KERNEL_PORT, 0))
            answer = self._kernel.recv(_ANSWER_SIZE)
            (error,) = _ANSWER.unpack_from(answer, _HEADER.size)
            if error:
                raise OSError(-error, os.strerror(-error))

    def _multicast(self, message: bytes) -> None:
        # ECONNREFUSED: nobody listens.
        with _refusals(), contextlib.suppress(ConnectionRefusedError):
            self._udev.sendto(message, (_ANY_PORT, UDEV_GROUP))


def _open_socket() -> socket.socket:
    with _refusals():
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What goes wrong within, as a KernelError that says what to do about it."""
    try:
        yield
    except OSError as error:
        number = error.errno or errno.EIO
        advice = "; this needs a private network namespace" if number == errno.EPERM else ""
        raise KernelError(number, f"uevents cannot be sent: {os.strerror(number)}{advice}") from error
