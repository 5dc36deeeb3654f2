"""Uevents over netlink, for the listeners in a private network namespace: those of udev's group and of the kernel's.

A listener needs no preloaded library.  It must be in the same network namespace as the sender, the sender must be root
there, and /run/udev/control must exist: without it libudev assumes that udev does not run, and does not listen.
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
from nvdimmfs.sandbox.errors import os_error

#: The netlink family of uevents (include/uapi/linux/netlink.h, Linux 6.1).
NETLINK_KOBJECT_UEVENT = 15

#: The multicast group to which udev sends after its rules have run (src/libsystemd/sd-device, systemd 252).  The
#: kernel's own group is 1; listeners accept a message to that group only from the kernel.
UDEV_GROUP = 2

#: A netlink header: length, type, flags, sequence number, port (struct nlmsghdr, include/uapi/linux/netlink.h).
_HEADER = struct.Struct("=IHHII")
#: The payload of a reply: 0 or a negative errno (struct nlmsgerr).
_REPLY = struct.Struct("=i")
#: The first message type that is not netlink's own (NLMSG_MIN_TYPE); the kernel checks nothing else of it.
_UEVENT_TYPE = 0x10
#: NLM_F_REQUEST and NLM_F_ACK.
_REQUEST_WITH_REPLY = 0x1 | 0x4
#: Size of the buffer for a reply, which repeats the message; no reply is longer.
_REPLY_BUFFER_SIZE = 16384

#: The kernel's port: messages to it go to the kernel (netlink(7)).
_KERNEL_PORT = 0
#: No port: the message is for a group.
_ANY_PORT = 0


class UeventSender:
    """Sends uevents in the network namespace in which it was created.

    Each event is sent twice, as on a real system: first as the kernel's, then as udev's.  The kernel itself broadcasts
    the first (uevent_net_rcv, lib/kobject_uevent.c, since Linux 4.18) and gives it a SEQNUM of its own.

    A `core.uevent.UeventListener`; also a context manager that closes it.
    """

    def __init__(self) -> None:
        """KernelError when a socket cannot be opened."""
        with contextlib.ExitStack() as failed:
            self._udev = failed.enter_context(_open_socket())
            self._kernel = failed.enter_context(_open_socket())
            failed.pop_all()

    def send(self, properties: Sequence[tuple[str, str]]) -> None:
        """Send one event to all listeners, if there are any.

        Args:
            properties: ACTION, DEVPATH, SUBSYSTEM, SEQNUM and the others, in the kernel's order.  udev's message has
                only the last value of a key that occurs several times.

        Raises:
            KernelError: EPERM outside a private network namespace, EINVAL for properties that cannot be sent;
                otherwise as sendmsg(2).
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
        """Have the kernel broadcast a message to its group, and wait for its acknowledgement."""
        header = _HEADER.pack(_HEADER.size + len(message), _UEVENT_TYPE, _REQUEST_WITH_REPLY, 0, 0)
        with _as_kernel_error():
            self._kernel.sendto(header + message, (_KERNEL_PORT, 0))
            reply = self._kernel.recv(_REPLY_BUFFER_SIZE)
            (error,) = _REPLY.unpack_from(reply, _HEADER.size)
            if error:
                raise os_error(-error)

    def _multicast(self, message: bytes) -> None:
        # ECONNREFUSED: the group has no listener.
        with _as_kernel_error(), contextlib.suppress(ConnectionRefusedError):
            self._udev.sendto(message, (_ANY_PORT, UDEV_GROUP))


def _open_socket() -> socket.socket:
    with _as_kernel_error():
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT)


@contextlib.contextmanager
def _as_kernel_error() -> Iterator[None]:
    """Turn an OSError raised inside into a KernelError, with a remedy where one is known."""
    try:
        yield
    except OSError as error:
        number = error.errno or errno.EIO
        advice = "; only root of a private network namespace may send them" if number == errno.EPERM else ""
        raise KernelError(number, f"cannot send uevents: {os.strerror(number)}{advice}") from error
