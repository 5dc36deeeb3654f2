"""The programs of the host that the lab calls, and the Debian packages that have them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from nvdimmfs.lab.errors import LabError

#: The package of each program.  The second group is copied into the guests.
HOST_PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "apt-get": "apt",
    "apt-cache": "apt",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "ldd": "libc-bin",
}
GUEST_PACKAGES = {
    "busybox": "busybox-static",
    "bash": "bash",
    "kmod": "kmod",
    "python3": "python3",
    "ndctl": "ndctl",
    "daxctl": "daxctl",
    "strace": "strace",
}
PACKAGES = HOST_PACKAGES | GUEST_PACKAGES

#: What the modules of nfit_test are built with, besides the compiler of the kernel.
BUILD_PACKAGES = {
    "make": "make",
    "gcc": "gcc",
    "strip": "binutils",
    "tar": "tar",
    "xz": "xz-utils",
}

#: Folders that hold such programs.  Those of the distribution come first: guests do not get the python3 of a user.
_FOLDERS = "/usr/bin:/bin:/usr/sbin:/sbin"


def find(program: str) -> Path | None:
    """The path of a program of this host; None if it is not installed."""
    path = shutil.which(program, path=f"{_FOLDERS}:{os.environ.get('PATH', '')}")
    return None if path is None else Path(path)


def require(program: str) -> Path:
    """The path of a program of this host.  LabError with the package to install."""
    path = find(program)
    if path is None:
        raise LabError(f"{program} is not installed: apt-get install {(PACKAGES | BUILD_PACKAGES)[program]}")
    return path


def output_of(program: str, arguments: Sequence[str | Path], folder: Path | None = None) -> str:
    """What a program prints.  LabError with the last line of its errors if it fails."""
    done = subprocess.run(
        [require(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise LabError(f"{program} failed with status {done.returncode}: {last}")
    return done.stdout


def missing_packages(packages: Mapping[str, str] = PACKAGES) -> list[str]:
    """The Debian packages, by name, of programs that this host lacks; of those that the lab needs, by default."""
    return sorted({package for program, package in packages.items() if find(program) is None})
