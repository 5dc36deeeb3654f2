"""The modules for persistent memory: their parameters, and their functions at load and unload."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from nvdimmfs.block.disk import BlockLayer
from nvdimmfs.core.attribute import KernelAttribute, constant
from nvdimmfs.core.debugfs import debugfs
from nvdimmfs.core.device import Class
from nvdimmfs.core.memory_block import MemorySubsystem
from nvdimmfs.core.module import Module, ModuleDescription, Modules, boolean_parameter
from nvdimmfs.core.module_folders import ModuleImage
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.system import System
from nvdimmfs.dax.device import DaxLayer
from nvdimmfs.drivers.dax_pmem import DaxPmemDriver
from nvdimmfs.drivers.device_dax import DeviceDaxDriver
from nvdimmfs.drivers.kmem import KmemDriver
from nvdimmfs.drivers.nd_bus import NdBusDriver
from nvdimmfs.drivers.nd_pmem import NdPmemDriver
from nvdimmfs.drivers.nd_region import NdRegionDriver
from nvdimmfs.drivers.nvdimm import NvdimmDriver
from nvdimmfs.kernels.kernel import Kernel
from nvdimmfs.kernfs import Directory
from nvdimmfs.machine_file.words import BusPlatform
from nvdimmfs.mm.hotplug import MemoryBlocks
from nvdimmfs.mm.memory import Memory
from nvdimmfs.modules.module_files import (
    BOOT_MODULES,
    DEVICE_TREE_MODULES,
    MEMORIES,
    VIRTIO_MODULES,
    ModuleFile,
    modules_of_kernel,
)
from nvdimmfs.nd.bus_type import NdBus
from nvdimmfs.platforms.acpi_bus import AcpiBus
from nvdimmfs.platforms.e820 import E820PmemDriver
from nvdimmfs.platforms.hmem import HmemDriver, HmemPlatformDriver
from nvdimmfs.platforms.platform_bus import PlatformBus, PlatformDevice
from nvdimmfs.platforms.tables import PlatformTables

if TYPE_CHECKING:  # which few machines have
    from nvdimmfs.platforms.virtio import VirtioBus

#: A parameter that a kernel without keys of DIMMs does not have.
_KEY_REVALIDATE = constant("key_revalidate", "Y\n", since="5.0")

#: The parameters of each module with their defaults.
_PARAMETERS: Mapping[str, tuple[KernelAttribute[Module], ...]] = {
    "libnvdimm": (_KEY_REVALIDATE, constant("noblk", "N\n", since="5.10", until="6.1")),
    "dax_hmem": (boolean_parameter("region_idle", False),),
    "nfit": (
        boolean_parameter("force_enable_dimms", False),
        constant("disable_vendor_specific", "N\n"),
        constant("override_dsm_mask", "0\n"),
        constant("default_dsm_family", "-1\n"),
        boolean_parameter("no_init_ars", False),
        constant("force_labels", "N\n"),
    ),
}

#: Where nd_btt shows its arenas in debugfs (nd_btt_init, drivers/nvdimm/btt.c).
_BTT_FOLDER = "btt"


@attrs.define(eq=False)
class PersistentMemory:
    """The objects that the modules work on and create.

    Attributes:
        system, memory: the machine's.
        tables: the tables of the platforms, and the bytes of all persistent memory.
        platform_bus, acpi_bus: the buses of the platforms' devices.
        modules: all modules, loaded or not.
        blocks: the disks.
        memory_blocks: the blocks of System RAM that can be onlined and offlined.
        virtio_bus: the bus of virtio devices; None on a machine without them.
        memory_regions: memregion ids, shared by nvdimm regions and the devices of dax_hmem (lib/memregion.c).
    """

    system: System
    memory: Memory
    tables: PlatformTables
    platform_bus: PlatformBus
    acpi_bus: AcpiBus
    modules: Modules = attrs.field(init=False)
    blocks: BlockLayer = attrs.field(init=False)
    memory_blocks: MemoryBlocks = attrs.field(init=False)
    memory_regions: Numbering = attrs.field(init=False, factory=Numbering)
    virtio_bus: VirtioBus | None = attrs.field(init=False, default=None)
    _dax: DaxLayer | None = attrs.field(init=False, default=None)
    _nd_bus: NdBus | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.blocks = BlockLayer(self.system, self.memory)
        self.memory_blocks = MemorySubsystem(self.system, MemoryBlocks(self.memory)).blocks
        if self.memory.kernel.devices.has_dax:
            self._dax = DaxLayer(self.system, self.memory)
        if BusPlatform.VIRTIO_PMEM in self._platforms:
            from nvdimmfs.platforms.virtio import VirtioBus  # which few machines have

            self.virtio_bus = VirtioBus(self.system)
        inits = self._inits
        self.modules = Modules(
            self.system, [_description(file, inits[file.name], self.memory.kernel) for file in self.module_files]
        )

    @property
    def module_files(self) -> tuple[ModuleFile, ...]:
        """The modules' files, in the order of modules.order."""
        files = modules_of_kernel(
            test=bool(self.test_platforms),
            dax=self._dax is not None,
            dax_pmem_core=self.memory.kernel.devices.dax_pmem_has_core,
        )
        if self.virtio_bus is not None:
            files = (*files, *VIRTIO_MODULES)
        return (*files, *DEVICE_TREE_MODULES) if BusPlatform.DEVICE_TREE in self._platforms else files

    @property
    def _platforms(self) -> set[BusPlatform]:
        return {table.platform for table in self.tables.by_device.values()}

    @property
    def test_platforms(self) -> list[str]:
        """The devices that `nfit_test` creates."""
        return [name for name, table in self.tables.by_device.items() if table.is_test_platform]

    @property
    def nd_bus(self) -> NdBus | None:
        """The nvdimm bus, while libnvdimm is loaded."""
        return self._nd_bus

    def boot(self, blacklist: Collection[str]) -> None:
        """Load the modules that a distribution loads for the announced devices, in the order of `BOOT_MODULES`."""
        for name in self._wanted():
            if name not in blacklist:
                self.modules.probe(name)

    def _wanted(self) -> list[str]:
        announced = {
            "nd_e820": "e820_pmem" in self.platform_bus.members,
            "nfit": bool(self.acpi_bus.members),
            "dax_hmem": not self.platform_bus.members.keys().isdisjoint({"hmem.0", "hmem_platform.0"}),
            "nfit_test": bool(self.test_platforms),
            "virtio_pmem": self.virtio_bus is not None,
            "of_pmem": BusPlatform.DEVICE_TREE in self._platforms,
        }
        return [name for name in BOOT_MODULES if name in self.modules.known and announced.get(name, True)]

    @property
    def _inits(self) -> Mapping[str, Callable[[Module], None]]:
        return {
            "libnvdimm": self._libnvdimm,
            "nd_btt": self._nd_btt,
            "nd_pmem": self._nd_pmem,
            "nd_e820": self._nd_e820,
            "dax_pmem_core": _nothing,
            "dax_pmem": self._dax_pmem,
            "device_dax": self._device_dax,
            "kmem": self._kmem,
            "dax_hmem": self._dax_hmem,
            "nfit": self._nfit,
            "nfit_test_iomap": _nothing,
            "nfit_test": self._nfit_test,
            "nd_virtio": _nothing,
            "virtio_pmem": self._virtio_pmem,
            "of_pmem": self._of_pmem,
        }

    def _libnvdimm(self, module: Module) -> None:
        nd_bus = self._nd_bus = NdBus(self.system, self.memory, self.memory_regions)
        module.at_exit(self._end_libnvdimm)
        NdBusDriver(nd_bus, module)
        NvdimmDriver(nd_bus, module)
        NdRegionDriver(nd_bus, module)

    def _end_libnvdimm(self) -> None:
        self._loaded_nd_bus.unregister()
        self._nd_bus = None

    @property
    def _loaded_nd_bus(self) -> NdBus:
        assert self._nd_bus, "modules that need libnvdimm are loaded after it"
        return self._nd_bus

    @property
    def _dax_layer(self) -> DaxLayer:
        assert self._dax, "a kernel without the dax bus has no modules for it"
        return self._dax

    def _nd_btt(self, module: Module) -> None:
        folder = debugfs(self.system)
        folder.add(Directory(_BTT_FOLDER))
        module.at_exit(lambda: folder.remove(_BTT_FOLDER))

    def _nd_pmem(self, module: Module) -> None:
        NdPmemDriver(self._loaded_nd_bus, module, self.blocks, debugfs(self.system).directory(_BTT_FOLDER))

    def _nd_e820(self, module: Module) -> None:
        E820PmemDriver(self.platform_bus, module, self._loaded_nd_bus.layer, self.tables.storage)

    def _dax_pmem(self, module: Module) -> None:
        DaxPmemDriver(self._loaded_nd_bus, module, self._dax_layer)

    def _device_dax(self, module: Module) -> None:
        DeviceDaxDriver(self._dax_layer.bus, module)

    def _kmem(self, module: Module) -> None:
        KmemDriver(self._dax_layer.bus, module, self.memory_blocks)

    def _dax_hmem(self, module: Module) -> None:
        if self.memory.kernel.devices.hmem_has_platform_device:
            HmemPlatformDriver(self.platform_bus, module, self.memory, self.memory_regions)
        HmemDriver(self.platform_bus, module, self._dax_layer, self.tables.storage)

    def _nfit(self, module: Module) -> None:
        from nvdimmfs.platforms.nfit.driver import NfitDriver  # imported here, as legacy machines do not need its code

        NfitDriver(self.acpi_bus, module, self._loaded_nd_bus.layer, self.tables)

    def _virtio_pmem(self, module: Module) -> None:
        from nvdimmfs.platforms.virtio import VirtioPmemDriver

        assert self.virtio_bus is not None, "a machine without virtio devices has no such module"
        VirtioPmemDriver(self.virtio_bus, module, self._loaded_nd_bus.layer, self.tables)

    def _of_pmem(self, module: Module) -> None:
        from nvdimmfs.platforms.device_tree import OfPmemDriver

        OfPmemDriver(self.platform_bus, module, self._loaded_nd_bus.layer, self.tables)

    def _nfit_test(self, module: Module) -> None:
        """Also create the test platform's devices (nfit_test_init, test/nfit.c, Linux 6.1)."""
        from nvdimmfs.platforms.nfit_test.driver import NfitTestDriver

        device_class = Class(self.system, "nfit_test_dimm")
        module.at_exit(device_class.unregister)
        for device_name in self.test_platforms:
            device = PlatformDevice.named(self.platform_bus, device_name)
            device.add()
            module.at_exit(device.unregister)
        NfitTestDriver(self.platform_bus, module, self._loaded_nd_bus.layer, self.tables, device_class)


def _description(file: ModuleFile, init: Callable[[Module], None], kernel: Kernel) -> ModuleDescription:
    def image() -> ModuleImage:
        from nvdimmfs.modules.module_sections import image_of  # which few programs look at

        return image_of(file.name, kernel.devices.module_build)

    return ModuleDescription(
        file.name,
        file.size_in(kernel),
        init,
        file.info.depends,
        tuple(_parameters(file.name, kernel)),
        file.taint,
        image,
        memories=MEMORIES if kernel.devices.modules_have_several_memories else 1,
    )


def _parameters(name: str, kernel: Kernel) -> Iterator[KernelAttribute[Module]]:
    for each in _PARAMETERS.get(name, ()):
        if each is not _KEY_REVALIDATE or kernel.devices.has_security_keys:
            yield each


def _nothing(_module: Module) -> None:
    """The module only exports functions to other modules."""
