"""Firmware that was sent to DIMMs, and takes effect without a reset: the files firmware/ (core.c, dimm_devs.c, 6.1)."""

from __future__ import annotations

import enum
import errno
from typing import TYPE_CHECKING, Protocol

from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute
from nvdimmfs.core.parse import line
from nvdimmfs.errors import KernelError

if TYPE_CHECKING:
    from nvdimmfs.nd.bus import NvdimmBus
    from nvdimmfs.nd.dimm import DimmDevice


class ActivationState(enum.StrEnum):
    """What firmware/activate reads; OVERFLOW: more is armed than can be activated in the time that the system has."""

    IDLE = "idle"
    ARMED = "armed"
    BUSY = "busy"
    OVERFLOW = "overflow"


class ActivationResult(enum.StrEnum):
    """What firmware/result reads: what became of the last activation."""

    NONE = "none"
    SUCCESS = "success"
    FAIL = "fail"
    NOT_STAGED = "not_staged"
    NEED_RESET = "need_reset"


class BusActivation(Protocol):
    """How a bus activates the firmware of its DIMMs (struct nvdimm_bus_fw_ops)."""

    @property
    def capability(self) -> str:
        """`quiesce` when the system has to hold still meanwhile, else `live`."""

    def state(self) -> ActivationState:
        """Whether firmware is armed."""

    def activate(self) -> None:
        """Activate what is armed.  ENXIO when nothing is, and what the platform says."""


class DimmActivation(Protocol):
    """How a DIMM's firmware gets ready to be activated (struct nvdimm_fw_ops)."""

    def state(self) -> ActivationState:
        """Whether it is armed."""

    def result(self) -> ActivationResult:
        """What became of the last activation."""

    def arm(self, armed: bool) -> None:
        """Arm or disarm.  EBUSY while an activation runs."""


def _of_bus(bus: NvdimmBus) -> BusActivation:
    assert bus.activation is not None, "visible only where it can be activated"
    return bus.activation


def _of_dimm(dimm: DimmDevice) -> DimmActivation:
    assert dimm.activation is not None, "visible only where it can be activated"
    return dimm.activation


@attribute("activate", 0o400)
def bus_activate(bus: NvdimmBus) -> str:
    """`idle`, `armed`, `busy`, or `overflow` when more is armed than can be activated in time."""
    return f"{_of_bus(bus).state()}\n"


@bus_activate.on_store
def _store_bus_activate(bus: NvdimmBus, data: bytes) -> None:
    """Activate what is armed.

    EINVAL for anything but `live` and `quiesce`; EBUSY while an activation runs; ENXIO when nothing is armed.
    """
    if line(data) not in ("live", "quiesce"):
        raise KernelError(errno.EINVAL, "neither live nor quiesce")
    activation = _of_bus(bus)
    if activation.state() is ActivationState.BUSY:
        raise KernelError(errno.EBUSY, "an activation runs")
    if activation.state() is ActivationState.IDLE:
        raise KernelError(errno.ENXIO, "nothing is armed")
    activation.activate()


@attribute("capability")
def capability(bus: NvdimmBus) -> str:
    """`quiesce` when the system has to hold still during an activation, else `live`."""
    return f"{_of_bus(bus).capability}\n"


@attribute("activate", 0o400)
def dimm_activate(dimm: DimmDevice) -> str:
    """`idle`, `armed` or `busy`."""
    return f"{_of_dimm(dimm).state()}\n"


@dimm_activate.on_store
def _store_dimm_activate(dimm: DimmDevice, data: bytes) -> None:
    """EINVAL for anything but `arm` and `disarm`, EBUSY while an activation runs."""
    word = line(data)
    if word not in ("arm", "disarm"):
        raise KernelError(errno.EINVAL, "neither arm nor disarm")
    _of_dimm(dimm).arm(word == "arm")


@attribute("result", 0o400)
def result(dimm: DimmDevice) -> str:
    """What became of the last activation: `none`, `success`, `fail`, `not_staged` or `need_reset`."""
    return f"{_of_dimm(dimm).result()}\n"


def _bus_visible(bus: NvdimmBus, candidate: KernelAttribute[NvdimmBus]) -> int:
    return candidate.permissions if bus.activation else 0


def _dimm_visible(dimm: DimmDevice, candidate: KernelAttribute[DimmDevice]) -> int:
    return candidate.permissions if dimm.activation else 0


#: Empty where the platform cannot activate firmware; the directory is there all the same (Linux 6.1).
FIRMWARE_GROUP: AttributeGroup[NvdimmBus] = AttributeGroup(
    (bus_activate, capability), name="firmware", visible=_bus_visible, since="6.1"
)
DIMM_FIRMWARE_GROUP: AttributeGroup[DimmDevice] = AttributeGroup(
    (dimm_activate, result), name="firmware", visible=_dimm_visible
)
