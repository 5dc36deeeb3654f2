"""The words of a machine file: flags, commands and kinds of DIMMs, buses and ranges, as the kernel names them."""

from __future__ import annotations

import enum

from nvdimmfs.formats.ndctl import BusCommand, Command


class DimmFlag(enum.Enum):
    """A word in nmemN/nfit/flags: a state that the platform reports for a DIMM (NFIT memory device state flags)."""

    SAVE_FAIL = "save_fail"
    RESTORE_FAIL = "restore_fail"
    FLUSH_FAIL = "flush_fail"
    NOT_ARMED = "not_armed"
    SMART_EVENT = "smart_event"
    MAP_FAIL = "map_fail"
    SMART_NOTIFY = "smart_notify"


class SecurityState(enum.Enum):
    """The content of nmemN/security; for NONE, the DIMM has no security and neither this file nor `frozen` exists."""

    NONE = "none"
    DISABLED = "disabled"
    UNLOCKED = "unlocked"
    LOCKED = "locked"
    OVERWRITE = "overwrite"


class HealthState(enum.Enum):
    """The health of a DIMM, as `ndctl list -H` shows it; for NONE, the DIMM reports no health."""

    NONE = "none"
    OK = "ok"
    NON_CRITICAL = "non-critical"
    CRITICAL = "critical"
    FATAL = "fatal"


class ShutdownState(enum.Enum):
    """How the last shutdown ended, as `ndctl list -H` shows it; for NONE, the DIMM does not report that."""

    NONE = "none"
    CLEAN = "clean"
    DIRTY = "dirty"


class AlarmKind(enum.Enum):
    """A value of which a DIMM raises an alarm when it reaches its threshold."""

    SPARES = "spares"
    TEMPERATURE = "temperature"
    CONTROLLER_TEMPERATURE = "controller_temperature"


class BusPlatform(enum.Enum):
    """What announces the memory of a bus.

    NFIT: an ACPI NFIT, or the kernel's test platform.  VIRTIO_PMEM: a virtio device of a virtual machine, which has one
    range.  DEVICE_TREE: a node `pmem-region` of a device tree.
    """

    NFIT = "nfit"
    VIRTIO_PMEM = "virtio-pmem"
    DEVICE_TREE = "device-tree"


class RangeKind(enum.Enum):
    """The kind of a range (ACPI 6.4, table 5.132).

    PMEM and the persistent virtual kinds become nd_pmem regions, the volatile kinds nd_volatile regions.  Only PMEM is
    listed in /proc/iomem.
    """

    PMEM = "pmem"
    VOLATILE = "volatile"
    VOLATILE_DISK = "volatile-disk"
    VOLATILE_CD = "volatile-cd"
    PERSISTENT_DISK = "persistent-disk"
    PERSISTENT_CD = "persistent-cd"

    @property
    def is_virtual(self) -> bool:
        """Whether it is a RAM disk of the firmware, which has no DIMMs and range index 0."""
        return self not in (RangeKind.PMEM, RangeKind.VOLATILE)

    @property
    def is_volatile(self) -> bool:
        """Whether its region is of type nd_volatile."""
        return self in (RangeKind.VOLATILE, RangeKind.VOLATILE_DISK, RangeKind.VOLATILE_CD)


class PersistenceDomain(enum.Enum):
    """How far a store must get to survive a power failure (NFIT platform capabilities); NONE: not in the NFIT."""

    NONE = "none"
    MEMORY_CONTROLLER = "memory_controller"
    CPU_CACHE = "cpu_cache"


class FirmwareActivation(enum.Enum):
    """The content of ndbusN/firmware/capability; for NONE, that folder does not exist."""

    NONE = "none"
    QUIESCE = "quiesce"
    LIVE = "live"


class PersonalityKind(enum.Enum):
    """A device that claims a namespace."""

    BTT = "btt"
    PFN = "pfn"
    DAX = "dax"


class MemmapLocation(enum.Enum):
    """Where the struct pages of a pfn or dax device are stored; the words of its `mode` attribute."""

    RAM = "ram"
    PMEM = "pmem"


#: The commands that a bus needs for scrubs (address range scrub, ACPI 6.4, section 9.20.7).
SCRUB_COMMANDS = (BusCommand.ARS_CAP, BusCommand.ARS_START, BusCommand.ARS_STATUS)


def word_of(member: enum.Enum) -> str:
    """Return the word of an enumeration member in machine files and in the kernel's attributes."""
    word: str = member.word if isinstance(member, Command) else member.value
    return word
