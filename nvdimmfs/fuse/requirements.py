"""The host's requirements for a mount, checked without the FUSE library so that a command can fail early."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

#: The device through which a file system in user space communicates with the kernel (fuse(4)).
FUSE_DEVICE = Path("/dev/fuse")

#: The set-user-id helper that mounts and unmounts for ordinary users.
MOUNT_HELPER = "fusermount3"


class MountError(Exception):
    """A mount is not possible; the message is one line for the user."""


def require_fuse(*, helper: bool = True) -> None:
    """MountError when this host has no FUSE, or this user may not use it.

    Args:
        helper: whether an ordinary user needs the helper, as is the case outside a user namespace of their own.
    """
    if not FUSE_DEVICE.exists():
        raise MountError(
            f"{FUSE_DEVICE} is missing: load the kernel's fuse module (`modprobe fuse`), or pass the device to the "
            f"container (--device {FUSE_DEVICE} --cap-add SYS_ADMIN)"
        )
    if helper and os.geteuid() != 0 and shutil.which(MOUNT_HELPER) is None:
        raise MountError(f"{MOUNT_HELPER} is missing: install it (Debian package fuse3), or run as root")
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        # The helper opens the device with its caller's permissions, so it would fail as well.
        raise MountError(f"no permission to use {FUSE_DEVICE}: run `sudo chmod 666 {FUSE_DEVICE}`, or run as root")
