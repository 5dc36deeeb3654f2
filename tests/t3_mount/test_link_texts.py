"""The texts of symbolic links, which the kernel may keep."""

import os
from pathlib import Path

import pytest
from mounting import MACHINE

from nvdimmfs.fuse.init_exchange import kernel_keeps_link_texts

NAMESPACE = "sys/bus/nd/devices/namespace0.0"
DRIVER = "sys/bus/nd/drivers/nd_pmem"
TEXT = "../../../../../../bus/nd/drivers/nd_pmem"


@pytest.fixture
def machine(new_mount):
    return new_mount(MACHINE, "--memmap", "512M!4G").directory


def test_a_link_that_goes_is_gone_at_once_even_while_a_directory_is_open(machine):
    """Its name then stays in the kernel's cache, and leads nowhere."""
    link = machine / NAMESPACE / "driver"
    directory = os.open(machine / "sys", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(3):
            assert [str(link.readlink()) for _ in range(2)] == [TEXT, TEXT]
            (machine / DRIVER / "unbind").write_text("namespace0.0")
            with pytest.raises(FileNotFoundError):
                link.readlink()
            (machine / DRIVER / "bind").write_text("namespace0.0")
    finally:
        os.close(directory)


@pytest.mark.skipif(not kernel_keeps_link_texts(os.uname().release), reason="this kernel does not keep them")
def test_a_text_is_asked_for_once(machine):
    link = machine / NAMESPACE / "driver"
    link.readlink()
    daemon = int(os.getxattr(machine, "user.nvdimmfs.daemon").split()[0])
    with Path(f"/proc/{daemon}/io").open() as counts:
        before = counts.read()
        assert [str(link.readlink()) for _ in range(100)] == [TEXT] * 100
        counts.seek(0)
        calls = [int(text.partition("syscr: ")[2].split()[0]) for text in (before, counts.read())]
    assert calls[1] - calls[0] < 100
