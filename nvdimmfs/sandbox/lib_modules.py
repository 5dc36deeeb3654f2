"""/lib/modules inside a sandbox: the machine's modules, where modprobe(8) and libkmod look for them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection
from pathlib import Path

from nvdimmfs.modules.module_files import DAX_PMEM_CORE, modules_of_kernel
from nvdimmfs.modules.module_folder import module_folder, write_module_folder
from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.overmounts import overmount, prepare
from nvdimmfs.sandbox.small_files import read_small

#: Where distributions install modules.
LIB_MODULES = Path("/lib/modules")

#: The kernel's list of loaded modules.
_PROC_MODULES = Path("/proc/modules")

#: Prints that list as lsmod(8) does.
_LSMOD = """#!/bin/sh
echo 'Module                  Size  Used by'
while read -r name size count users _; do
    users=${{users%,}}
    test "$users" != - || users=
    printf '%-19s %8s  %s%s\\n' "$name" "$size" "$count" "${{users:+ $users}}"
done < {modules}
"""

#: The machine's list of its modules, relative to its mount.
_MACHINE_MODULES = "sys/kernel/debug/nvdimmfs/modules"


def write_lib_modules(scratch: Path, names: Collection[str]) -> None:
    """Write the files of the machine's modules, under the release that uname(2) reports.

    Args:
        scratch: the directory to write them to.
        names: the names of the modules that the machine can load, from which its kernel follows.
    """
    files = modules_of_kernel(
        test="nfit_test" in names, dax="device_dax" in names, dax_pmem_core=DAX_PMEM_CORE in names
    )
    write_module_folder(scratch / os.uname().release, files, os.uname().release)


def modules_of_machine(machine: Path) -> Collection[str]:
    """The names of the modules that a mounted machine can load."""
    return [line.partition(":")[0] for line in read_small(machine / _MACHINE_MODULES).splitlines()]


def mount_lib_modules(scratch: Path) -> None:
    """Mount the files that `write_lib_modules` has written over the host's."""
    if not LIB_MODULES.is_dir():
        # A mount needs an existing directory, so the parent is replaced by one that has it.  It has what programs load.
        beside = scratch.with_name(f"{scratch.name}.lib")
        overmount(LIB_MODULES.parent.resolve(), _is_kept, beside)
        LIB_MODULES.mkdir()
    libc.bind_mount(scratch, LIB_MODULES)


def prepare_lib_modules() -> None:
    """Prepare that for the sandbox that this process builds next, where the host's root file system has the parent."""
    parent = LIB_MODULES.parent.resolve()
    if not LIB_MODULES.is_dir() and parent.stat().st_dev == Path("/").stat().st_dev:
        prepare(parent, _is_kept)


def _is_kept(name: str) -> bool:
    return name != LIB_MODULES.name


def preload_module_folders() -> None:
    """Compute the files of every kernel that a machine can run, for the processes that this one forks."""
    for test in (False, True):
        for dax in (False, True):
            module_folder(modules_of_kernel(test=test, dax=dax), os.uname().release)


def make_lsmod(machine: Path, directory: Path) -> Path | None:
    """Write an lsmod that prints the machine's modules.

    Only a host whose kernel has no modules needs it: that kernel has no /proc/modules to mount over.

    Args:
        machine: the machine's mount.
        directory: created to hold the command.

    Returns:
        The directory, for PATH; None where it is not needed.
    """
    if _PROC_MODULES.exists():
        return None
    directory.mkdir()
    command = directory / "lsmod"
    command.write_text(_LSMOD.format(modules=shlex.quote(str(machine / "proc/modules"))))
    command.chmod(0o755)
    return directory
