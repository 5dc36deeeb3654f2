"""A machine: physical memory, the kernel's buses and drivers, and the platform that announces persistent memory."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from nvdimmfs.core.clock import ClockMode
from nvdimmfs.core.debugfs import debugfs
from nvdimmfs.core.device import Device
from nvdimmfs.core.system import System
from nvdimmfs.core.trace import Listener
from nvdimmfs.errors import KernelError, PowerIsCut
from nvdimmfs.kernels.durations import BOOT
from nvdimmfs.kernels.kernel import KERNEL_6_1, KERNELS, Kernel
from nvdimmfs.kernels.races import Referee
from nvdimmfs.kernfs import Tree
from nvdimmfs.machine.checkpoint import Checkpoint, Checkpoints
from nvdimmfs.machine.debug_folder import create_debug_files
from nvdimmfs.machine.declared_faults import bad_sector_rules, rules_of, unreadable_rule
from nvdimmfs.machine.fault_control import FaultControl
from nvdimmfs.machine.first_boot import NewMachineError, SysfsWriter
from nvdimmfs.machine.persistent_memory import PersistentMemory
from nvdimmfs.machine.procfs import create_proc_files
from nvdimmfs.machine.save_session import saved_file
from nvdimmfs.machine_file.model import BusDescription, MachineDescription, UnreadableAttribute
from nvdimmfs.machine_file.ram import installed_ram, nodes_of
from nvdimmfs.machine_file.type_checks import require, require_types
from nvdimmfs.machine_file.words import BusPlatform
from nvdimmfs.media.base import NO_FAULTS, MediaError
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.nodes import FIRST_NODE
from nvdimmfs.mm.pc_memory_map import installed_memory
from nvdimmfs.nd.bus_type import NdBus
from nvdimmfs.platforms.acpi_bus import FIRST_DIMM_NUMBER, AcpiBus, AcpiDevice, AcpiDimmDevice
from nvdimmfs.platforms.acpi_table_names import table_names
from nvdimmfs.platforms.e820 import legacy_ranges
from nvdimmfs.platforms.hmem import HmemRange, announce_soft_reserved
from nvdimmfs.platforms.platform_bus import PlatformBus, PlatformDevice
from nvdimmfs.platforms.storage import FolderStorage, MemoryStorage, Storage
from nvdimmfs.platforms.tables import PlatformTables, firmware_parent

if TYPE_CHECKING:  # loaded when a machine is saved or restored
    from nvdimmfs.machine.saved import SavedMachine


class Machine:
    """A running machine.

    Attributes:
        system: its sysfs, uevents and queued work.
        memory: its physical memory.
        storage: the bytes of its persistent memory.
        persistent_memory: the modules for it.
        description: the content of its machine file, with what was plugged in.
        faults: its fault rules.
    """

    def __init__(
        self,
        memory: Memory,
        storage: Storage,
        buses: Iterable[BusDescription] = (),
        clock: ClockMode = ClockMode.REAL,
    ) -> None:
        """Create a machine that has not booted.

        Args:
            memory: its physical memory.
            storage: the bytes of its persistent memory.
            buses: the buses that the NFIT, or the test platform, describes.
            clock: the mode of its clock.
        """
        self.description = MachineDescription(buses=tuple(buses))
        self.system = System(memory.kernel, clock)
        self.memory = memory
        self.storage = storage
        self.system.transaction = storage.transaction
        self.system.directory("devices/virtual")
        tables = {bus.parent.rpartition("/")[2]: bus for bus in self.description.buses}
        platform_bus, acpi_bus = PlatformBus(self.system), AcpiBus(self.system)
        self.persistent_memory = PersistentMemory(
            self.system, memory, PlatformTables(storage, tables), platform_bus, acpi_bus
        )
        memory.faults = self.system.faults
        storage.connect(self.system.faults)
        self.faults = FaultControl(self.system, self.persistent_memory)
        self._checkpoints = Checkpoints(self, self.system, storage)
        create_debug_files(self.system, memory, self.persistent_memory, self._checkpoints, self.plug, self.faults)
        debugfs(self.system).directory("nvdimmfs").add(saved_file("saved", self.saved))
        create_proc_files(self.system, memory, self.persistent_memory.modules, self.persistent_memory.blocks)

    @classmethod
    def legacy(
        cls,
        memmap: str,
        ram: int,
        media: Path | None = None,
        kernel: Kernel = KERNEL_6_1,
        clock: ClockMode | str = ClockMode.REAL,
    ) -> Machine:
        """Boot a machine with `ram` bytes of memory and memmap=<memmap>.

        Args:
            memmap: ranges as on the kernel's command line.
            ram: bytes of System RAM.
            media: the folder that stores the bytes of persistent memory; None stores them in memory.
            kernel: the kernel that it runs.
            clock: the mode of its clock, or the mode's name.
        """
        require("kernel", kernel, (Kernel,), "a Kernel")
        description = MachineDescription(memmap=memmap, ram=ram, kernel=kernel.name)
        require_types(description)
        return cls.described(description, media, clock=clock)

    @classmethod
    def described(
        cls,
        description: MachineDescription,
        media: Path | None = None,
        blacklist: Collection[str] = (),
        clock: ClockMode | str | None = None,
        *,
        durable: bool = True,
        saved: SavedMachine | None = None,
        traced: Listener | None = None,
        referee: Referee | None = None,
    ) -> Machine:
        """Boot the machine of a machine file.

        Args:
            description: the content of the file.
            media: as for `legacy`.
            blacklist: modules not to load at boot.
            clock: the mode of its clock, or the mode's name; None for that of the description.
            durable: whether acknowledged writes of metadata to `media` survive a power failure of the host.
            saved: the saved machine whose bytes it has at first; `media` must be new then.
            traced: receives each event of the trace, which then begins with the boot; None records no trace.
            referee: decides races, also at boot; None for the usual outcomes.

        Raises:
            MediaError: the folder cannot be used, or is not new.
            NewMachineError: a setting of the description is refused.
            SavedMachineError: the file of the saved machine has changed since it was checked.
        """
        require("description", description, (MachineDescription,), "a MachineDescription")
        require("media", media, (Path, type(None)), "a Path")
        if clock is not None:
            description = attrs.evolve(description, clock=ClockMode(clock))
        ram = [(span.start, span.end) for span in installed_memory(installed_ram(description))]
        installed = (*ram, *((range_.start, range_.end) for range_ in description.ranges))
        storage = FolderStorage(media, durable=durable) if media else MemoryStorage(installed)
        with contextlib.ExitStack() as failed:
            failed.callback(storage.close)
            if saved is not None:
                if not storage.is_new:
                    raise MediaError(f"{media}: a machine is there already; restore into a new folder")
                saved.restore(storage)
                storage.is_new = False
            if storage.is_new and description.personalities:
                cls._set_up(description, storage)
            machine = cls._prepared(description, storage, blacklist, traced, referee)
            storage.has_booted()
            failed.pop_all()
        return machine

    @classmethod
    def _set_up(cls, description: MachineDescription, storage: Storage) -> None:
        """Have a temporary machine write the info blocks, so that they are found as at any other boot."""
        first = cls._booted(attrs.evolve(description, faults=()), storage)
        SysfsWriter(first.system).set_up(description.personalities)
        storage.is_new = False
        storage.connect(NO_FAULTS)
        del first
        gc.collect(0)  # frees the temporary machine; automatic collection may be off during a boot

    @classmethod
    def _prepared(
        cls,
        description: MachineDescription,
        storage: Storage,
        blacklist: Collection[str] = (),
        traced: Listener | None = None,
        referee: Referee | None = None,
    ) -> Machine:
        """A machine as its users find it.  NewMachineError."""
        try:
            machine = cls._booted(description, storage, blacklist, traced, referee)
        except PowerIsCut as cut:
            raise NewMachineError(f"cannot boot: {cut.strerror}") from None
        machine._make_unreadable(description.unreadable)
        return machine

    @classmethod
    def _booted(
        cls,
        description: MachineDescription,
        storage: Storage,
        blacklist: Collection[str] = (),
        traced: Listener | None = None,
        referee: Referee | None = None,
    ) -> Machine:
        kernel = KERNELS[description.kernel]
        memory = Memory.boot(description.memmap, installed_ram(description), kernel, nodes_of(description))
        machine = cls(memory, storage, description.buses, description.clock)
        machine.description = description
        machine.system.referee = referee
        for rule in rules_of(description):
            machine.system.faults.add(rule, is_limited=False)
        if traced is None:
            machine._boot(blacklist)
            return machine
        machine.system.recorder.listeners.append(traced)
        machine.system.start_trace()
        with machine.system.recorder.boot():
            machine._boot(blacklist)
        return machine

    def _boot(self, blacklist: Collection[str]) -> None:
        clock = self.system.clock
        clock.is_booting = True
        self._announce(self.description.buses)
        self.persistent_memory.boot(blacklist)
        self.system.settle()
        clock.advance(BOOT.nanoseconds)
        clock.is_booting = False

    def _announce(self, buses: Iterable[BusDescription]) -> None:
        """Add the devices that the firmware announces; the module nfit_test adds those of the test platform."""
        platform_bus, acpi_bus = self.persistent_memory.platform_bus, self.persistent_memory.acpi_bus
        if self.memory.kernel.devices.has_dax:
            regions = self.persistent_memory.memory_regions
            announce_soft_reserved(platform_bus, self.memory, regions, _memory_with_hmat(self.description))
        if legacy_ranges(self.memory.iomem) or self.memory.kernel.devices.legacy_device_is_always_there:
            PlatformDevice(platform_bus, "e820_pmem").add()
        known: dict[str, Device] = {"platform": platform_bus.root}
        numbers = itertools.count(FIRST_DIMM_NUMBER)
        for bus in buses:
            device = bus.parent.rpartition("/")[2]
            if not bus.has_nfit:
                self._announce_memory(bus, device, known)
            elif device not in self.persistent_memory.test_platforms:
                root = AcpiDevice(acpi_bus, device, firmware_parent(self.system, bus.parent, known))
                root.add()
                root.add_physical(platform_bus)
                for place, dimm in enumerate(bus.dimms_by_handle):
                    AcpiDimmDevice(acpi_bus, root, next(numbers), dimm.handle, place).add()
        if known.keys() != {"platform"} or self.memory.nodes.possible != {FIRST_NODE}:
            from nvdimmfs.platforms.acpi_table_files import create_table_files  # not for a legacy machine

            create_table_files(self.system, self.description)

    def _announce_memory(self, bus: BusDescription, device: str, known: dict[str, Device]) -> None:
        """Add the device that announces memory without an NFIT."""
        if bus.platform is BusPlatform.DEVICE_TREE:
            from nvdimmfs.platforms.device_tree import PmemRegionDevice  # which few machines have

            PmemRegionDevice(self.persistent_memory.platform_bus, bus).add()
            return
        from nvdimmfs.platforms.virtio import VirtioDevice

        virtio_bus = self.persistent_memory.virtio_bus
        assert virtio_bus is not None, "a machine with such a bus has it"
        VirtioDevice(virtio_bus, device, firmware_parent(self.system, bus.parent, known), bus).add()

    def _make_unreadable(self, attributes: Iterable[UnreadableAttribute]) -> None:
        sysfs = SysfsWriter(self.system)
        for unreadable in attributes:
            try:
                attribute = sysfs.attribute(unreadable.path)
            except KernelError as refusal:
                problem = "is not an attribute" if refusal.errno == errno.EISDIR else "does not exist"
                raise NewMachineError(f"unreadable: /sys/{unreadable.path} {problem}") from None
            self.system.faults.add(unreadable_rule(attribute.path, unreadable.errno), is_limited=False)

    @property
    def nd_bus(self) -> NdBus | None:
        """The bus type nd; None while libnvdimm is not loaded."""
        return self.persistent_memory.nd_bus

    @property
    def tree(self) -> Tree:
        """The tree whose root holds sys, dev and proc."""
        return self.system.tree

    def plug(self, text: str) -> None:
        """Plug in DIMMs and ranges, as QEMU's device_add does; the kernel registers them at once.

        While the driver nfit is not bound, it finds them when it is bound the next time.

        Args:
            text: `dimm size=1G label=128K`, or TOML, see `machine_file.addition`.

        Raises:
            MachineFileError: with the errors of the text.
            MediaError: a file of the same name has another size.
            KernelError: EOPNOTSUPP for a bus of the kernel's test platform, and for a kernel before 4.4, which does not
                look for new memory (acpi_nfit_notify, drivers/acpi/nfit.c, Linux 4.4).
        """
        from nvdimmfs.machine_file.addition import extended  # which loads what reads machine files

        addition = extended(self.description, text)
        if addition.bus.is_test_platform:
            raise KernelError(errno.EOPNOTSUPP, f"{addition.bus.provider} has the DIMMs of its module alone")
        if not self.memory.kernel.has("4.4"):
            raise KernelError(errno.EOPNOTSUPP, f"Linux {self.memory.kernel.name} finds memory at boot alone")
        self.system.begin_write()
        try:
            for rule in bad_sector_rules(addition.new_ranges):
                self.system.faults.add(rule, is_limited=False)
            device = self.persistent_memory.tables.extend(addition)
            self.description = addition.machine
            self.persistent_memory.acpi_bus.update(device)
        finally:
            self.system.end_write()

    def checkpoint(self) -> Checkpoint:
        """Save the state: bytes, labels, claims, bindings, numbers, modules, settings and the clock.  CheckpointError.

        `with machine.checkpoint():` resets the machine at the end.
        """
        return self._checkpoints.take()

    def reset(self) -> None:
        """Go back to the last checkpoint.  CheckpointError when there is none."""
        self._checkpoints.reset()

    def power_cycled(self) -> Machine:
        """Boot a machine of the same hardware and the same media, as after a power failure.

        Nothing is left of what the kernel kept: bindings, numbers, checkpoints, the clock.  Of the fault rules, those
        of the machine file apply again.  This machine must not be used afterwards, nor be closed.

        Raises:
            NewMachineError: a setting of the description is refused, or a rule of it cuts the power during the boot.
        """
        return self._prepared(self.description, self.storage, referee=self.system.referee)

    def saved(self) -> Iterator[bytes]:
        """What would survive a power cycle: the content of a file that `machine.saved.read_saved` reads."""
        from nvdimmfs.machine.saved import saved

        return saved(self.description, self.storage)

    def close(self) -> None:
        """Flush and close the media.  The machine must not be used afterwards."""
        self.storage.close()


def _memory_with_hmat(machine: MachineDescription) -> list[HmemRange]:
    """The memory of each node, which the kernel registers if it finds an HMAT; none without one."""
    if not machine.node_accesses or not table_names(machine):
        return []
    from nvdimmfs.platforms.acpi_tables import memory_of_nodes  # which few machines need

    return [HmemRange(entry.start, entry.length, entry.domain) for entry in memory_of_nodes(machine)]
