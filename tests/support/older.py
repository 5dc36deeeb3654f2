"""A machine with any kernel, and a shell's view of it."""

from __future__ import annotations

import errno
import uuid

import pytest

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.pfn import PfnInfoBlock, PfnMode
from nvdimmfs.kernels.kernel import KERNELS
from nvdimmfs.machine.machine import Machine
from nvdimmfs.units import GIB, MIB

BUS = "devices/platform/e820_pmem/ndbus0"
OWN = "00000001-aaaa-bbbb-cccc-000000000001"
OTHER = "00000002-aaaa-bbbb-cccc-000000000002"
PARENT = uuid.UUID("0000cafe-0000-0000-0000-000000000000")


class Host:
    """A machine with a shell's view of it."""

    def __init__(self, kernel, memmap, media):
        self.machine = Machine.legacy(memmap, 8 * GIB, media, KERNELS[kernel], clock="steps")
        self.sys = self.machine.system.sys
        self.running = True

    def close(self):
        if self.running:
            self.machine.close()
        self.running = False

    def read(self, path):
        return self.sys.find(path).show().decode().removesuffix("\n")

    def write(self, path, text):
        return self.sys.find(path).store(text.encode("latin-1"))

    def names(self, path):
        return set(self.sys.find(path).children)

    def has(self, path):
        directory, _, name = path.rpartition("/")
        return name in self.names(directory)

    def permissions(self, path):
        return self.sys.find(path).mode & 0o777

    def unbind(self, name):
        self.write("bus/nd/drivers/nd_pmem/unbind", name)

    def bind(self, name):
        self.write("bus/nd/drivers/nd_pmem/bind", name)

    def reason(self, name):
        """The errno behind the one that `bind` gives."""
        with pytest.raises(KernelError) as refusal:
            self.bind(name)
        cause = refusal.value.__cause__
        assert isinstance(cause, KernelError)
        return errno.errorcode[refusal.value.errno], errno.errorcode[cause.errno]

    def prepare(self, mode="ram", identity=OWN, pfn="pfn0.0", namespace="namespace0.0"):
        """Configure a pfn device over a namespace that is raw."""
        region = f"{BUS}/region{namespace[9]}"
        if self.has(f"{region}/{namespace}/driver"):
            self.unbind(namespace)
        self.write(f"{region}/{pfn}/uuid", identity)
        if mode:
            self.write(f"{region}/{pfn}/mode", mode)
        self.write(f"{region}/{pfn}/namespace", namespace)
        return f"{region}/{pfn}"

    def rebind_region(self):
        self.write("bus/nd/drivers/nd_region/unbind", "region0")
        self.write("bus/nd/drivers/nd_region/bind", "region0")

    @property
    def media(self):
        return self.machine.storage.media(*self.ranges[0])

    @property
    def ranges(self):
        return [(r.start, r.size) for r in self.machine.memory.iomem.children if r.name == "Persistent Memory (legacy)"]

    @property
    def block(self):
        """The info block on the first range."""
        return PfnInfoBlock.from_bytes(self.media.read(4096, 4096))

    def put_block(self, **fields):
        """Leave a 6.1 block on the first range, with a few fields of one's own."""
        given = {
            "uuid": uuid.UUID(OWN),
            "dataoff": 2 * MIB,
            "npfns": 1,
            "mode": PfnMode.RAM,
            "align": 2 * MIB,
            **fields,
        }
        self.media.write(4096, PfnInfoBlock(**given).to_bytes())

    def unmapped(self):
        """/proc/iomem without any driver."""
        self.write("bus/nd/drivers/nd_region/unbind", "region0")
        return self.machine.memory.iomem_text()

    def disks(self):
        return set(self.machine.system.dev.children)


def refusal_of(call, *arguments):
    with pytest.raises(KernelError) as refusal:
        call(*arguments)
    return errno.errorcode[refusal.value.errno]
