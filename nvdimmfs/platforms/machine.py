"""A machine: physical memory, the kernel's buses and drivers, and the platform that announces persistent memory."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterable
from pathlib import Path

from nvdimmfs.block.disk import BlockLayer
from nvdimmfs.core.attribute import constant
from nvdimmfs.core.device import Device
from nvdimmfs.core.module import Module
from nvdimmfs.core.system import System
from nvdimmfs.dax.device import DaxLayer
from nvdimmfs.drivers.dax_pmem import DaxPmemDriver
from nvdimmfs.drivers.device_dax import DeviceDaxDriver
from nvdimmfs.drivers.nd_bus import NdBusDriver
from nvdimmfs.drivers.nd_pmem import NdPmemDriver
from nvdimmfs.drivers.nd_region import NdRegionDriver
from nvdimmfs.drivers.nvdimm import NvdimmDriver
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Tree
from nvdimmfs.machine_file.model import MachineDescription, UnreadableAttribute
from nvdimmfs.mm.firmware import installed_memory
from nvdimmfs.mm.kernel import KERNEL_6_1, KERNELS, Kernel
from nvdimmfs.mm.memory import Memory
from nvdimmfs.nd.bus import NdBus
from nvdimmfs.platforms.debugfs import create_debug_files
from nvdimmfs.platforms.e820 import E820PmemDriver, legacy_ranges
from nvdimmfs.platforms.modules import LoadableModule
from nvdimmfs.platforms.new_machine import Hands, NewMachineError
from nvdimmfs.platforms.nfit import NfitPlatform, parent_device
from nvdimmfs.platforms.platform_bus import PlatformBus, PlatformDevice
from nvdimmfs.platforms.procfs import create_proc_files
from nvdimmfs.platforms.storage import FolderStorage, MemoryStorage, Storage
from nvdimmfs.platforms.unreadable import UnreadableAttributes, make_unreadable


class Machine:
    """A running machine.

    Attributes:
        system: its sysfs, uevents and queued work.
        memory: its physical memory.
        storage: the bytes of its persistent memory.
    """

    def __init__(self, memory: Memory, storage: Storage, blacklist: Collection[str] = ()) -> None:
        self.system = System(memory.kernel)
        self.memory = memory
        self.storage = storage
        self.system.directory("devices/virtual")
        self._platform_bus = PlatformBus(self.system)
        self._nd_bus = NdBus(self.system, memory)
        self._load_modules(blacklist)
        create_proc_files(self.system, memory)

    @classmethod
    def legacy(cls, memmap: str, ram: int, media: Path | None = None, kernel: Kernel = KERNEL_6_1) -> Machine:
        """A machine with `ram` bytes of memory, booted with memmap=<memmap>.

        Args:
            memmap: ranges as on the kernel's command line.
            ram: bytes of System RAM.
            media: the folder that keeps the bytes; None keeps them in memory.
            kernel: what it runs.
        """
        return cls.described(MachineDescription(memmap=memmap, ram=ram, kernel=kernel.name), media)

    @classmethod
    def described(
        cls, description: MachineDescription, media: Path | None = None, blacklist: Collection[str] = ()
    ) -> Machine:
        """The machine of a machine file; `media` as for `legacy`; `blacklist`: modules that are not loaded at boot."""
        ranges = [(range_.start, range_.end) for bus in description.buses for range_ in bus.ranges]
        storage = FolderStorage(media) if media else MemoryStorage((*installed_memory(description.ram), *ranges))
        with contextlib.ExitStack() as failed:
            failed.callback(storage.close)
            if storage.is_new and description.personalities:
                # Put on media by a machine that is then forgotten, so that this one finds them as any other boot would.
                Hands(cls._booted(description, storage).system).set_up(description.personalities)
                storage.is_new = False
            machine = cls._booted(description, storage, blacklist)
            machine._make_unreadable(description.unreadable)
            failed.pop_all()
        return machine

    @classmethod
    def _booted(cls, description: MachineDescription, storage: Storage, blacklist: Collection[str] = ()) -> Machine:
        kernel = KERNELS[description.kernel]
        memory = Memory.boot(description.memmap, description.ram, kernel)
        machine = cls(memory, storage, blacklist)
        if legacy_ranges(memory.iomem) or kernel.devices.legacy_device_is_always_there:
            PlatformDevice(machine._platform_bus, "e820_pmem").add()
        machine._add_nfit_buses(description)
        machine.system.settle()
        machine.system.rest()
        return machine

    def _make_unreadable(self, attributes: Iterable[UnreadableAttribute]) -> None:
        hands = Hands(self.system)
        refusals = {}
        for unreadable in attributes:
            try:
                attribute = hands.attribute(unreadable.path)
            except KernelError as refusal:
                what = "is not an attribute" if refusal.errno == errno.EISDIR else "is not there"
                raise NewMachineError(f"unreadable: /sys/{unreadable.path} {what}") from None
            refusals[attribute.path] = unreadable.errno
            make_unreadable(attribute, unreadable.errno)
        if refusals:
            self.system.tree.subscribe(UnreadableAttributes(refusals))

    def _add_nfit_buses(self, description: MachineDescription) -> None:
        if not description.buses:
            return
        module = Module(self.system, "nfit", 86016, (self._libnvdimm,))
        platform = NfitPlatform(self._nd_bus, module, self.storage)
        known: dict[str, Device] = {"platform": self._platform_bus.root}
        for bus in description.buses:
            platform.add(self._parent_device(bus.parent, known), bus)

    def _parent_device(self, path: str, known: dict[str, Device]) -> Device:
        """The device that a bus belongs to: a platform device, or one of the firmware's tree."""
        names = path.removeprefix("devices/").split("/")
        if names[0] != "platform":
            return parent_device(self.system, path, known)
        device = PlatformDevice(self._platform_bus, names[1])
        device.add()
        return device

    @property
    def nd_bus(self) -> NdBus:
        """The bus type nd, which finds the device that an ioctl is for."""
        return self._nd_bus

    @property
    def tree(self) -> Tree:
        """The tree whose root holds sys, dev and proc."""
        return self.system.tree

    def close(self) -> None:
        """Flush and close the media; the machine cannot be used afterwards."""
        self.storage.close()

    def _load_modules(self, blacklist: Collection[str]) -> None:
        """Load what a distribution loads for persistent memory.  Sizes are those of the reference machine."""
        system, nd_bus = self.system, self._nd_bus
        libnvdimm = Module(system, "libnvdimm", 204800, parameters=(constant("key_revalidate", "Y\n", since="5.0"),))
        self._libnvdimm = libnvdimm
        nd_btt = Module(system, "nd_btt", 32768, (libnvdimm,))
        nd_pmem = Module(system, "nd_pmem", 24576, (nd_btt, libnvdimm))
        NdBusDriver(nd_bus, libnvdimm)
        NvdimmDriver(nd_bus, libnvdimm)
        NdRegionDriver(nd_bus, libnvdimm)
        NdPmemDriver(nd_bus, nd_pmem, BlockLayer(system))
        if self.memory.kernel.devices.has_dax:
            self._load_dax_modules()
        nd_e820 = LoadableModule(system, "nd_e820", 16384, (libnvdimm,), self._legacy_driver)
        if nd_e820.name not in blacklist:
            nd_e820.load()
        create_debug_files(system, self.memory, nd_bus, (nd_e820,))

    def _legacy_driver(self, module: Module) -> E820PmemDriver:
        return E820PmemDriver(self._platform_bus, module, self._nd_bus, self.storage)

    def _load_dax_modules(self) -> None:
        layer = DaxLayer(self.system, self.memory)
        DaxPmemDriver(self._nd_bus, Module(self.system, "dax_pmem", 16384, (self._libnvdimm,)), layer)
        DeviceDaxDriver(layer.bus, Module(self.system, "device_dax", 20480))
