"""What a machine's kernel does because of a call: one class for each kind of act.

An effect's `text` is one line without unprintable characters, whatever names user space has chosen.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from nvdimmfs.errors import ERRNO_NAMES, printable


@attrs.frozen
class Effect:
    """One act.

    Attributes:
        kind: the word for this kind of act in JSON.
        depth: how many acts it is part of: what a driver does while it probes a device has one more than the probe.
    """

    kind: ClassVar[str]

    depth: int = attrs.field(default=0, kw_only=True)

    @property
    def text(self) -> str:
        """The act in one line."""
        return printable(self._text())

    def _text(self) -> str:
        raise NotImplementedError


@attrs.frozen
class Probed(Effect):
    """A driver has probed a device.

    Attributes:
        errno: why it did not bind the device; 0 if it did.
        reason: the reason in words; empty if there is none.
    """

    kind = "probe"

    driver: str
    device: str
    errno: int = 0
    reason: str = ""

    def _text(self) -> str:
        code = ERRNO_NAMES.get(self.errno, str(self.errno))
        outcome = f"refused, {code}{f': {self.reason}' if self.reason else ''}" if self.errno else "bound"
        return f"{self.driver} probes {self.device}: {outcome}"


@attrs.frozen
class Unbound(Effect):
    """A device was unbound from its driver."""

    kind = "unbind"

    driver: str
    device: str

    def _text(self) -> str:
        return f"{self.driver} is unbound from {self.device}"


@attrs.frozen
class Claimed(Effect):
    """A btt, pfn or dax device has claimed a namespace."""

    kind = "claim"

    device: str
    namespace: str

    def _text(self) -> str:
        return f"{self.device} claims {self.namespace}"


@attrs.frozen
class Released(Effect):
    """A btt, pfn or dax device has released its claim on a namespace."""

    kind = "release"

    device: str
    namespace: str

    def _text(self) -> str:
        return f"{self.device} releases {self.namespace}"


@attrs.frozen
class InfoBlockWritten(Effect):
    """The info block of a btt, pfn or dax device was written.

    Attributes:
        device: the device, or the arena of a btt.
        offset: the place in the namespace, bytes.
        size: bytes.
    """

    kind = "info_block"

    device: str
    namespace: str
    offset: int
    size: int

    def _text(self) -> str:
        return f"the info block of {self.device} is written to {self.namespace}, {self.size} bytes at {self.offset}"


@attrs.frozen
class LabelWritten(Effect):
    """A label was written to the label area of a DIMM.

    Attributes:
        slot: its place in the area.
        uuid: that of the namespace.
    """

    kind = "label"

    dimm: str
    slot: int
    uuid: str

    def _text(self) -> str:
        return f"label {self.uuid} is written to slot {self.slot} of {self.dimm}"


@attrs.frozen
class LabelIndexWritten(Effect):
    """An index block was written to the label area of a DIMM.

    Attributes:
        block: 0 or 1.
        sequence: its sequence number, 1 to 3.
        free: the number of slots that it marks free.
    """

    kind = "label_index"

    dimm: str
    block: int
    sequence: int
    free: int

    def _text(self) -> str:
        return (
            f"index block {self.block} of {self.dimm} is written, sequence {self.sequence}, with {self.free} free slots"
        )


@attrs.frozen
class PagesRegistered(Effect):
    """Struct pages were registered for a device's memory.

    Attributes:
        start: the first physical address.
        end: the last one.
        memmap: where the struct pages are: `RAM`, or `media` for the registered memory itself.
    """

    kind = "pages_registered"

    device: str
    start: int
    end: int
    memmap: str

    def _text(self) -> str:
        place = "the memory itself" if self.memmap == "media" else self.memmap
        return f"pages are registered for {self.device}, {self.start:#x}-{self.end:#x}, struct pages in {place}"


@attrs.frozen
class PagesRemoved(Effect):
    """The registration of a device's pages has ended.

    Attributes:
        start: the first physical address.
        end: the last one.
    """

    kind = "pages_removed"

    device: str
    start: int
    end: int

    def _text(self) -> str:
        return f"the pages of {self.device} are removed, {self.start:#x}-{self.end:#x}"


@attrs.frozen
class DeviceAdded(Effect):
    """A device was registered.

    Attributes:
        path: its directory.
    """

    kind = "device_added"

    path: str

    def _text(self) -> str:
        return f"device {self.path} is added"


@attrs.frozen
class DeviceRemoved(Effect):
    """A device was unregistered.

    Attributes:
        path: the directory that it had.
    """

    kind = "device_removed"

    path: str

    def _text(self) -> str:
        return f"device {self.path} is removed"


@attrs.frozen
class UeventSent(Effect):
    """A uevent was sent.

    Attributes:
        action: `add`, `remove`, `change`, `move`, `online`, `offline`, `bind` or `unbind`.
        devpath: the device's directory below /sys, with a leading slash.
        subsystem: its bus or class.
        sequence: SEQNUM.
    """

    kind = "uevent"

    action: str
    devpath: str
    subsystem: str
    sequence: int

    def _text(self) -> str:
        return f"uevent {self.sequence}: {self.action} {self.devpath} ({self.subsystem})"


@attrs.frozen
class ModuleLoaded(Effect):
    """A module was loaded."""

    kind = "module_loaded"

    name: str

    def _text(self) -> str:
        return f"module {self.name} is loaded"


@attrs.frozen
class ModuleUnloaded(Effect):
    """A module was unloaded."""

    kind = "module_unloaded"

    name: str

    def _text(self) -> str:
        return f"module {self.name} is unloaded"


@attrs.frozen
class WorkDone(Effect):
    """Work that was scheduled on the machine's clock was done; the effects with a greater depth are part of it.

    Attributes:
        what: a description of the work.
        due: when it was due, seconds from boot.
    """

    kind = "work"

    what: str
    due: float

    def _text(self) -> str:
        return f"due at {self.due:.6f} s: {self.what or 'scheduled work'}"


@attrs.frozen
class FaultHit(Effect):
    """An injected fault was hit.

    Attributes:
        rule: what was injected, as the debug folder shows it.
    """

    kind = "fault"

    rule: str

    def _text(self) -> str:
        return f"fault: {self.rule}"


#: Every kind of effect, by its word.
KINDS: dict[str, type[Effect]] = {
    each.kind: each
    for each in (
        Probed,
        Unbound,
        Claimed,
        Released,
        InfoBlockWritten,
        LabelWritten,
        LabelIndexWritten,
        PagesRegistered,
        PagesRemoved,
        DeviceAdded,
        DeviceRemoved,
        UeventSent,
        ModuleLoaded,
        ModuleUnloaded,
        WorkDone,
        FaultHit,
    )
}
