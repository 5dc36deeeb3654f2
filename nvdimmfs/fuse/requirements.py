"""The host's requirements for a mount, checked without the FUSE library, and the reasons why a mount is refused."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from nvdimmfs import host

#: The device through which a file system in user space communicates with the kernel (fuse(4)).
FUSE_DEVICE = Path("/dev/fuse")

#: The set-user-id helper that mounts and unmounts for ordinary users.
MOUNT_HELPER = "fusermount3"

#: The table of mounts in which the helper looks for what it is asked to unmount (mtab(5)).
MOUNT_TABLE = Path("/etc/mtab")

#: The extended attribute of a program with capabilities of its own, which some hosts give to the helper instead.
_FILE_CAPABILITIES = "security.capability"


class MountError(Exception):
    """A mount is not possible; the message is one line: the reason and, after a semicolon, what would help."""


def require_fuse(*, helper: bool = True) -> None:
    """MountError when this host has no FUSE, or this user may not use it.

    Args:
        helper: whether an ordinary user needs the helper, as is the case outside a user namespace of their own.
    """
    needs_helper = helper and os.geteuid() != 0
    if needs_helper and FUSE_DEVICE.exists() and shutil.which(MOUNT_HELPER) is None:
        raise MountError(f"{MOUNT_HELPER} is missing; install it (Debian package fuse3), or run as root")
    # The helper opens the device with its caller's permissions, so it would fail as well.
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as failure:
        raise MountError(_about_device(failure)) from None
    if needs_helper and not MOUNT_TABLE.exists():
        raise MountError(
            f"{MOUNT_TABLE} is missing, and without it {MOUNT_HELPER} cannot unmount; "
            f"run `ln -s /proc/self/mounts {MOUNT_TABLE}` as root"
        )


def refusal(mountpoint: Path, messages: Sequence[str]) -> MountError:
    """The error for a mount that the kernel or the helper has refused.

    Args:
        mountpoint: the directory.
        messages: the lines that libfuse and its helper have printed.
    """
    lines = [re.sub(r"^(fuse|fusermount3): ", "", line.strip()) for line in messages if line.strip()]
    text = ", ".join(lines)
    for pattern, explain in _EXPLANATIONS:
        if found := re.search(pattern, text):
            reason, remedy = explain(found)
            return MountError(f"cannot mount on {mountpoint}: {reason or text}{f'; {remedy}' if remedy else ''}")
    return MountError(f"cannot mount on {mountpoint}: {text or 'the FUSE library gives no reason'}")


def _about_device(failure: OSError) -> str:
    """Why the device cannot be opened, and what would help."""
    match failure.errno:
        case errno.ENOENT:
            return (
                f"{FUSE_DEVICE} is missing; load the kernel's fuse module (`modprobe fuse`), or pass the device to the "
                f"container (`--device {FUSE_DEVICE} --cap-add SYS_ADMIN`; Kubernetes: `privileged: true`)"
            )
        case errno.ENODEV | errno.ENXIO:
            return f"{FUSE_DEVICE} has no driver; load the kernel's fuse module (`modprobe fuse`)"
        case errno.EPERM:
            return (
                f"this container may not use {FUSE_DEVICE}; "
                f"start it with `--device {FUSE_DEVICE}` (Kubernetes: `privileged: true`)"
            )
        case errno.EACCES:
            return f"no permission to use {FUSE_DEVICE}; run `sudo chmod 666 {FUSE_DEVICE}`, or run as root"
    return f"{FUSE_DEVICE}: {failure.strerror}"


def _about_privilege(_found: re.Match[str]) -> tuple[str, str]:
    """Why mount(2) is EPERM."""
    if not host.may_gain_capability(host.CAP_SYS_ADMIN):
        return "this container may not mount (CAP_SYS_ADMIN)", host.how_to_get_capability("SYS_ADMIN")
    if os.geteuid() != 0:
        reason, remedy = _about_helper()
        if reason:
            return reason, remedy
    if host.is_filtered():
        return "a seccomp filter forbids mount(2)", "start the container with `--security-opt seccomp=unconfined`"
    if os.geteuid() == 0 and not host.has_capability(host.CAP_SYS_ADMIN):
        return "root has lost CAP_SYS_ADMIN", "do not drop it (capsh, setpriv, CapabilityBoundingSet= of systemd)"
    if not host.has_all_users():
        return (
            "this user namespace does not own its mount namespace",
            "enter both together, as `unshare --map-root-user --mount` does",
        )
    return "mount(2) is not permitted", host.how_to_unconfine()


def _about_helper() -> tuple[str, str]:
    """Why the helper does not become root; an empty reason when it does."""
    path = shutil.which(MOUNT_HELPER)
    if path is None:
        return f"{MOUNT_HELPER} is missing", "install it (Debian package fuse3), or run as root"
    status = Path(path).stat()
    if not (status.st_mode & stat.S_ISUID and status.st_uid == 0) and not _has_capabilities(path):
        return f"{path} is not set-user-id root", f"run `chown root {path} && chmod u+s {path}` as root"
    if not host.may_gain_privileges():
        reason = f"{path} cannot become root, because no_new_privs is set"
        return reason, "start the container without `--security-opt no-new-privileges` (systemd: `NoNewPrivileges=no`)"
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return f"{path} cannot become root, because its file system is mounted with nosuid", "mount it with suid"
    return "", ""


def _has_capabilities(path: str) -> bool:
    """Whether a program has capabilities of its own."""
    try:
        return bool(os.getxattr(path, _FILE_CAPABILITIES))
    except OSError:
        return False


def _about_permission(_found: re.Match[str]) -> tuple[str, str]:
    """Why mount(2) is EACCES."""
    remedy = host.how_to_unconfine()
    if remedy:
        return f"{host.confinement()} forbids it", remedy
    return "", "mount on a directory of yours"


def _about_user(_found: re.Match[str]) -> tuple[str, str]:
    user, group = os.getuid(), os.getgid()
    entry = f"user{user}:x:{user}:{group}::/tmp:/bin/sh"
    return (
        f"user {user} has no entry in /etc/passwd, which {MOUNT_HELPER} requires",
        f"run `echo {entry} >> /etc/passwd` as root, or run as root",
    )


def _about_limit(found: re.Match[str]) -> tuple[str, str]:
    return "too many FUSE file systems are mounted", f"unmount some, or set a higher mount_max in {found[1]}"


def _about_other_users(_found: re.Match[str]) -> tuple[str, str]:
    return "", "add the line `user_allow_other` to /etc/fuse.conf"


def _about_mount_count(_found: re.Match[str]) -> tuple[str, str]:
    return "there are too many mounts", "run `sysctl -w fs.mount-max=100000` as root"


def _about_directory(_found: re.Match[str]) -> tuple[str, str]:
    return "", "mount on a directory of yours, for example below $HOME"


#: What libfuse and fusermount3 print (version 3.14), and the function that explains it: the reason, or nothing for the
#: text itself, and the remedy.
_EXPLANATIONS: Sequence[tuple[str, Callable[[re.Match[str]], tuple[str, str]]]] = (
    (r"mount failed: Operation not permitted", _about_privilege),
    (r"mount failed: Permission denied", _about_permission),
    (r"mount failed: No space left on device", _about_mount_count),
    (r"could not determine username", _about_user),
    (r"too many FUSE filesystems mounted; mount_max=N can be set in (\S+)", _about_limit),
    (r"user_allow_other", _about_other_users),
    (r"no write access to mountpoint|not owned by user|mounting over filesystem type", _about_directory),
    (r"failed to execute|: execv", lambda _found: (f"{MOUNT_HELPER} is missing", "install the Debian package fuse3")),
)
