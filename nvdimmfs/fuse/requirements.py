"""What a mount needs of this machine.  Needs no FUSE library, so that a command line can ask early."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

#: The device through which file systems in user space speak with the kernel (fuse(4)).
FUSE_DEVICE = Path("/dev/fuse")

#: The set-user-id helper that mounts and unmounts for those who may not.
MOUNT_HELPER = "fusermount3"


class MountError(Exception):
    """There is no mount to be had; the message is one line for a person."""


def require_fuse(*, helper: bool = True) -> None:
    """MountError when this machine has no FUSE, or has none for this user.

    Args:
        helper: whether it takes the helper unless root mounts, as it does outside of a user namespace of one's own.
    """
    if not FUSE_DEVICE.exists():
        raise MountError(
            f"{FUSE_DEVICE} is missing: load the kernel's fuse module (modprobe fuse), or give it to the container "
            f"(--device {FUSE_DEVICE} --cap-add SYS_ADMIN)"
        )
    if helper and os.geteuid() != 0 and shutil.which(MOUNT_HELPER) is None:
        raise MountError(f"{MOUNT_HELPER} is missing: install it (Debian's package fuse3), or be root")
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        # The helper opens it with the rights of whoever calls it, so it does not help here.
        raise MountError(f"no permission to use {FUSE_DEVICE}; `sudo chmod 666 {FUSE_DEVICE}` gives it, or be root")
