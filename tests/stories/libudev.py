"""The real libudev as a listener, and, run as a program, a network namespace of its own in which it listens.

    python tests/stories/libudev.py WAY < ORDER > ANSWER

WAY selects how to get there: `root` stays root and needs no user namespace, `user` stays the current user, `nobody`
first drops root.  ORDER is JSON: `monitors`, each with its `source` (udev or kernel) and `filters` (subsystem and
devtype, or null); `events`, the properties of each; `machine`, a memmap= value of a machine on which namespace0.0
is unbound and bound again, or null.  ANSWER is what each monitor received, the properties of each event in turn,
or `refused`, the errno of an event that could not be sent.  Where there is no such namespace, one line on standard
error gives the reason, and the exit status is 77.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.lab.trees import InProcess
from nvdimmfs.machine.machine import Machine
from nvdimmfs.sandbox.uevents import UeventSender

LIBRARY = "libudev.so.1"
NOBODY = 65534

#: Asks a socket for its filter; lengths count instructions (SO_GET_FILTER, include/uapi/asm-generic/socket.h).
SO_GET_FILTER = 26
FILTER_ROOM = 512

#: The exit status that means: not here.
SKIPPED = 77

#: include/uapi/linux/sched.h, mount.h and prctl.h.
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
PR_SET_DUMPABLE = 4

_POINTERS = (
    "udev_new",
    "udev_monitor_new_from_netlink",
    "udev_monitor_receive_device",
    "udev_device_get_properties_list_entry",
    "udev_list_entry_get_next",
)
_STRINGS = ("udev_list_entry_get_name", "udev_list_entry_get_value")


def load() -> ctypes.CDLL:
    """OSError when it is not installed."""
    library = ctypes.CDLL(LIBRARY, use_errno=True)
    for name in _POINTERS:
        getattr(library, name).restype = ctypes.c_void_p
    for name in _STRINGS:
        getattr(library, name).restype = ctypes.c_char_p
    return library


@attrs.frozen
class Monitor:
    """A monitor that has been listening since it was made."""

    library: ctypes.CDLL
    handle: ctypes.c_void_p

    @classmethod
    def open(
        cls, library: ctypes.CDLL, source: str, filters: Sequence[tuple[str, str | None]], tags: Sequence[str] = ()
    ) -> Monitor:
        context = ctypes.c_void_p(library.udev_new())
        handle = ctypes.c_void_p(library.udev_monitor_new_from_netlink(context, source.encode()))
        assert handle, "no monitor"
        for subsystem, devtype in filters:
            wanted = devtype.encode() if devtype else None
            refusal = library.udev_monitor_filter_add_match_subsystem_devtype(handle, subsystem.encode(), wanted)
            assert refusal == 0, refusal
        for tag in tags:
            refusal = library.udev_monitor_filter_add_match_tag(handle, tag.encode())
            assert refusal == 0, refusal
        refusal = library.udev_monitor_enable_receiving(handle)
        assert refusal == 0, refusal
        return cls(library, handle)

    def received(self) -> Iterator[dict[str, str]]:
        """The properties of every event that is there; netlink delivers before a send returns."""
        while device := self.library.udev_monitor_receive_device(self.handle):
            yield dict(self._properties(ctypes.c_void_p(device)))
            self.library.udev_device_unref(ctypes.c_void_p(device))

    def filter_constants(self) -> set[int]:
        """The numbers in its socket's filter: those of the instructions, among them the hashes that it compares."""
        program = (ctypes.c_uint64 * FILTER_ROOM)()
        count = ctypes.c_uint32(FILTER_ROOM)
        socket_fd = self.library.udev_monitor_get_fd(self.handle)
        _call("getsockopt", socket_fd, socket.SOL_SOCKET, SO_GET_FILTER, program, ctypes.byref(count))
        instructions = bytes(program)[: count.value * 8]
        return {constant for _, _, _, constant in struct.iter_unpack("=HBBI", instructions)}

    def _properties(self, device: ctypes.c_void_p) -> Iterator[tuple[str, str]]:
        entry = ctypes.c_void_p(self.library.udev_device_get_properties_list_entry(device))
        while entry:
            name = self.library.udev_list_entry_get_name(entry).decode()
            yield name, self.library.udev_list_entry_get_value(entry).decode()
            entry = ctypes.c_void_p(self.library.udev_list_entry_get_next(entry))


def enter_namespace(way: str) -> None:
    """OSError where it is not allowed."""
    if way == "nobody":
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        _call("prctl", PR_SET_DUMPABLE, 1)  # else /proc/self stays root's
    user, group = os.geteuid(), os.getegid()
    _call("unshare", CLONE_NEWNET | CLONE_NEWNS | (0 if way == "root" else CLONE_NEWUSER))
    if way != "root":
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def pretend_udev() -> None:
    """A /run of this namespace's own in which udev seems to run."""
    _call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    _call("mount", b"tmpfs", b"/run", b"tmpfs", 0, None)
    control = Path("/run/udev/control")
    control.parent.mkdir()
    control.touch()


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def rebind(machine: Machine) -> None:
    sysfs = InProcess(machine)
    for word in ("unbind", "bind"):
        sysfs.write(f"bus/nd/drivers/nd_pmem/{word}", b"namespace0.0")


def answer(order: dict[str, Any]) -> object:
    library = load()
    monitors = [Monitor.open(library, each["source"], each["filters"]) for each in order["monitors"]]
    with UeventSender() as sender:
        try:
            for properties in order["events"]:
                sender.send(tuple(properties.items()))
        except KernelError as refusal:
            return {"refused": refusal.errno}
        if order["machine"]:
            machine = Machine.legacy(order["machine"], 4 << 30, clock="steps")
            machine.system.listen(sender)
            rebind(machine)
    return [list(monitor.received()) for monitor in monitors]


def main() -> int:
    try:
        enter_namespace(sys.argv[1])
        pretend_udev()
    except OSError as reason:
        print(f"no network namespace of one's own: {reason}", file=sys.stderr)
        return SKIPPED
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
