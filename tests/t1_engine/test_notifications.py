"""Which attributes the kernel notifies of, and when."""

import pytest

from nvdimmfs.block.badblocks import SECTOR_SIZE
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
        (CLEARING, ["pmem0/badblocks", "region0/badblocks"]),
        (NOT_CLEARING, ["pmem0/badblocks"]),
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
