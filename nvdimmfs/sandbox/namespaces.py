"""Entering private namespaces: user (unless privileged), mount and network, and later PID."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from nvdimmfs import host
from nvdimmfs.inherited_files import keep_open
from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.errors import SandboxError, step

#: Settings of sysctl(8) that can forbid user namespaces: the value that forbids them, and the one that permits them.
_USER_NAMESPACE_SETTINGS = {
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    "kernel.unprivileged_userns_clone": ("0", "1"),
}

#: The kinds of namespaces, and the limit of their number (namespaces(7)).
_KINDS = {
    libc.CLONE_NEWUSER: ("a user namespace", "user.max_user_namespaces"),
    libc.CLONE_NEWNS: ("a mount namespace", "user.max_mnt_namespaces"),
    libc.CLONE_NEWPID: ("a PID namespace", "user.max_pid_namespaces"),
    libc.CLONE_NEWNET: ("a network namespace", "user.max_net_namespaces"),
}

#: A limit that is far above what any number of sandboxes needs.
_HIGH_LIMIT = 100_000

# Requests of ioctl(2) on a socket, and a flag of an interface (include/uapi/linux/sockios.h, include/uapi/linux/if.h).
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_INTERFACE_REQUEST = struct.Struct("16sh22x")


def is_privileged() -> bool:
    """Whether this process may call mount(2) and unshare(2) without a user namespace."""
    return host.has_capability(host.CAP_SYS_ADMIN)


def may_create_nodes() -> bool:
    """Whether this process may create device nodes, which no process in a user namespace may."""
    return is_privileged() and host.has_all_users()


def kinds(*, private_network: bool) -> int:
    """The kinds of namespaces that `enter` and `NewNetwork.enter` enter.  To be asked before."""
    user = 0 if is_privileged() else libc.CLONE_NEWUSER
    return user | libc.CLONE_NEWNS | (libc.CLONE_NEWNET if private_network else 0)


def can_be_joined() -> bool:
    """Whether a process that is forked before `enter` can `join` later."""
    return not is_privileged() or host.has_capability(host.CAP_SYS_CHROOT)


def join(process: int, pidfd: int, kinds: int) -> None:
    """Join namespaces of another process, and take its root directory.  OSError.

    Args:
        process: its process id.
        pidfd: a descriptor of it (pidfd_open(2)).
        kinds: the kinds of namespaces.
    """
    libc.setns(pidfd, kinds)
    root = os.open(f"/proc/{process}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(root)
    os.chroot(".")
    os.close(root)


def enter(*, private_network: bool) -> NewNetwork | None:
    """Move this process, which must have a single thread, into namespaces of its own.

    An ordinary user becomes root inside, but gains no privilege outside.  Later mounts are visible to this process and
    its children only.

    Returns:
        The network that the process enters later; None for that of the host.

    Raises:
        SandboxError: the host does not permit it; the message names a remedy.
    """
    if not is_privileged():
        _enter_user_namespace()
    network = _network() if private_network else None
    try:
        with _creation(libc.CLONE_NEWNS):
            libc.unshare(libc.CLONE_NEWNS)
        with step("separate the mounts from the host's", host.how_to_unconfine()):
            _separate_mounts()
    except BaseException:
        if network is not None:
            network.close()
        raise
    return network


#: Networks that were created for a sandbox of this process, at most one.
_prepared: list[NewNetwork] = []


def prepare_network() -> None:
    """Create the network of the sandbox that this process builds next, which takes the kernel milliseconds.

    Nothing happens where this process may not, or the host refuses it: `enter` then finds out.
    """
    if is_privileged() and host.has_capability(host.CAP_NET_ADMIN):
        network = NewNetwork()
        descriptor = network.descriptor()
        if descriptor is not None:
            keep_open(descriptor)
            _prepared.append(network)


def _network() -> NewNetwork:
    return _prepared.pop() if _prepared else NewNetwork()


def _separate_mounts() -> None:
    try:
        libc.mount("none", "/", flags=libc.MS_REC | libc.MS_SLAVE)
    except OSError as failure:
        if failure.errno != errno.EINVAL:
            raise
        remedy = "before `chroot DIR`, make it one: `mount --bind DIR DIR`"
        raise SandboxError(f"/ is not a mount point, as in a chroot; {remedy}") from failure


def unshare_pid_namespace() -> None:
    """Make the next child process 1 of a new PID namespace."""
    with _creation(libc.CLONE_NEWPID):
        libc.unshare(libc.CLONE_NEWPID)


@contextlib.contextmanager
def new_pid_namespace() -> Iterator[None]:
    """The first child in the block becomes process 1 of a new PID namespace.  OSError or SandboxError."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare_pid_namespace()
        try:
            yield
        finally:
            libc.setns(own, libc.CLONE_NEWPID)
    finally:
        os.close(own)


@contextlib.contextmanager
def _creation(kind: int) -> Iterator[None]:
    """Turn an OSError of the creation of a namespace into a SandboxError that names the setting to change."""
    try:
        yield
    except OSError as failure:
        what, limit = _KINDS[kind]
        if failure.errno == errno.ENOSPC:
            reason = f"{limit} permits only {host.setting(_path(limit)) or 'few'}"
            remedy = f"run `sysctl -w {limit}={_HIGH_LIMIT}` as root"
        else:
            reason = failure.strerror or str(failure)
            remedy = _remedy(kind)
        raise SandboxError(f"cannot create {what}: {reason}{f'; {remedy}' if remedy else ''}") from failure


def _remedy(kind: int) -> str:
    """What would permit a kind of namespace; empty where nothing is known."""
    if kind == libc.CLONE_NEWUSER:
        for setting, (forbidden, permitted) in _USER_NAMESPACE_SETTINGS.items():
            if host.setting(_path(setting)) == forbidden:
                return f"run `sysctl -w {setting}={permitted}` as root; root needs no user namespace"
        if not host.may_gain_capability(host.CAP_SYS_ADMIN):
            return host.how_to_get_capability("SYS_ADMIN")
    if host.is_filtered():
        return "start the container with `--security-opt seccomp=unconfined`"
    if kind == libc.CLONE_NEWUSER and os.geteuid() == 0:
        return "do not drop root's CAP_SYS_ADMIN (capsh, setpriv, CapabilityBoundingSet= of systemd)"
    return host.how_to_unconfine() or "use a kernel that has these namespaces (CONFIG_NAMESPACES)"


def _path(setting: str) -> str:
    """The file of a setting of sysctl(8)."""
    return f"/proc/sys/{setting.replace('.', '/')}"


def _enter_user_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    with _creation(libc.CLONE_NEWUSER):
        libc.unshare(libc.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")


class NewNetwork:
    """A network namespace, in which the loopback interface is up.

    A thread creates it, while this process sets other things up: the kernel takes milliseconds, in which it waits for
    its lock on networks, and for other networks to go.

    To change an interface, and to send a uevent, requires CAP_NET_ADMIN over the user namespace that owns the network
    namespace.  Root of most containers lacks it, but has all capabilities over a user namespace that it creates.  Where
    that is not possible, the interface stays down.
    """

    def __init__(self) -> None:
        self._namespace = -1
        self._is_created = self._has_loopback = False
        self._failure: OSError | None = None
        self._thread: threading.Thread | None = None
        if host.has_capability(host.CAP_NET_ADMIN):
            self._thread = threading.Thread(target=self._create, daemon=True, name="network")
            try:
                self._thread.start()
            except RuntimeError:  # a limit of the host
                self._thread = None

    def descriptor(self) -> int | None:
        """Wait for the thread, and return the descriptor of the namespace; None where there is none."""
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None:
            self.close()
        return None if self._namespace < 0 else self._namespace

    def enter(self) -> bool:
        """Move this process into it; whether the interface is up, and uevents can be sent.

        SandboxError when the host does not permit a network namespace.
        """
        if self._thread is None:
            return _enter_network_namespace()
        self._thread.join()
        with step("set up the network") if self._is_created else _creation(libc.CLONE_NEWNET):
            if self._failure is not None:
                raise self._failure
            libc.setns(self._namespace, libc.CLONE_NEWNET)
        self.close()
        return self._has_loopback

    def close(self) -> None:
        """Wait for the thread, and forget the namespace."""
        if self._thread is not None:
            self._thread.join()
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    def _create(self) -> None:
        """In the thread, which is in the namespace alone until `enter`."""
        try:
            libc.unshare(libc.CLONE_NEWNET)
            self._is_created = True
            self._namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self._has_loopback = _has_loopback()
        except OSError as failure:
            self._failure = failure


def _enter_network_namespace() -> bool:
    if host.has_capability(host.CAP_NET_ADMIN) or not _join_network_of_child():
        with _creation(libc.CLONE_NEWNET):
            libc.unshare(libc.CLONE_NEWNET)
    return _has_loopback()


def _has_loopback() -> bool:
    """Bring up the loopback interface; whether that was possible."""
    try:
        _bring_up_loopback()
    except PermissionError:
        return False
    return True


def _join_network_of_child() -> bool:
    """Join a network namespace that a child creates in a user namespace of its own; whether that was possible."""
    created, creates = os.pipe()
    ended, ends = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ends)
            libc.unshare(libc.CLONE_NEWUSER | libc.CLONE_NEWNET)
            os.write(creates, b"+")
            os.read(ended, 1)  # until the parent has joined
        finally:
            os._exit(0)
    os.close(creates)
    os.close(ended)
    try:
        if not os.read(created, 1):
            return False
        namespace = os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc.setns(namespace, libc.CLONE_NEWNET)
        finally:
            os.close(namespace)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(created)
        os.close(ends)
        os.waitpid(child, 0)


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = _INTERFACE_REQUEST.pack(b"lo", 0)
        _, flags = _INTERFACE_REQUEST.unpack(fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _INTERFACE_REQUEST.pack(b"lo", flags | _IFF_UP))
