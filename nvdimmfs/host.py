"""What the host's kernel permits this process: its capabilities, the settings that restrict them, and limits."""

from __future__ import annotations

import errno
import mmap
import os
import resource
from pathlib import Path

#: Capabilities (include/uapi/linux/capability.h, Linux 6.1): mount(2) and unshare(2) require the last one, changing a
#: network interface requires the first one, and setns(2) with a mount namespace requires the second one as well.
CAP_NET_ADMIN = 12
CAP_SYS_CHROOT = 18
CAP_SYS_ADMIN = 21

#: The content of uid_map outside any user namespace: each user id maps to itself.
_ALL_USERS = ["0", "0", str(2**32 - 1)]

#: "Seccomp" in /proc/PID/status of a process with a filter (SECCOMP_MODE_FILTER, include/uapi/linux/seccomp.h).
_FILTERED = "2"

#: Bytes of a thread's stack where the limit of stacks is infinite (ARCH_STACK_DEFAULT_SIZE, GNU C library on x86-64).
_STACK_SIZE = 2 << 20


def has_capability(number: int) -> bool:
    """Whether this process has a capability in effect."""
    return _in_set("CapEff", number)


def may_gain_capability(number: int) -> bool:
    """Whether a set-user-id program that this process starts can have a capability; a container can rule it out."""
    return _in_set("CapBnd", number)


def may_gain_privileges() -> bool:
    """Whether set-user-id programs have an effect (no_new_privs, prctl(2))."""
    return _status("NoNewPrivs") != "1"


def is_filtered() -> bool:
    """Whether a seccomp filter restricts the system calls of this process, as in most containers."""
    return _status("Seccomp") == _FILTERED


def has_all_users() -> bool:
    """Whether this process is outside any user namespace."""
    return Path("/proc/self/uid_map").read_text().split() == _ALL_USERS


def confinement() -> str:
    """The security module that confines this process, `apparmor` or `selinux`; empty for none."""
    label = setting("/proc/self/attr/current").rstrip("\0")
    if setting("/sys/module/apparmor/parameters/enabled") == "Y":
        return "" if label.startswith("unconfined") or not label else "apparmor"
    return "selinux" if label and Path("/sys/fs/selinux/enforce").exists() else ""


def why_no_thread() -> OSError:
    """Why a thread could not be started just now; Python keeps no errno of it.

    ENOMEM where the memory of its stack cannot be mapped, else EAGAIN: a limit of processes.
    """
    size, _ = resource.getrlimit(resource.RLIMIT_STACK)  # of a thread's stack, too (pthread_create(3))
    number = errno.EAGAIN
    try:
        mmap.mmap(-1, _STACK_SIZE if size == resource.RLIM_INFINITY else max(size, mmap.PAGESIZE)).close()
    except OSError as failure:
        number = failure.errno or number
    return OSError(number, os.strerror(number))


def setting(path: str) -> str:
    """The value in a file such as those of sysctl(8); empty where the kernel has no such file."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def how_to_unconfine() -> str:
    """How to start a container without the security module by which this process is confined; empty for none."""
    flags = {"apparmor": "apparmor=unconfined", "selinux": "label=disable"}
    flag = flags.get(confinement())
    return f"start the container with `--security-opt {flag}`" if flag else ""


def how_to_get_capability(name: str) -> str:
    """The flag for a container that gives its root a capability, with its equivalent for Kubernetes."""
    return f"start the container with `--cap-add {name}` (Kubernetes: `privileged: true`)"


def _in_set(name: str, number: int) -> bool:
    return bool(int(_status(name) or "0", 16) >> number & 1)


def _status(key: str) -> str:
    """A value of /proc/self/status; empty where the kernel does not have it."""
    for line in Path("/proc/self/status").read_bytes().split(b"\n"):  # the process's name may have other ends of lines
        name, _, value = line.partition(b":")
        if name == key.encode():
            return value.strip().decode()
    return ""
