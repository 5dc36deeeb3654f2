"""The modules of tools/testing/nvdimm, built for a kernel of Debian or for one of the user's own.

`nfit_test` is a platform device with an NFIT that the module invents.  It needs variants of the modules of persistent
memory that call `nfit_test_iomap` instead of the kernel for memory and for ACPI; in a guest, these take the places of
the usual ones.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs

from nvdimmfs.lab import tools
from nvdimmfs.lab.cache import cache_folder, made_once
from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.kernels import GuestKernel

#: The module that is the platform; the others come with it.
NFIT_TEST = "nfit_test"

#: Where the platform and the modules that it needs have their source, below the folder of a kernel's source.
_TEST_FOLDER = "tools/testing/nvdimm"
_SOURCES = (_TEST_FOLDER, "drivers/nvdimm", "drivers/dax", "drivers/acpi/nfit")

#: Without information for debuggers, which no guest uses; with it, the build takes longer, and pahole.
_OPTIONS = ("CONFIG_DEBUG_INFO=", "CONFIG_DEBUG_INFO_BTF_MODULES=")

#: Where Debian's packages have headers and sources.  The former refer to each other by absolute paths.
_USR_SRC = "usr/src"

#: The compiler that the configuration of a kernel names.
_COMPILER = re.compile(r'^CONFIG_CC_VERSION_TEXT="(\S+)', re.MULTILINE)

#: What make prints of a module that it has linked, and of what failed.
_LINKED = re.compile(r"^  LD \[M\] .*/(\w+)\.ko$")
_FAILED = re.compile(r"error|not found|No such file", re.IGNORECASE)

#: Called with each step of the work.
Report = Callable[[str], None]


@attrs.frozen
class _Trees:
    """What a module is built from.

    Attributes:
        headers: the folder of the kernel's headers, in which make runs.
        source: the folder of its source, or of the parts of `_SOURCES`.
    """

    headers: Path
    source: Path


def built_modules(kernel: GuestKernel, name: str) -> Path:
    """The folder of the modules that were built for a kernel.  LabError if none were.

    Args:
        kernel: the kernel.
        name: how the user calls it.
    """
    place = _place(kernel)
    if not place.is_dir():
        command = f"nvdimmfs lab build-nfit-test --kernel {name}"
        raise LabError(f"the modules of {NFIT_TEST} have not been built for {kernel.release}: {command}")
    return place


def build_modules(kernel: GuestKernel, report: Report) -> Path:
    """Build the modules for a kernel, unless they have been.  Returns their folder.  LabError.

    Args:
        kernel: the kernel.
        report: is called with each step of the work.
    """
    return made_once(_place(kernel), functools.partial(_build, kernel, report))


def _place(kernel: GuestKernel) -> Path:
    """The folder of a kernel's modules, named after what they depend on."""
    status = kernel.image.stat()
    identity = hashlib.sha256(f"{kernel.image} {status.st_size} {status.st_mtime_ns}\n".encode())
    identity.update(repr((_SOURCES, _OPTIONS)).encode())
    return cache_folder() / f"{NFIT_TEST}-{kernel.release}-{identity.hexdigest()[:16]}"


def _build(kernel: GuestKernel, report: Report, folder: Path) -> None:
    for program in tools.BUILD_PACKAGES:
        tools.require(program)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        trees = _trees(kernel, Path(name), report)
        _require_compiler(trees.headers)
        _make(trees, Path(name), report)
        for module in (trees.source / _TEST_FOLDER).rglob("*.ko"):
            tools.output_of("strip", ["--strip-debug", module])
            shutil.copy(module, folder)


def _trees(kernel: GuestKernel, work: Path, report: Report) -> _Trees:
    """The trees of a kernel that the user has built, or of Debian's packages."""
    headers, source = kernel.modules / "build", kernel.modules / "source"
    if (headers / "Makefile").exists() and (source / _TEST_FOLDER).is_dir():
        return _Trees(headers, _copied(source, work))
    return _packaged(kernel.release, work, report)


def _copied(source: Path, work: Path) -> Path:
    """The parts of the source that are needed, in a folder that make can write to."""
    for part in _SOURCES:
        shutil.copytree(source / part, work / part)
    return work


def _packaged(release: str, work: Path, report: Report) -> _Trees:
    """Download and unpack Debian's packages of a kernel's headers, and of the source that it was built from."""
    package = f"linux-headers-{release}"
    version = _version(package)
    needed = re.findall(r"Depends: (linux-(?:headers|kbuild)-\S+)", tools.output_of("apt-cache", ["depends", package]))
    source = f"linux-source-{'.'.join(release.split('.')[:2])}"
    for each in (package, *needed, source):
        report(f"downloading {each} {version}")
        tools.output_of("apt-get", ["download", f"{each}={version}"], work)
    for archive in work.glob("*.deb"):
        report(f"unpacking {archive.name.split('_')[0]}")
        tools.output_of("dpkg-deb", ["-x", archive, work])
        archive.unlink()
    tree = work / source
    tarball = work / _USR_SRC / f"{source}.tar.xz"
    tools.output_of("tar", ["-xJf", tarball, "-C", work, *(f"{source}/{part}" for part in _SOURCES)])
    headers = work / _USR_SRC / package
    makefile = headers / "Makefile"
    makefile.write_text(makefile.read_text().replace(f"/{_USR_SRC}/", f"{work / _USR_SRC}/"))
    common = next((work / _USR_SRC).glob("linux-headers-*-common"))
    (common / "drivers").symlink_to(tree / "drivers")  # which the makefile of the tests searches for headers
    return _Trees(headers, tree)


def _version(package: str) -> str:
    """The newest version of a package.  LabError when the package sources of the host have none."""
    try:
        found = re.search(r"^Version: (\S+)", tools.output_of("apt-cache", ["show", package]), re.MULTILINE)
    except LabError:
        found = None
    if found is None:
        hint = f"apt-get update; if there is a newer kernel, delete {cache_folder()}/kernel-*"
        raise LabError(f"{package}: this host's package sources have none; {hint}")
    return found[1]


def _require_compiler(headers: Path) -> None:
    """LabError when the compiler is missing that the kernel was built with: modules want the same one."""
    found = _COMPILER.search((headers / ".config").read_text())
    if found and tools.find(found[1]) is None:
        package = found[1].removeprefix("x86_64-linux-gnu-")
        raise LabError(f"this kernel was built with {found[1]}, which is not installed: apt-get install {package}")


def _make(trees: _Trees, work: Path, report: Report) -> None:
    """Run make.  LabError with the first line about what failed."""
    command = [
        *(str(tools.require("make")), "-C", str(trees.headers), f"M={trees.source / _TEST_FOLDER}", "modules"),
        *(f"-j{os.cpu_count()}", *_OPTIONS),
        f"KCFLAGS=-ffile-prefix-map={work}=.",  # so that no path of this host is in a module
    ]
    report("compiling")
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as make:
        assert make.stdout is not None
        lines = []
        for line in make.stdout:
            lines.append(line.rstrip())
            if linked := _LINKED.match(lines[-1]):
                report(f"built {linked[1]}")
    if make.returncode:
        reason = next(filter(_FAILED.search, lines), lines[-1] if lines else "no message")
        raise LabError(f"make failed with status {make.returncode}: {reason}")
