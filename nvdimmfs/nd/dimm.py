"""DIMMs: memory modules, and the label areas that describe the namespaces on them."""

from __future__ import annotations

import contextlib
import errno
from typing import Self

import attrs

from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute
from nvdimmfs.core.device_number import dimm_number
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.label import IndexBlock, NamespaceLabel
from nvdimmfs.formats.ndctl import DimmCommand, command_mask
from nvdimmfs.nd.bus import NvdimmBus
from nvdimmfs.nd.command import Outcome
from nvdimmfs.nd.device import ND_DEVICE_GROUP, DeviceType, NdDevice
from nvdimmfs.nd.dimm_labels import DimmLabels
from nvdimmfs.nd.dpa import DpaSpace
from nvdimmfs.nd.firmware_activation import DIMM_FIRMWARE_GROUP, DimmActivation
from nvdimmfs.nd.label import LabelStorage, label_id
from nvdimmfs.nd.security import DimmSecurity
from nvdimmfs.traces.effects import LabelIndexWritten, LabelWritten


@attrs.frozen
class NvdimmDescription:
    """The properties of a DIMM with which a platform registers it.

    Attributes:
        commands: the ioctl commands that it has, in the order of their numbers.
        unarmed: it would not save its data on power loss; its regions are read-only.
        flush_hints: it has addresses that flush the memory controller's buffers.
        security: the word for its security state; None without security.
        frozen: it refuses security operations until the next boot.
    """

    commands: tuple[DimmCommand, ...] = ()
    unarmed: bool = False
    flush_hints: bool = False
    security: str | None = None
    frozen: bool = False


@attrs.define(eq=False)
class DimmData:
    """The state of a bound DIMM: its labels, and the owners of its parts (struct nvdimm_drvdata)."""

    labels: LabelStorage
    dpa: DpaSpace = attrs.Factory(DpaSpace)


class DimmDevice(NdDevice):
    """A DIMM.

    Attributes:
        id: the N of nmemN, unique over all buses.
        description: the properties with which it was registered.
        labeling: it has labels, which divide the regions on it into namespaces; never cleared.
        locked: it was locked when its labels were last read.
        data: None while the DIMM is not bound, or has no label area.
        busy: the number of bound regions that use it.
        activation: activates its firmware; None where the platform cannot.
        security: the kernel's view of its security; None where user space cannot change it.
    """

    device_type = "nvdimm"
    parent: NvdimmBus

    def __init__(self, nvdimm_bus: NvdimmBus, description: NvdimmDescription) -> None:
        self.id = nvdimm_bus.layer.dimm_numbers.allocate()
        super().__init__(nvdimm_bus.system, f"nmem{self.id}", nvdimm_bus)
        self.bus = nvdimm_bus.bus
        self.number = dimm_number(self.id, self.system.kernel)
        self.description = description
        self.labeling = False
        self.locked = False
        self.data: DimmData | None = None
        self.busy = 0
        self.activation: DimmActivation | None = None
        self.security: DimmSecurity | None = None

    @property
    def modalias_type(self) -> DeviceType:
        return DeviceType.DIMM

    @property
    def capacity(self) -> int | None:
        """Bytes of the DIMM, including those in no region; None where the platform does not report it."""
        return None

    @property
    def unarmed(self) -> bool:
        return self.description.unarmed

    @property
    def flush_hints(self) -> bool:
        return self.description.flush_hints

    def enable(self) -> None:
        """Read the label area and reserve the extents that its labels describe (nvdimm_probe, Linux 6.1).

        A DIMM without the command to read labels is enabled without them; ENXIO if it had labels before.
        EACCES when it is locked, EBUSY when two labels claim the same part of it.
        """
        if DimmCommand.GET_DATA not in self.description.commands:
            if self.labeling:
                raise KernelError(errno.ENXIO, f"{self.name} can no longer read its labels")
            return
        self.locked = False
        if self.security and self.system.kernel.devices.has_security_keys:
            with contextlib.suppress(KernelError):
                self.security.unlock()
        data = DimmData(self._read_labels())
        for label in data.labels.active():
            data.dpa.allocate(label_id(label.uuid), label.dpa, label.rawsize)
        self.data = data
        self.labeling = self.labeling or data.labels.index is not None

    def _read_labels(self) -> LabelStorage:
        """Read the size of the label area, then the labels.

        A DIMM that reports EACCES with the size is locked, but its labels may be readable.  If they are not, the error
        is raised.
        """
        try:
            labels = DimmLabels(self.name, self._send)
            self.locked = labels.locked
            return LabelStorage(labels, self)
        except KernelError as refusal:
            self.locked = self.locked or refusal.errno == errno.EACCES
            raise

    def _send(self, command: int, argument: bytearray) -> Outcome:
        return self.parent.send(self, command, argument)

    def label_written(self, label: NamespaceLabel) -> None:
        """Report a label to the trace."""
        if (trace := self.system.trace) is not None:
            trace.report(LabelWritten(self.name, label.slot, str(label.uuid)))

    def index_written(self, which: int, block: IndexBlock) -> None:
        """Report an index block to the trace."""
        if (trace := self.system.trace) is not None:
            trace.report(LabelIndexWritten(self.name, which, block.seq, block.nfree))

    @property
    def command_mask(self) -> int:
        """Its ioctl commands, a bit each."""
        return command_mask(self.description.commands)

    def security_state(self) -> str | None:
        """The word for its security state; None without security."""
        return self.description.security

    @property
    def frozen(self) -> bool:
        """Whether it refuses security operations until the next boot."""
        return self.description.frozen

    def disable(self) -> None:
        """Discard the labels that were read."""
        self.data = None

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (ND_DEVICE_GROUP, DIMM_GROUP, DIMM_FIRMWARE_GROUP)

    def release(self) -> None:
        self.parent.layer.dimm_numbers.free(self.id)


@attribute("state")
def state(dimm: DimmDevice) -> str:
    """`active` while a bound region uses the DIMM, else `idle`."""
    return "active\n" if dimm.busy else "idle\n"


@attribute("flags")
def flags(dimm: DimmDevice) -> str:
    """`label` when it has labels, `lock` when it is locked, each followed by a space."""
    return f"{'label ' if dimm.labeling else ''}{'lock ' if dimm.locked else ''}\n"


@attribute("commands")
def commands(dimm: DimmDevice) -> str:
    """Its ioctl commands, each followed by a space."""
    return "".join(f"{command.word} " for command in dimm.description.commands) + "\n"


@attribute("available_slots")
def available_slots(dimm: DimmDevice) -> str:
    """Free label slots, less one that is reserved for updates.  ENXIO while no label area has been read."""
    if dimm.data is None:
        raise KernelError(errno.ENXIO, f"{dimm.name} has no labels")
    return f"{dimm.data.labels.available_slots}\n"


@attribute("security", 0o644)
def security(dimm: DimmDevice) -> str:
    """The security state: `disabled`, `unlocked`, `locked` or `overwrite`.  ENOTTY when it is none of these."""
    return f"{dimm.security_state()}\n"


@security.on_store
def _store_security(dimm: DimmDevice, data: bytes) -> None:
    """`freeze`, or a word followed by serial numbers of keys in the kernel's keyrings, 0 for no key.

    One key: `disable`, `erase`, `overwrite`, `master_erase`.  The old key and the new one: `update`, `master_update`.
    EIO for a DIMM whose security cannot be changed; EINVAL for anything else, ERANGE past 32 bits; EBUSY to erase or
    overwrite while a bound region uses it; EOPNOTSUPP without security; EIO when frozen; EBUSY while it is being
    overwritten; ENOKEY for a number that is not a key's; then the errors of the DIMM, of which ENXIO is any status
    that the kernel does not know.  In Linux 5.10, which is built without keys, always EOPNOTSUPP.
    """
    if not dimm.system.kernel.devices.has_security_keys:
        raise KernelError(errno.EOPNOTSUPP, "the kernel is built without CONFIG_NVDIMM_KEYS")
    if dimm.security is None:
        raise KernelError(errno.EIO, f"the security of {dimm.name} cannot be changed")
    dimm.security.store(data)


@attribute("frozen")
def frozen(dimm: DimmDevice) -> str:
    """1 when the DIMM refuses security operations until the next boot, else 0."""
    return f"{int(dimm.frozen)}\n"


def _dimm_visible(dimm: DimmDevice, candidate: KernelAttribute[DimmDevice]) -> int:
    if candidate in (security, frozen) and dimm.description.security is None:
        return 0
    return candidate.permissions


DIMM_GROUP: AttributeGroup[DimmDevice] = AttributeGroup(
    (state, flags, commands, available_slots, security, frozen), visible=_dimm_visible
)
