"""The filter of system calls: which calls it hands over, by a model of the kernel's interpreter (net/core/filter.c)."""

import errno
import struct

import pytest

from nvdimmfs.formats.block_requests import BLKRRPART
from nvdimmfs.sandbox import seccomp
from nvdimmfs.sandbox.mount_syscalls import asks_for_dax
from nvdimmfs.sandbox.syscall_numbers import AARCH64, I386, RISCV64, X86_64

ALLOW, NOTIFY, REFUSE = 0x7FFF0000, 0x7FC00000, 0x00050000
ALL = (X86_64, I386, AARCH64, RISCV64)
MIB = 1 << 20


def verdict(architecture, number, *arguments):
    """What the filter returns for a call."""
    words = [word & (1 << 64) - 1 for word in (*arguments, *[0] * (6 - len(arguments)))]
    data = struct.pack("=IIQ6Q", number, architecture.audit_arch, 0, *words)
    program = list(struct.iter_unpack("=HBBI", b"".join(seccomp._program(ALL))))
    accumulator = place = 0
    while True:
        code, then, otherwise, value = program[place]
        place += 1
        if code == 0x06:
            return value
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x74:
            accumulator >>= value
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            place += then if holds else otherwise


@pytest.mark.parametrize("machine", ALL)
def test_modules_and_ioctls(machine):
    assert verdict(machine, machine.init_module) == NOTIFY
    assert verdict(machine, machine.finit_module, 3) == NOTIFY
    assert verdict(machine, machine.delete_module) == NOTIFY
    assert verdict(machine, machine.ioctl, 3, 0xC0004E0A) == NOTIFY
    assert verdict(machine, machine.ioctl, 3, BLKRRPART) == NOTIFY
    assert [verdict(machine, machine.ioctl, file, seccomp.IS_TERMINAL) for file in (0, 2, 3)] == [ALLOW, ALLOW, NOTIFY]
    for request in (0x5421, 0x5451, 0xAE80, 0xC0186441):  # FIONBIO, FIOCLEX, KVM_RUN, one of DRM
        assert verdict(machine, machine.ioctl, 3, request) == ALLOW
    assert verdict(machine, machine.statx, 3) == ALLOW


def test_x32_and_unknown_architectures():
    assert verdict(X86_64, 0x40000000 | X86_64.ioctl, 3, 0xC0004E0A) == REFUSE | errno.ENOSYS
    assert verdict(AARCH64, X86_64.ioctl, 3, 0xC0004E0A) == ALLOW


@pytest.mark.parametrize("machine", ALL)
@pytest.mark.parametrize(
    ("length", "protection", "flags", "file", "expected"),
    [
        (2 * MIB, 3, 0x1, 3, NOTIFY),
        (5, 1, 0x1, 3, NOTIFY),
        (2 * MIB, 3, 0x80003, 3, NOTIFY),
        (2 * MIB, 3, 0x2, 3, NOTIFY),
        pytest.param(2 * MIB, 3, 0x21, -1, ALLOW, id="shared memory"),
        pytest.param(2 * MIB, 3, 0x22, -1, ALLOW, id="private memory"),
        pytest.param(2 * MIB, 3, 0x21, 3, ALLOW, id="anonymous, although a file is named"),
        pytest.param(2 * MIB, 5, 0x802, 3, ALLOW, id="a segment of a library"),
        pytest.param(34567, 1, 0x2, 3, ALLOW, id="a file that the C library reads"),
        pytest.param(2 * MIB, 3 | seccomp.UNFILTERED_MMAP, 0x1, 3, ALLOW, id="the supervisor's own"),
    ],
)
def test_mappings_of_what_may_be_a_dax_device(machine, length, protection, flags, file, expected):
    assert verdict(machine, machine.mmap, 0, length, protection, flags, file, 0) == expected


@pytest.mark.parametrize("machine", ALL)
def test_injected_errors(machine):
    assert verdict(machine, machine.madvise, 0, 4096, 100) == NOTIFY
    assert verdict(machine, machine.madvise, 0, 4096, 101) == NOTIFY
    assert verdict(machine, machine.madvise, 0, 4096, 4) == ALLOW


def test_mounts():
    assert verdict(X86_64, X86_64.mount, 0x7F0000000000, 0x7F0000000010, 0x7F0000000020, 0, 0x7F0000000030) == NOTIFY
    assert verdict(X86_64, X86_64.mount, 0, 0, 0, 0xC0ED0000, 0x601000) == NOTIFY
    assert verdict(X86_64, X86_64.mount, 0, 0, 0, 0, seccomp.UNFILTERED_OPTIONS) == ALLOW
    assert verdict(X86_64, X86_64.fsconfig, 3, 0) == NOTIFY


@pytest.mark.parametrize(
    ("options", "asks"),
    [
        ("", False),
        ("dax", True),
        ("noatime,dax=always", True),
        ("dax=never", False),
        ("dax,dax=never", False),
        ("dax=inode,dax", True),
        ("daxish", False),
    ],
)
def test_which_options_ask_for_dax(options, asks):
    assert asks_for_dax(options.split(",")) is asks
