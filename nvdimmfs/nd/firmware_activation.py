"""Firmware that was sent to DIMMs, and takes effect without a reset: the files firmware/ (core.c, dimm_devs.c, 6.1)."""

from __future__ import annotations

import enum
import errno
from typing import Protocol, TypeVar

from nvdimmfs.core.attribute import AttributeGroup, HasSystem, KernelAttribute, attribute
from nvdimmfs.core.parse import line
from nvdimmfs.errors import KernelError


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


ActivationT = TypeVar("ActivationT")
ActivationT_co = TypeVar("ActivationT_co", covariant=True)


class HasActivation(HasSystem, Protocol[ActivationT_co]):
    """A bus or a DIMM whose firmware may be activated without a reset."""

    @property
    def activation(self) -> ActivationT_co | None:
        """How firmware is activated; None where the platform cannot activate it."""


def _activation_of(device: HasActivation[ActivationT]) -> ActivationT:
    activation = device.activation
    assert activation is not None, "visible only where firmware can be activated"
    return activation


@attribute("activate", 0o400)
def bus_activate(bus: HasActivation[BusActivation]) -> str:
    """`idle`, `armed`, `busy`, or `overflow` when more is armed than can be activated in time."""
    return f"{_activation_of(bus).state()}\n"


@bus_activate.on_store
def _store_bus_activate(bus: HasActivation[BusActivation], data: bytes) -> None:
    """Activate what is armed.

    EINVAL for anything but `live` and `quiesce`; EBUSY while an activation runs; ENXIO when nothing is armed.
    """
    if line(data) not in ("live", "quiesce"):
        raise KernelError(errno.EINVAL, "neither live nor quiesce")
    activation = _activation_of(bus)
    if activation.state() is ActivationState.BUSY:
        raise KernelError(errno.EBUSY, "an activation runs")
    if activation.state() is ActivationState.IDLE:
        raise KernelError(errno.ENXIO, "nothing is armed")
    activation.activate()


@attribute("capability")
def capability(bus: HasActivation[BusActivation]) -> str:
    """`quiesce` when the system has to hold still during an activation, else `live`."""
    return f"{_activation_of(bus).capability}\n"


@attribute("activate", 0o400)
def dimm_activate(dimm: HasActivation[DimmActivation]) -> str:
    """`idle`, `armed` or `busy`."""
    return f"{_activation_of(dimm).state()}\n"


@dimm_activate.on_store
def _store_dimm_activate(dimm: HasActivation[DimmActivation], data: bytes) -> None:
    """EINVAL for anything but `arm` and `disarm`, EBUSY while an activation runs."""
    word = line(data)
    if word not in ("arm", "disarm"):
        raise KernelError(errno.EINVAL, "neither arm nor disarm")
    _activation_of(dimm).arm(word == "arm")


@attribute("result", 0o400)
def result(dimm: HasActivation[DimmActivation]) -> str:
    """What became of the last activation: `none`, `success`, `fail`, `not_staged` or `need_reset`."""
    return f"{_activation_of(dimm).result()}\n"


def _visible(device: HasActivation[ActivationT], candidate: KernelAttribute[HasActivation[ActivationT]]) -> int:
    return candidate.permissions if device.activation else 0


#: Empty where the platform cannot activate firmware; the directory is there all the same (Linux 6.1).
FIRMWARE_GROUP: AttributeGroup[HasActivation[BusActivation]] = AttributeGroup(
    (bus_activate, capability), name="firmware", visible=_visible, since="6.1"
)
DIMM_FIRMWARE_GROUP: AttributeGroup[HasActivation[DimmActivation]] = AttributeGroup(
    (dimm_activate, result), name="firmware", visible=_visible
)
