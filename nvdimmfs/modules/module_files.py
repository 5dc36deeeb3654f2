"""The modules for persistent memory as files: their folders, sizes and dependencies.

Taken from Debian's kernel 6.1.0-56-amd64, on which the recordings were made, and from the modules that
tools/testing/nvdimm builds for it; sizes also from 5.10.0-32-amd64 and 6.12.117+deb12-amd64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from nvdimmfs.formats.elf_module import ModuleInfo

if TYPE_CHECKING:  # the parser of the command line needs the names of modules alone
    from nvdimmfs.kernels.kernel import Kernel


@attrs.frozen
class ModuleFile:
    """A module's file.

    Attributes:
        info: its metadata.
        folder: its folder below /lib/modules/RELEASE.
        size: bytes of code and data once it is loaded; `size_in` for those of other kernels.
    """

    info: ModuleInfo
    folder: str
    size: int

    @property
    def name(self) -> str:
        return self.info.name

    def size_in(self, kernel: Kernel) -> int:
        """Bytes of code and data once it is loaded by a kernel."""
        stock, of_test = _SIZES.get(kernel.devices.module_build.value, ({}, {}))
        return (stock if self.info.intree else of_test).get(self.name, self.size)

    @property
    def path(self) -> str:
        """Below /lib/modules/RELEASE."""
        return f"{self.folder}/{self.name}.ko"

    @property
    def taint(self) -> str:
        """How it taints the kernel: `O` out of tree, `E` unsigned."""
        return "" if self.info.intree else "OE"


#: Memories that a module of Linux 6.12 keeps: code, data, constants, and what is constant once it is loaded (enum
#: mod_mem_type, include/linux/module.h).
MEMORIES = 4

#: The sizes that are others in Linux 5.10.
_SIZES_5_10 = {"libnvdimm": 200704, "nd_btt": 28672, "nfit": 77824}

#: The sizes that are others in Linux 6.12.
_SIZES_6_12 = {
    "dax_pmem": 12288,
    "kmem": 12288,
    "libnvdimm": 241664,
    "nd_e820": 12288,
    "nd_virtio": 12288,
    "nfit": 81920,
}

#: The same of modules that tools/testing/nvdimm builds.
_TEST_SIZES_6_12 = {
    "dax_pmem": 16384,
    "libnvdimm": 233472,
    "nd_e820": 12288,
    "nd_pmem": 28672,
    "nfit": 81920,
    "nfit_test": 53248,
}

#: Those of a build that differs: of its own modules, and of those that tools/testing/nvdimm builds for it.
_SIZES: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]] = {
    "5.10.0-32-amd64": (_SIZES_5_10, {}),
    "6.12.117+deb12-amd64": (_SIZES_6_12, _TEST_SIZES_6_12),
}

_LIBNVDIMM = ModuleInfo("libnvdimm", (), ("nd:t1*", "nd:t2*"), (("key_revalidate", "bool"),))
_ND_BTT = ModuleInfo("nd_btt", (("libnvdimm", "nd_sb_checksum"),), ("nd:tND_DEVICE_BTT*",))
_ND_PMEM = ModuleInfo(
    "nd_pmem",
    (("libnvdimm", "__nd_driver_register"), ("nd_btt", "nvdimm_namespace_attach_btt")),
    ("nd:t5*", "nd:t4*", "pmem"),
)
_ND_E820 = ModuleInfo("nd_e820", (("libnvdimm", "nvdimm_bus_register"),), ("platform:e820_pmem*",))
_DAX_PMEM = ModuleInfo("dax_pmem", (("libnvdimm", "__nd_driver_register"),), ("nd:t7*",))
_DAX_PMEM_CORE = ModuleInfo("dax_pmem_core", (("libnvdimm", "nvdimm_namespace_common_probe"),))
_DEVICE_DAX = ModuleInfo("device_dax", (), ("dax:t0*",))
_KMEM = ModuleInfo("kmem", (), ("dax:t0*",))
_NFIT = ModuleInfo(
    "nfit",
    (("libnvdimm", "nvdimm_bus_register"),),
    ("acpi*:ACPI0012:*",),
    (
        ("force_enable_dimms", "bool"),
        ("disable_vendor_specific", "bool"),
        ("override_dsm_mask", "ulong"),
        ("default_dsm_family", "int"),
        ("no_init_ars", "bool"),
        ("force_labels", "bool"),
    ),
)

_DAX_HMEM_FILE = ModuleFile(
    ModuleInfo("dax_hmem", (), ("platform:hmem*",), (("region_idle", "bool"),)), "kernel/drivers/dax/hmem", 16384
)
_KMEM_FILE = ModuleFile(_KMEM, "kernel/drivers/dax", 16384)

#: The modules of the distribution's kernel, in the order of its modules.order.
STOCK_MODULES = (
    ModuleFile(_NFIT, "kernel/drivers/acpi/nfit", 73728),
    _DAX_HMEM_FILE,
    ModuleFile(_DEVICE_DAX, "kernel/drivers/dax", 20480),
    _KMEM_FILE,
    ModuleFile(_DAX_PMEM, "kernel/drivers/dax", 16384),
    ModuleFile(_LIBNVDIMM, "kernel/drivers/nvdimm", 204800),
    ModuleFile(_ND_PMEM, "kernel/drivers/nvdimm", 24576),
    ModuleFile(_ND_BTT, "kernel/drivers/nvdimm", 32768),
    ModuleFile(_ND_E820, "kernel/drivers/nvdimm", 16384),
)

#: The modules of machines with virtio-pmem; virtio and PCI are built in here.
VIRTIO_MODULES = (
    ModuleFile(
        ModuleInfo(
            "virtio_pmem",
            (("libnvdimm", "nvdimm_bus_register"), ("nd_virtio", "async_pmem_flush")),
            ("virtio:d0000001Bv*",),
        ),
        "kernel/drivers/nvdimm",
        16384,
    ),
    ModuleFile(ModuleInfo("nd_virtio"), "kernel/drivers/nvdimm", 16384),
)

#: The module of machines with a device tree.  Debian's kernels for PCs do not have it; the size is that of nd_e820.
DEVICE_TREE_MODULES = (
    ModuleFile(
        ModuleInfo(
            "of_pmem",
            (("libnvdimm", "nvdimm_bus_register"),),
            ("of:N*T*Cpmem-regionC*", "of:N*T*Cpmem-region"),
        ),
        "kernel/drivers/nvdimm",
        16384,
    ),
)

#: The module that intercepts the memory functions of the others, and for each of them one function that it calls.
_IOMAP = "nfit_test_iomap"
_WRAPPED = {
    "libnvdimm": "__wrap_devm_memremap",
    "nfit": "__wrap_acpi_evaluate_dsm",
    "nd_pmem": "__wrap_devm_memremap_pages",
    "device_dax": "__wrap_devm_memremap_pages",
    "dax_pmem": "__wrap___devm_request_region",
}


def _test_module(info: ModuleInfo, size: int) -> ModuleFile:
    """Return a module as tools/testing/nvdimm builds it: it imports `nfit_test_iomap` after libnvdimm."""
    imports = info.imports
    if info.name in _WRAPPED:
        imports = (*imports[:1], (_IOMAP, _WRAPPED[info.name]), *imports[1:])
    return ModuleFile(attrs.evolve(info, imports=imports, intree=False), "extra", size)


_NFIT_TEST = ModuleInfo(
    "nfit_test",
    (
        ("libnvdimm", "libnvdimm_test"),
        ("nfit", "acpi_nfit_test"),
        (_IOMAP, "nfit_test_setup"),
        ("nd_pmem", "pmem_test"),
        ("device_dax", "device_dax_test"),
        ("dax_pmem", "dax_pmem_test"),
    ),
)

#: The modules of a kernel with `nfit_test`; `nfit_test_iomap` comes before the others, `nfit_test` after them.
TEST_MODULES = (
    _DAX_HMEM_FILE,
    _KMEM_FILE,
    _test_module(ModuleInfo(_IOMAP), 28672),
    _test_module(_LIBNVDIMM, 204800),
    _test_module(_NFIT, 73728),
    _test_module(_ND_BTT, 32768),
    _test_module(_ND_PMEM, 24576),
    _test_module(_ND_E820, 16384),
    _test_module(_DEVICE_DAX, 20480),
    _test_module(_DAX_PMEM, 20480),
    _test_module(_NFIT_TEST, 49152),
)

#: The modules of device dax; the oldest kernels have none of them.
_DAX_MODULES = frozenset({"dax_hmem", "dax_pmem", "device_dax", "kmem"})

#: The module of some kernels that does what dax_pmem does in others, and what dax_pmem then imports from it.
DAX_PMEM_CORE = "dax_pmem_core"
_PROBE_OF_CORE = (DAX_PMEM_CORE, "__dax_pmem_probe")


def modules_of_kernel(*, test: bool, dax: bool, dax_pmem_core: bool = False) -> tuple[ModuleFile, ...]:
    """Return all modules of a kernel, in the order of its modules.order.

    Args:
        test: whether it is a kernel with `nfit_test`.
        dax: whether it has device dax.
        dax_pmem_core: whether dax_pmem has such a module beside it.
    """
    files: tuple[ModuleFile, ...] = TEST_MODULES if test else STOCK_MODULES
    if dax_pmem_core:
        files = tuple(part for file in files for part in _with_core(file))
    return files if dax else tuple(_without_dax(file) for file in files if file.name not in _DAX_MODULES)


def _with_core(file: ModuleFile) -> tuple[ModuleFile, ...]:
    """Return dax_pmem and its core, or another module alone."""
    if file.name != _DAX_PMEM.name:
        return (file,)
    importing = attrs.evolve(file.info, imports=(*file.info.imports, _PROBE_OF_CORE))
    core = attrs.evolve(_DAX_PMEM_CORE, intree=file.info.intree)
    return (attrs.evolve(file, info=importing), attrs.evolve(file, info=core))


def _without_dax(file: ModuleFile) -> ModuleFile:
    """Return a module without its imports from device dax, for a kernel that has none."""
    imports = tuple((module, symbol) for module, symbol in file.info.imports if module not in _DAX_MODULES)
    return attrs.evolve(file, info=attrs.evolve(file.info, imports=imports))


#: The modules that a distribution loads at boot, in this order: those that announce memory, then the drivers.
#: Dependencies are loaded with them.
BOOT_MODULES = (
    "nd_e820",
    "nfit",
    "nfit_test",
    "virtio_pmem",
    "of_pmem",
    "nd_pmem",
    "dax_pmem",
    "dax_hmem",
    "device_dax",
)
