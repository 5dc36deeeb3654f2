"""System call numbers of the architectures on which a sandbox can run."""

from __future__ import annotations

import errno
import platform

from attrs import frozen


@frozen
class SyscallNumbers:
    """System call numbers on one architecture: of calls that a C library may lack, and of those that the filter checks.

    Attributes:
        audit_arch: the architecture's value in struct seccomp_data (include/uapi/linux/audit.h).
        mmap: mmap(2), or on 32 bits mmap2(2), whose offset is in pages.
    """

    audit_arch: int
    seccomp: int
    ioctl: int
    init_module: int
    finit_module: int
    delete_module: int
    keyctl: int
    statx: int
    mmap: int
    madvise: int
    mount: int
    fsconfig: int = 431


#: From asm/unistd.h.  A 64-bit kernel also runs the 32-bit programs of its family.
X86_64 = SyscallNumbers(0xC000003E, 317, 16, 175, 313, 176, 250, 332, 9, 28, 165)
I386 = SyscallNumbers(0x40000003, 354, 54, 128, 350, 129, 288, 383, 192, 219, 21)
AARCH64 = SyscallNumbers(0xC00000B7, 277, 29, 105, 273, 106, 219, 291, 222, 233, 40)
ARM = SyscallNumbers(0x40000028, 383, 54, 128, 379, 129, 311, 397, 192, 220, 21)
RISCV64 = SyscallNumbers(0xC00000F3, 277, 29, 105, 273, 106, 219, 291, 222, 233, 40)

#: The architectures that each kind of machine can run, its own first.
FAMILIES = {"x86_64": (X86_64, I386), "aarch64": (AARCH64, ARM), "riscv64": (RISCV64,)}


def family() -> tuple[SyscallNumbers, ...]:
    """The architectures of this machine's programs.  ENOSYS for a kind of machine that is not in `FAMILIES`."""
    machine = platform.machine()
    if machine not in FAMILIES:
        raise OSError(
            errno.ENOSYS,
            f"nvdimmfs does not know the system call numbers of {machine}, only those of {', '.join(FAMILIES)}",
        )
    return FAMILIES[machine]
