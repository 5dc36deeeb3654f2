"""The root file system of a guest: programs of the host, Python, modules of the kernel, and the agent.

It is an archive that the kernel unpacks into RAM at boot.  Nothing in it is compressed, as a guest without KVM takes
longer to uncompress a file than QEMU to copy it.
"""

from __future__ import annotations

import functools
import hashlib
import lzma
import re
import shutil
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path

from nvdimmfs.lab import cpio, tools
from nvdimmfs.lab.cache import cache_folder, made_once
from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.kernels import GuestKernel

#: The serial line of the agent; the first one is the console.
AGENT_LINE = "/dev/ttyS1"

#: Modules that a guest can load, besides those that they need: persistent memory, and file systems to use it with.
MODULES = frozenset(
    {
        *("libnvdimm", "nd_e820", "nfit", "nd_virtio", "virtio_pmem", "virtio_pci", "nd_pmem", "nd_btt"),
        *("dax_pmem", "dax_hmem", "device_dax", "kmem", "cxl_acpi", "cxl_mem", "cxl_pci", "cxl_pmem", "cxl_port"),
        *("ext4", "xfs", "crc32c_generic", "libcrc32c", "loop"),
        *("encrypted_keys", "trusted", "dm_mod", "dm_writecache", "efivarfs", "einj", "mce_inject", "hwpoison_inject"),
    }
)

#: Files about all modules of a kernel, which depmod reads.
_ABOUT_MODULES = ("modules.builtin", "modules.builtin.modinfo", "modules.order")

#: Where modules are that do not come with the kernel; libndctl uses nfit_test only from there or from `updates`.
_REPLACING = "extra"

#: The modules of this package that run in guests.
_GUEST_SOURCES = (
    "agent.py",
    "asking.py",
    "frames.py",
    "guest_modules.py",
    "holders.py",
    "mounts.py",
    "uevents.py",
    "watchers.py",
)

#: Parts of Python's standard library that no guest needs.
_WITHOUT = ("__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data")
_WITHOUT_PACKAGES = ("dist-packages", "site-packages", "config-*", "unittest", "distutils")

_KMOD_LINKS = ("modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod")
_LIBRARY = re.compile(r"(/\S+) \(0x")

_INIT = f"""#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONPATH=/lab
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t debugfs debugfs /sys/kernel/debug
ln -s /proc/self/fd /dev/fd
exec python3 -m nvdimmfs.lab.agent {AGENT_LINE} </dev/null >/dev/console 2>&1
"""


def guest_image(kernel: GuestKernel, test_modules: Path | None = None) -> Path:
    """The archive for guests with a kernel, made if a part of it has changed.  LabError for missing programs.

    Args:
        kernel: the kernel.
        test_modules: the folder of modules that replace those of the kernel, as `nfit_test.built_modules` returns it.
    """
    replacing = [] if test_modules is None else sorted(test_modules.glob("*.ko"))
    programs = {name: tools.require(name).resolve() for name in tools.GUEST_PACKAGES}
    identity = hashlib.sha256(kernel.release.encode())
    for path in (kernel.image, *programs.values(), *replacing):
        status = path.stat()
        identity.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    for name in ("image.py", *_GUEST_SOURCES):
        identity.update(_source(name))
    place = cache_folder() / f"image-{kernel.release}-{identity.hexdigest()[:16]}"
    return made_once(place, functools.partial(_make, kernel, programs, replacing)) / "initrd"


def _make(kernel: GuestKernel, programs: dict[str, Path], replacing: list[Path], folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        root = Path(name)
        _lay_out(root)
        _add_programs(root, programs)
        _add_python(root, programs["python3"])
        _add_modules(root, kernel, replacing)
        _add_agent(root)
        with (folder / "initrd").open("wb") as archive:
            archive.writelines(cpio.archive(cpio.entries_below(root)))


def _lay_out(root: Path) -> None:
    """The folders, with /bin and its like in /usr as in Debian, so that each library has one place."""
    for name in (
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "etc",
        "root",
        "mnt",
    ):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)


def _add_programs(root: Path, programs: dict[str, Path]) -> None:
    for name, path in programs.items():
        shutil.copy(path, root / "usr/bin" / name)
        _add_libraries(root, path)
    (root / "usr/bin/sh").symlink_to("bash")  # the shell of busybox prefers its own applets to the programs above
    for name in _KMOD_LINKS:
        (root / "usr/sbin" / name).symlink_to("../bin/kmod")
    for applet in tools.output_of("busybox", ["--list"]).split():
        link = root / "usr/bin" / applet
        if not link.exists() and applet not in _KMOD_LINKS:
            link.symlink_to("busybox")


def _add_libraries(root: Path, program: Path) -> None:
    """Add the shared libraries of a program or a library, at their places; a static program has none."""
    listed = subprocess.run([tools.require("ldd"), program], capture_output=True, text=True, check=False)
    for library in _LIBRARY.findall(listed.stdout):
        place = root / Path(library).relative_to("/")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(library).resolve(), place)


def _add_python(root: Path, program: Path) -> None:
    """Add the standard library, compiled, as a guest would take seconds to compile what it imports."""
    library = program.parent.parent / "lib" / program.name
    if not library.is_dir():
        raise LabError(f"{program}: its standard library {library} does not exist; apt-get install python3")
    copy = root / library.relative_to("/")
    shutil.copytree(library, copy, ignore=shutil.ignore_patterns(*_WITHOUT, *_WITHOUT_PACKAGES), symlinks=False)
    tools.output_of("python3", ["-m", "compileall", "-q", "-b", "-j", "0", copy])
    for source in copy.rglob("*.py"):
        source.unlink()
    for extension in copy.rglob("*.so"):
        _add_libraries(root, extension)


def _add_modules(root: Path, kernel: GuestKernel, replacing: list[Path]) -> None:
    """Add the modules, those that replace others in a folder of their own, and have depmod make the indexes of them."""
    target = root / "usr/lib/modules" / kernel.release
    replaced = {_module_name(path.name) for path in replacing}
    for name in sorted(_wanted_modules(kernel)):
        if _module_name(Path(name).name) not in replaced:
            place = target / name.removesuffix(".xz")
            place.parent.mkdir(parents=True, exist_ok=True)
            data = (kernel.modules / name).read_bytes()
            place.write_bytes(lzma.decompress(data) if name.endswith(".xz") else data)
    for path in replacing:
        (target / _REPLACING).mkdir(exist_ok=True)
        shutil.copy(path, target / _REPLACING)
    for name in _ABOUT_MODULES:
        if (kernel.modules / name).exists():
            shutil.copy(kernel.modules / name, target)
    tools.output_of("depmod", ["-b", root, kernel.release])


def _wanted_modules(kernel: GuestKernel) -> set[str]:
    """The files of `MODULES` that the kernel has, and of those that they need, below the folder of its modules."""
    wanted: set[str] = set()
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        name, _, needed = line.partition(":")
        if _module_name(Path(name).name) in MODULES:
            wanted.update((name, *needed.split()))
    return wanted


def _module_name(file: str) -> str:
    return file.split(".")[0].replace("-", "_")


def _add_agent(root: Path) -> None:
    package = root / "lab/nvdimmfs/lab"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    for name in _GUEST_SOURCES:
        (package / name).write_bytes(_source(name))
    tools.output_of("python3", ["-m", "compileall", "-q", package.parent])


def _source(name: str) -> bytes:
    return files("nvdimmfs.lab").joinpath(name).read_bytes()
