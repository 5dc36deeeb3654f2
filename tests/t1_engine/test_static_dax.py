"""A dax device of persistent memory, whose size can be written once the file's mode bits allow it.

The answers are those of Linux 6.1 after `chmod 644 size`, recorded twice.
"""

import errno
import stat

import pytest
from poke import Hands

DEVICE = "devices/platform/e820_pmem/ndbus0/region0/dax0.0/dax0.0"
DEVICE_DAX = "bus/dax/drivers/device_dax"
UUID = "01234567-89ab-cdef-0123-456789abcdef"

FULL = 534773760
START = 0x1_0020_0000


@pytest.fixture
def hands():
    """A namespace of 512 MiB at 4 GiB behind a dax device with the memmap in RAM, bound."""
    hands = Hands.on("512M!4G", ram=8 << 30)
    hands.write("bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    for name, value in {"mode": "ram", "uuid": UUID, "namespace": "namespace0.0"}.items():
        hands.write(f"bus/nd/devices/dax0.0/{name}", value)
    hands.write("bus/nd/drivers/dax_pmem/bind", "dax0.0")
    hands.machine.system.sys.find(f"{DEVICE}/size").mode |= stat.S_IWUSR
    return hands


def shown(hands):
    """The size, and the first and last address of the mapping."""
    numbers = [int(hands.read(f"{DEVICE}/{name}"), 0) for name in ("size", "mapping0/start", "mapping0/end")]
    return tuple(numbers)


@pytest.mark.parametrize(
    ("size", "refused"),
    [(0, "EBUSY"), (2 << 20, "EBUSY"), (FULL, "EBUSY"), (1 << 30, "EBUSY"), (4096, "EINVAL"), ("x", "EINVAL")],
)
def test_while_bound_it_keeps_its_size(hands, size, refused):
    assert hands.refused(f"{DEVICE}/size", str(size)) == getattr(errno, refused)
    assert shown(hands) == (FULL, START, START + FULL - 1)


@pytest.mark.parametrize(("size", "refused"), [("x", "EINVAL"), (4096, "EINVAL"), (1 << 30, "ENOSPC")])
def test_it_cannot_have_any_size(hands, size, refused):
    hands.write(f"{DEVICE_DAX}/unbind", "dax0.0")
    assert hands.refused(f"{DEVICE}/size", str(size)) == getattr(errno, refused)
    assert shown(hands) == (FULL, START, START + FULL - 1)


def test_it_shrinks_and_grows_within_its_region(hands):
    hands.write(f"{DEVICE_DAX}/unbind", "dax0.0")
    for size in (FULL, 256 << 20, FULL, 2 << 20):
        hands.write(f"{DEVICE}/size", str(size))
        assert shown(hands) == (size, START, START + size - 1)
    hands.write(f"{DEVICE_DAX}/bind", "dax0.0")
    hands.write(f"{DEVICE_DAX}/unbind", "dax0.0")
    hands.write(f"{DEVICE}/size", "0")
    assert (hands.read(f"{DEVICE}/size"), int(hands.read(f"{DEVICE}/resource"), 16)) == ("0\n", START)
    assert not [name for name in hands.sysfs.names(DEVICE) if name.startswith("mapping")]
    assert hands.refused(f"{DEVICE_DAX}/bind", "dax0.0") == errno.ENXIO
    for size in (4 << 20, FULL):
        hands.write(f"{DEVICE}/size", str(size))
        assert shown(hands) == (size, START, START + size - 1)
    hands.write(f"{DEVICE_DAX}/bind", "dax0.0")
    assert shown(hands) == (FULL, START, START + FULL - 1)
