"""The words of a machine file: what can be said of a DIMM, a bus, a range, in the kernel's own terms."""

from __future__ import annotations

import enum

from nvdimmfs.formats.ndctl import BusCommand, Command


class DimmFlag(enum.Enum):
    """A word of nmemN/nfit/flags: what the platform reports about a DIMM (NFIT memory device state flags)."""

    SAVE_FAIL = "save_fail"
    RESTORE_FAIL = "restore_fail"
    FLUSH_FAIL = "flush_fail"
    NOT_ARMED = "not_armed"
    SMART_EVENT = "smart_event"
    MAP_FAIL = "map_fail"
    SMART_NOTIFY = "smart_notify"


class Security(enum.Enum):
    """What nmemN/security shows; NONE: the DIMM has no security, and there is neither that file nor `frozen`."""

    NONE = "none"
    DISABLED = "disabled"
    UNLOCKED = "unlocked"
    LOCKED = "locked"
    OVERWRITE = "overwrite"


class RangeKind(enum.Enum):
    """The kind of a range (ACPI 6.4, table 5.132).

    PMEM and the persistent virtual kinds become nd_pmem regions, the volatile ones nd_volatile regions.  Only PMEM
    enters /proc/iomem.
    """

    PMEM = "pmem"
    VOLATILE = "volatile"
    VOLATILE_DISK = "volatile-disk"
    VOLATILE_CD = "volatile-cd"
    PERSISTENT_DISK = "persistent-disk"
    PERSISTENT_CD = "persistent-cd"

    @property
    def is_virtual(self) -> bool:
        """A RAM disk of the firmware: no DIMM is behind it, and its range index is 0."""
        return self not in (RangeKind.PMEM, RangeKind.VOLATILE)

    @property
    def is_volatile(self) -> bool:
        """Whether its region is an nd_volatile one."""
        return self in (RangeKind.VOLATILE, RangeKind.VOLATILE_DISK, RangeKind.VOLATILE_CD)


class PersistenceDomain(enum.Enum):
    """How far a store must get to outlive a loss of power (NFIT platform capabilities); NONE: the NFIT does not say."""

    NONE = "none"
    MEMORY_CONTROLLER = "memory_controller"
    CPU_CACHE = "cpu_cache"


class FirmwareActivation(enum.Enum):
    """What ndbusN/firmware/capability shows; NONE: there is no such folder."""

    NONE = "none"
    QUIESCE = "quiesce"
    LIVE = "live"


class PersonalityKind(enum.Enum):
    """A device that claims a namespace."""

    BTT = "btt"
    PFN = "pfn"
    DAX = "dax"


class MemmapLocation(enum.Enum):
    """Where a pfn or dax device keeps its struct pages; the words of its `mode` attribute."""

    RAM = "ram"
    PMEM = "pmem"


#: What a bus needs to scrub (address range scrub, ACPI 6.4, section 9.20.7).
SCRUB_COMMANDS = (BusCommand.ARS_CAP, BusCommand.ARS_START, BusCommand.ARS_STATUS)


def word_of(member: enum.Enum) -> str:
    """How a machine file, and the kernel's attributes, spell a member of an enumeration."""
    word: str = member.word if isinstance(member, Command) else member.value
    return word
