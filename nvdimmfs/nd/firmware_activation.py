"""Activation of a DIMM's updated firmware without a reset: the folders firmware/ (core.c, dimm_devs.c, Linux 6.1)."""

from __future__ import annotations

import enum
import errno
from typing import Protocol, TypeVar

from nvdimmfs.core.attribute import AttributeGroup, HasSystem, KernelAttribute, attribute
from nvdimmfs.core.parse import line
from nvdimmfs.errors import KernelError


class ActivationState(enum.StrEnum):
    """The content of firmware/activate.  OVERFLOW: activating all armed DIMMs would take too long."""

    IDLE = "idle"
    ARMED = "armed"
    BUSY = "busy"
    OVERFLOW = "overflow"


class ActivationResult(enum.StrEnum):
    """The content of firmware/result: the outcome of the last activation."""

    NONE = "none"
    SUCCESS = "success"
    FAIL = "fail"
    NOT_STAGED = "not_staged"
    NEED_RESET = "need_reset"


class BusActivation(Protocol):
    """Activates the firmware of a bus's DIMMs (struct nvdimm_bus_fw_ops)."""

    @property
    def capability(self) -> str:
        """`quiesce` when the system must be quiesced during an activation, else `live`."""

    def state(self) -> ActivationState:
        """The state of all DIMMs together."""

    def activate(self) -> None:
        """Activate the armed firmware.  ENXIO when none is armed, and the errors of the platform."""


class DimmActivation(Protocol):
    """Prepares a DIMM's firmware to be activated (struct nvdimm_fw_ops)."""

    def state(self) -> ActivationState:
        """The state of the DIMM."""

    def result(self) -> ActivationResult:
        """The outcome of the last activation."""

    def arm(self, armed: bool) -> None:
        """Arm or disarm.  EBUSY while an activation runs."""


ActivationT = TypeVar("ActivationT")
ActivationT_co = TypeVar("ActivationT_co", covariant=True)


class HasActivation(HasSystem, Protocol[ActivationT_co]):
    """A bus or a DIMM whose firmware may be activated without a reset."""

    @property
    def activation(self) -> ActivationT_co | None:
        """Activates firmware; None where the platform cannot."""


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
    """Activate the armed firmware.

    EINVAL for anything but `live` and `quiesce`; EBUSY while an activation runs; ENXIO when no firmware is armed.
    """
    if line(data) not in ("live", "quiesce"):
        raise KernelError(errno.EINVAL, "neither live nor quiesce")
    activation = _activation_of(bus)
    if activation.state() is ActivationState.BUSY:
        raise KernelError(errno.EBUSY, "an activation is running")
    if activation.state() is ActivationState.IDLE:
        raise KernelError(errno.ENXIO, "no firmware is armed")
    activation.activate()


@attribute("capability")
def capability(bus: HasActivation[BusActivation]) -> str:
    """`quiesce` when the system must be quiesced during an activation, else `live`."""
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
    """The outcome of the last activation: `none`, `success`, `fail`, `not_staged` or `need_reset`."""
    return f"{_activation_of(dimm).result()}\n"


def _visible(device: HasActivation[ActivationT], candidate: KernelAttribute[HasActivation[ActivationT]]) -> int:
    return candidate.permissions if device.activation else 0


#: Where the platform cannot activate firmware, the directory exists and is empty (Linux 5.10 and 6.1).
FIRMWARE_GROUP: AttributeGroup[HasActivation[BusActivation]] = AttributeGroup(
    (bus_activate, capability), name="firmware", visible=_visible, since="5.10"
)
DIMM_FIRMWARE_GROUP: AttributeGroup[HasActivation[DimmActivation]] = AttributeGroup(
    (dimm_activate, result), name="firmware", visible=_visible
)
