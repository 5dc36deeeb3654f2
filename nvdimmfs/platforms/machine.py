"""A machine: physical memory, the kernel's buses and drivers, and the platform that announces persistent memory."""

from __future__ import annotations

from pathlib import Path

from nvdimmfs.block.disk import BlockLayer
from nvdimmfs.core.attribute import constant
from nvdimmfs.core.module import Module
from nvdimmfs.core.system import System
from nvdimmfs.dax.device import DaxLayer
from nvdimmfs.drivers.dax_pmem import DaxPmemDriver
from nvdimmfs.drivers.device_dax import DeviceDaxDriver
from nvdimmfs.drivers.nd_bus import NdBusDriver
from nvdimmfs.drivers.nd_pmem import NdPmemDriver
from nvdimmfs.drivers.nd_region import NdRegionDriver
from nvdimmfs.drivers.nvdimm import NvdimmDriver
from nvdimmfs.kernfs import Tree
from nvdimmfs.mm.firmware import installed_memory
from nvdimmfs.mm.memory import Memory
from nvdimmfs.nd.bus import NdBus
from nvdimmfs.platforms.e820 import E820PmemDriver, legacy_ranges
from nvdimmfs.platforms.platform_bus import PlatformBus, PlatformDevice
from nvdimmfs.platforms.procfs import create_proc_files
from nvdimmfs.platforms.storage import FolderStorage, MemoryStorage, Storage


class Machine:
    """A running machine.

    Attributes:
        system: its sysfs, uevents and queued work.
        memory: its physical memory.
        storage: the bytes of its persistent memory.
    """

    def __init__(self, memory: Memory, storage: Storage) -> None:
        self.system = System()
        self.memory = memory
        self.storage = storage
        self._platform_bus = PlatformBus(self.system)
        self._nd_bus = NdBus(self.system, memory)
        self._load_modules()
        create_proc_files(self.system, memory)

    @classmethod
    def legacy(cls, memmap: str, ram: int, media: Path | None = None) -> Machine:
        """A machine with `ram` bytes of memory, booted with memmap=<memmap>.

        Args:
            memmap: ranges as on the kernel's command line.
            ram: bytes of System RAM.
            media: the folder that keeps the bytes; None keeps them in memory.
        """
        storage = FolderStorage(media) if media else MemoryStorage(installed_memory(ram))
        machine = cls(Memory.boot(memmap, ram), storage)
        if legacy_ranges(machine.memory.iomem):
            PlatformDevice(machine._platform_bus, "e820_pmem").add()
        machine.system.settle()
        machine.system.rest()
        return machine

    @property
    def tree(self) -> Tree:
        """The tree whose root holds sys, dev and proc."""
        return self.system.tree

    def close(self) -> None:
        """Flush and close the media; the machine cannot be used afterwards."""
        self.storage.close()

    def _load_modules(self) -> None:
        """Load what a distribution loads for persistent memory.  Sizes are those of the reference machine."""
        system, nd_bus = self.system, self._nd_bus
        libnvdimm = Module(system, "libnvdimm", 204800, parameters=(constant("key_revalidate", "Y\n"),))
        nd_e820 = Module(system, "nd_e820", 16384, (libnvdimm,))
        nd_btt = Module(system, "nd_btt", 32768, (libnvdimm,))
        nd_pmem = Module(system, "nd_pmem", 24576, (nd_btt, libnvdimm))
        dax_pmem = Module(system, "dax_pmem", 16384, (libnvdimm,))
        device_dax = Module(system, "device_dax", 20480)
        dax_layer = DaxLayer(system, self.memory)
        NdBusDriver(nd_bus, libnvdimm)
        NvdimmDriver(nd_bus, libnvdimm)
        NdRegionDriver(nd_bus, libnvdimm)
        NdPmemDriver(nd_bus, nd_pmem, BlockLayer(system))
        DaxPmemDriver(nd_bus, dax_pmem, dax_layer)
        DeviceDaxDriver(dax_layer.bus, device_dax)
        E820PmemDriver(self._platform_bus, nd_e820, nd_bus, self.storage)
