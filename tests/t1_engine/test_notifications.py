"""Which attributes the kernel notifies of, and when."""

import errno

import pytest

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.errors import KernelError
from nvdimmfs.machine_file.files import parse_machine
from nvdimmfs.platforms.machine import Machine

BAD_SECTOR = 64
BAD, GOOD = BAD_SECTOR * SECTOR_SIZE, 0
PAGE = bytes(8 * SECTOR_SIZE)

NFIT = """
[[bus]]
commands = [{commands}]
[[bus.dimm]]
size = "256M"
[[bus.range]]
start = "8G"
dimms = ["0x1"]
badblocks = [{{ sector = 64, count = 8 }}]
"""
CLEARING = NFIT.format(commands='"ars_cap", "ars_start", "ars_status", "clear_error"')
NOT_CLEARING = NFIT.format(commands="")
LEGACY = 'memmap = "256M!4G"\n'


class Listener:
    def __init__(self):
        self.heard = []

    def added(self, directory, node):
        """Not what this is about."""

    made = removed = added

    def notified(self, attribute):
        self.heard.append("/".join(attribute.path.split("/")[-2:]))

    def take(self):
        taken, self.heard = self.heard, []
        return taken


def boot(text):
    machine = Machine.described(parse_machine(text, "machine.toml"), None)
    listener = Listener()
    machine.system.tree.subscribe(listener)
    return machine, listener


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        (CLEARING, ["region0/badblocks", "pmem0/badblocks"]),
        (LEGACY, ["pmem0/badblocks"]),
    ],
)
def test_bad_blocks_that_become_good(text, heard):
    machine, listener = boot(text)
    disk = machine.system.dev.find("pmem0")
    if text is LEGACY:
        machine.system.sys.find("devices/platform/e820_pmem/ndbus0/region0/namespace0.0/block/pmem0/badblocks").store(
            b"64 8"
        )
    disk.data.write(GOOD, PAGE)
    assert listener.take() == []
    disk.data.write(BAD, PAGE)
    assert listener.take() == heard
    disk.data.write(BAD, PAGE)
    assert listener.take() == []


def test_bad_blocks_that_the_bus_cannot_clear_stay():
    """pmem_do_write gives up when nvdimm_clear_poison is refused its ARS_CAP (drivers/nvdimm, Linux 6.1)."""
    machine, listener = boot(NOT_CLEARING)
    disk = machine.system.dev.find("pmem0")
    with pytest.raises(KernelError) as refusal:
        disk.data.write(BAD, PAGE)
    assert (refusal.value.errno, listener.take()) == (errno.EIO, [])
