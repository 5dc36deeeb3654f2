"""The kernels of guests: those of Debian, downloaded and unpacked once, or one that the user has."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import attrs

from nvdimmfs.lab import tools
from nvdimmfs.lab.cache import cache_folder, made_once
from nvdimmfs.lab.errors import LabError

#: The kernel of guests unless another one is asked for: the one that is emulated.
DEFAULT_KERNEL = "6.1"

#: A release by which a kernel of Debian is asked for.
_RELEASE = re.compile(r"[0-9]+\.[0-9]+")

_IMAGE = "vmlinuz-"
_MODULES = Path("lib/modules")


@attrs.frozen
class GuestKernel:
    """A kernel.

    Attributes:
        release: as `uname -r` prints it.
        image: the file that is booted.
        modules: the folder of its modules, /lib/modules/RELEASE.
    """

    release: str
    image: Path
    modules: Path


def find_kernel(name: str) -> GuestKernel:
    """Return a kernel.  LabError.

    Args:
        name: a release of Debian's such as 6.1; the path of a file vmlinuz-RELEASE; or a folder with
            boot/vmlinuz-RELEASE and lib/modules/RELEASE.
    """
    if _RELEASE.fullmatch(name):
        return _in_folder(made_once(cache_folder() / f"kernel-{name}", functools.partial(_unpack_package, name)))
    path = Path(name)
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        return _of_file(path)
    raise LabError(f"kernel {name}: must be a release such as {DEFAULT_KERNEL}, a vmlinuz file, or a folder with boot/")


def _unpack_package(release: str, folder: Path) -> None:
    package = _package_of(release)
    tools.output_of("apt-get", ["download", package], folder)
    for archive in folder.glob("*.deb"):
        tools.output_of("dpkg-deb", ["-x", archive, folder])
        archive.unlink()
    tools.output_of("depmod", ["-b", folder, _in_folder(folder).release])


def _package_of(release: str) -> str:
    """The package with the newest kernel of a release that the host's package sources have.  LabError.

    Of a release of its own or of an older or newer Debian, it is the one that a version of a metapackage depends on;
    apt-cache prints the newest version first.
    """
    wanted = re.compile(rf"^Depends: (linux-image-{re.escape(release)}[.+-][^\s,]+)", re.MULTILINE)
    for metapackage in (f"linux-image-{release}-amd64", "linux-image-amd64"):
        try:
            found = wanted.search(tools.output_of("apt-cache", ["show", metapackage]))
        except LabError:
            continue  # there is no such package
        if found:
            return found[1]
    raise LabError(f"kernel {release}: this host's package sources have none; apt-get update, or name a vmlinuz file")


def _in_folder(folder: Path) -> GuestKernel:
    """The newest kernel in a folder that is laid out as the root of a file system."""
    images = [image for image in (folder / "boot").glob(f"{_IMAGE}*") if _modules(folder, image).is_dir()]
    if not images:
        raise LabError(f"{folder}: has no boot/{_IMAGE}RELEASE with lib/modules/RELEASE")
    image = max(images, key=lambda image: image.stat().st_mtime)
    return GuestKernel(_release(image), image, _modules(folder, image))


def _of_file(image: Path) -> GuestKernel:
    """The kernel of a file, with its modules beside it, in ../lib/modules or in /lib/modules."""
    if not image.name.startswith(_IMAGE):
        raise LabError(f"{image}: the name must be {_IMAGE}RELEASE, as that of its modules is lib/modules/RELEASE")
    for folder in (image.absolute().parent, image.absolute().parent.parent, Path("/")):
        if _modules(folder, image).is_dir():
            return GuestKernel(_release(image), image.absolute(), _modules(folder, image))
    raise LabError(f"{image}: there is no folder lib/modules/{_release(image)} beside it or its folder")


def _modules(folder: Path, image: Path) -> Path:
    return folder / _MODULES / _release(image)


def _release(image: Path) -> str:
    return image.name.removeprefix(_IMAGE)
