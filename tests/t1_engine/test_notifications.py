"""Which attributes the kernel notifies of, and when."""

import errno
import struct

import pytest
from ioctl_stories import Asker

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine, parse_machine
from nvdimmfs.platforms.nfit.scrub import Request

BAD_SECTOR = 64
BAD, GOOD = BAD_SECTOR * SECTOR_SIZE, 0
PAGE = bytes(8 * SECTOR_SIZE)

#: ND_IOCTL_CALL, and the function that makes a DIMM of the test platform ill.
ND_IOCTL_CALL = 0xC0404E0A
SMART_INJECT = 18

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
        self.notified_attributes = []

    def added(self, directory, node):
        """Not what this is about."""

    instantiated = removed = added

    def notified(self, attribute):
        self.notified_attributes.append("/".join(attribute.path.split("/")[-2:]))

    def revoked(self, node):
        """Not what this is about either."""

    def take(self):
        taken, self.notified_attributes = self.notified_attributes, []
        return taken


def boot(text):
    machine = Machine.described(parse_machine(text, "machine.toml"), None, clock="steps")
    listener = Listener()
    machine.system.tree.subscribe(listener)
    return machine, listener


@pytest.mark.parametrize(
    ("text", "notified_attributes"),
    [
        (CLEARING, ["region0/badblocks", "pmem0/badblocks"]),
        (LEGACY, ["pmem0/badblocks"]),
    ],
)
def test_bad_blocks_that_become_good(text, notified_attributes):
    machine, listener = boot(text)
    disk = machine.system.dev.find("pmem0")
    if text is LEGACY:
        machine.system.sys.find("devices/platform/e820_pmem/ndbus0/region0/namespace0.0/block/pmem0/badblocks").store(
            b"64 8"
        )
    disk.data.write(GOOD, PAGE)
    assert listener.take() == []
    disk.data.write(BAD, PAGE)
    assert listener.take() == notified_attributes
    disk.data.write(BAD, PAGE)
    assert listener.take() == []


def test_bad_blocks_that_the_bus_cannot_clear_stay():
    """pmem_do_write gives up when nvdimm_clear_poison is refused its ARS_CAP (drivers/nvdimm, Linux 6.1)."""
    machine, listener = boot(NOT_CLEARING)
    disk = machine.system.dev.find("pmem0")
    with pytest.raises(KernelError) as refusal:
        disk.data.write(BAD, PAGE)
    assert (refusal.value.errno, listener.take()) == (errno.EIO, [])


def test_unhealthy_values_notify_the_flags_of_a_dimm():
    """Health that passes a threshold notifies nfit/flags (smart_notify, tools/testing/nvdimm/test/nfit.c, 6.1)."""
    asker = Asker(Machine.described(load_machine("nfit_test"), clock="steps"))
    listener = Listener()
    asker.machine.system.tree.subscribe(listener)
    assert asker.ask(inject_media_temperature(23 * 16))["result"] == 0
    assert listener.take() == []
    assert asker.ask(inject_media_temperature(40 * 16))["result"] == 0
    assert listener.take() == ["nfit/flags"]


def inject_media_temperature(value):
    """The ioctl that sets the media temperature of nmem0, in sixteenths of a degree."""
    package = struct.pack("<QQII40x", 0, SMART_INJECT, 15, 4)
    payload = struct.pack("<QBHBBBB", 1, 1, value, 0, 0, 0, 0)
    return {"ioctl": "nmem0", "request": ND_IOCTL_CALL, "memory": (package + payload + bytes(4)).hex()}


def test_a_scrub_notifies_regions_disks_and_the_bus():
    """Pollers of a region and its disk are notified when its range was scrubbed, pollers of the bus at the end."""
    machine = Machine.described(load_machine("nfit_test"), clock="steps")
    machine.system.clock.advance(60 * SECOND)
    listener = Listener()
    machine.system.tree.subscribe(listener)
    machine.system.sys.find("devices/platform/nfit_test.0/ndbus0/nfit/scrub").store(b"1")
    machine.system.clock.advance(1 * SECOND)
    assert listener.take() == ["region0/badblocks", "pmem0/badblocks"]
    machine.system.clock.advance(2 * SECOND)
    assert listener.take() == ["region1/badblocks", "pmem1/badblocks", "nfit/scrub"]


def test_a_scrub_of_a_bus_without_ars_start_notifies_nothing():
    """With ARS_CAP but without ARS_START, the kernel tries, and there is no attribute to notify at the end."""
    text = (
        '[[bus]]\nprovider = "nfit_test.0"\ncommands = ["ars_cap", "clear_error", "cmd_call"]\n'
        '[[bus.range]]\nkind = "volatile"\nsize = "4M"\n'
    )
    machine = Machine.described(parse_machine(text, "bus.toml"), clock="steps")
    assert machine.nd_bus is not None
    bus = machine.nd_bus.members["ndbus0"]
    bus.scrub.request(Request.LONG)
    machine.system.settle()
    machine.system.clock.advance(60 * SECOND)
    assert (bus.scrub.busy, bus.scrub.count) == (False, 1)
