"""/lib/modules inside a sandbox: the modules of the machine, where modprobe(8) and libkmod look for them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from nvdimmfs.modules.module_files import ModuleFile, modules_of_kernel
from nvdimmfs.modules.module_folder import write_module_folder
from nvdimmfs.sandbox import syscalls
from nvdimmfs.sandbox.views import replace_folder

#: Where the kernel's package puts modules.
MODULES = Path("/lib/modules")

#: The kernel's list of what is loaded.
_LOADED = Path("/proc/modules")

#: Prints it as lsmod(8) does.
_LSMOD = """#!/bin/sh
echo 'Module                  Size  Used by'
while read -r name size count users _; do
    users=${{users%,}}
    test "$users" != - || users=
    printf '%-19s %8s  %s%s\\n' "$name" "$size" "$count" "${{users:+ $users}}"
done < {modules}
"""

#: The machine's list of its modules, below its mount.
_LIST = "sys/kernel/debug/nvdimmfs/modules"


def show_modules(machine: Path, scratch: Path) -> None:
    """Put the machine's modules where those of the host are, for the release that uname(2) tells.

    Args:
        machine: the machine's mount.
        scratch: where the files may be written.
    """
    write_module_folder(scratch / os.uname().release, _files(machine), os.uname().release)
    if not MODULES.is_dir():
        # A folder can only be covered, so the one above is made anew, with this in it.
        replace_folder(MODULES.parent.resolve(), lambda name: name != MODULES.name)
        MODULES.mkdir()
    syscalls.bind(scratch, MODULES)


def show_list(machine: Path, folder: Path) -> Path | None:
    """Where the host's kernel has no modules, and so no /proc/modules to cover, make an lsmod that knows the machine's.

    Args:
        machine: the machine's mount.
        folder: made for it.

    Returns:
        The folder, for PATH; None where it is not needed.
    """
    if _LOADED.exists():
        return None
    folder.mkdir()
    command = folder / "lsmod"
    command.write_text(_LSMOD.format(modules=shlex.quote(str(machine / "proc/modules"))))
    command.chmod(0o755)
    return folder


def _files(machine: Path) -> tuple[ModuleFile, ...]:
    """Those of the kernel that the machine runs, told by what could be loaded."""
    names = {line.partition(":")[0] for line in (machine / _LIST).read_text().splitlines()}
    return modules_of_kernel(test="nfit_test" in names, dax="device_dax" in names)
