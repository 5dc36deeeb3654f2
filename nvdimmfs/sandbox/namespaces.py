"""Namespaces of one's own: user (unless privileged), mount and network, later that of process ids."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from pathlib import Path

from nvdimmfs.sandbox import syscalls
from nvdimmfs.sandbox.errors import SandboxError, step

#: The capability that mounting and unsharing need (CAP_SYS_ADMIN, include/uapi/linux/capability.h).
CAP_SYS_ADMIN = 21

#: What uid_map says outside of any user namespace: all users are themselves.
_ALL_USERS = ["0", "0", str(2**32 - 1)]

#: Where a host may forbid user namespaces, with the value that allows them and what to do about it.
_USER_NAMESPACE_SETTINGS = {
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": ("0", "kernel.apparmor_restrict_unprivileged_userns=0"),
    "/proc/sys/kernel/unprivileged_userns_clone": ("1", "kernel.unprivileged_userns_clone=1"),
}

# Requests of ioctl(2) on a socket, and a flag of an interface (include/uapi/linux/sockios.h, include/uapi/linux/if.h).
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_INTERFACE_REQUEST = struct.Struct("16sh22x")


def is_privileged() -> bool:
    """Whether this process may mount and unshare without a user namespace."""
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "CapEff":
            return bool(int(value, 16) >> CAP_SYS_ADMIN & 1)
    return False


def may_make_nodes() -> bool:
    """Whether this process may make device nodes: in a user namespace nobody may."""
    return is_privileged() and Path("/proc/self/uid_map").read_text().split() == _ALL_USERS


def user_namespace_remedy() -> str:
    """What would allow user namespaces on this host."""
    for path, (wanted, setting) in _USER_NAMESPACE_SETTINGS.items():
        try:
            forbidden = Path(path).read_text().strip() != wanted
        except OSError:
            continue
        if forbidden:
            return f"`sudo sysctl -w {setting}` allows it, and so does running as root"
    return "a host or container that allows user namespaces (clone and unshare), or running as root, would"


def enter(*, own_network: bool) -> None:
    """Take this process, which has one thread, to namespaces of its own.

    An ordinary user becomes root there, with no right outside that it did not have before.  What is mounted from now on
    is seen by this process and its children alone.

    Raises:
        SandboxError: it is not allowed; says what would allow it.
    """
    if not is_privileged():
        _enter_user_namespace()
    with step("make a mount namespace"):
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_SLAVE)
    if own_network:
        with step("make a network namespace", "--net=host does without, and without uevents"):
            syscalls.unshare(syscalls.CLONE_NEWNET)
            _bring_up_loopback()


def unshare_process_ids() -> None:
    """Let the next child be the first process of a namespace of process ids."""
    with step("make a namespace of process ids"):
        syscalls.unshare(syscalls.CLONE_NEWPID)


def _enter_user_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError as failure:
        raise SandboxError(f"cannot make a user namespace: {failure.strerror}; {user_namespace_remedy()}") from failure


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = _INTERFACE_REQUEST.pack(b"lo", 0)
        _, flags = _INTERFACE_REQUEST.unpack(fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _INTERFACE_REQUEST.pack(b"lo", flags | _IFF_UP))
