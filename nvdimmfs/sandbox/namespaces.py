"""Entering private namespaces: user (unless privileged), mount and network, and later PID."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from pathlib import Path

from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.errors import SandboxError, step

#: The capability that mount(2) and unshare(2) require (CAP_SYS_ADMIN, include/uapi/linux/capability.h).
CAP_SYS_ADMIN = 21

#: The content of uid_map outside any user namespace: each user id maps to itself.
_ALL_USERS = ["0", "0", str(2**32 - 1)]

#: Where a host may forbid user namespaces, with the value that permits them and the sysctl(8) setting for it.
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
    """Whether this process may call mount(2) and unshare(2) without a user namespace."""
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "CapEff":
            return bool(int(value, 16) >> CAP_SYS_ADMIN & 1)
    return False


def may_create_nodes() -> bool:
    """Whether this process may create device nodes, which no process in a user namespace may."""
    return is_privileged() and Path("/proc/self/uid_map").read_text().split() == _ALL_USERS


def user_namespace_remedy() -> str:
    """What would permit user namespaces on this host."""
    for path, (wanted, setting) in _USER_NAMESPACE_SETTINGS.items():
        try:
            forbidden = Path(path).read_text().strip() != wanted
        except OSError:
            continue
        if forbidden:
            return f"`sudo sysctl -w {setting}` permits it; root needs no permission"
    return "use a host or container that permits user namespaces (clone and unshare), or run as root"


def enter(*, private_network: bool) -> None:
    """Move this process, which must have a single thread, into namespaces of its own.

    An ordinary user becomes root inside, but gains no privilege outside.  Later mounts are visible to this process and
    its children only.

    Raises:
        SandboxError: the host does not permit it; the message names a remedy.
    """
    if not is_privileged():
        _enter_user_namespace()
    with step("create a mount namespace"):
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount("none", "/", flags=libc.MS_REC | libc.MS_SLAVE)
    if private_network:
        with step("create a network namespace", "--net=host needs none, but sends no uevents"):
            libc.unshare(libc.CLONE_NEWNET)
            _bring_up_loopback()


def unshare_pid_namespace() -> None:
    """Make the next child process 1 of a new PID namespace."""
    with step("create a PID namespace"):
        libc.unshare(libc.CLONE_NEWPID)


def _enter_user_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    try:
        libc.unshare(libc.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError as failure:
        raise SandboxError(
            f"cannot create a user namespace: {failure.strerror}; {user_namespace_remedy()}"
        ) from failure


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = _INTERFACE_REQUEST.pack(b"lo", 0)
        _, flags = _INTERFACE_REQUEST.unpack(fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _INTERFACE_REQUEST.pack(b"lo", flags | _IFF_UP))
