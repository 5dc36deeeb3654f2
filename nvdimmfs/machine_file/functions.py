"""The functions and commands that a DIMM has by default: those that reach what the file gives it."""

from __future__ import annotations

import attrs

from nvdimmfs.formats.dimm_functions import (
    ACTIVATION_FUNCTIONS,
    HEALTH_FUNCTIONS,
    SECURITY_FUNCTIONS,
    UPDATE_FUNCTIONS,
    Hpe1Function,
    HyperVFunction,
    MicrosoftFunction,
)
from nvdimmfs.formats.ndctl import (
    DIMM_FAMILY_HPE1,
    DIMM_FAMILY_HYPERV,
    DIMM_FAMILY_INTEL,
    DIMM_FAMILY_MICROSOFT,
    LABEL_COMMANDS,
    DimmCommand,
    command_mask,
    in_order,
)
from nvdimmfs.machine_file.model import BusDescription, DimmDescription
from nvdimmfs.machine_file.values import TO_BE_CHOSEN
from nvdimmfs.machine_file.words import FirmwareActivation, SecurityState

#: The functions that access labels.
_LABELS = command_mask(LABEL_COMMANDS)

#: The functions that report health, by family.
_HEALTH = {
    DIMM_FAMILY_INTEL: command_mask(HEALTH_FUNCTIONS),
    DIMM_FAMILY_HPE1: command_mask(Hpe1Function),
    DIMM_FAMILY_MICROSOFT: command_mask(MicrosoftFunction),
    DIMM_FAMILY_HYPERV: command_mask(HyperVFunction),
}

#: The families whose DIMMs leave labels to methods of ACPI's where they report health.
_WITH_LABEL_METHODS = (DIMM_FAMILY_MICROSOFT, DIMM_FAMILY_HYPERV)

#: The commands of an Intel DIMM that are functions under the same number (acpi_nfit_register_dimms, Linux 6.1).
_HEALTH_COMMANDS = (DimmCommand.SMART, DimmCommand.SMART_THRESH)


def with_functions(bus: BusDescription, dimm: DimmDescription) -> DimmDescription:
    """A DIMM with its default functions and commands, if the file omits its functions."""
    if dimm.dsm_mask != TO_BE_CHOSEN:
        return dimm
    commands = dimm.commands
    if not dimm.label.size and commands == _DEFAULT_COMMANDS:
        commands = _without_labels(commands)
    if dimm.family == DIMM_FAMILY_INTEL and dimm.reports_health and dimm.commands == _DEFAULT_COMMANDS:
        commands = in_order((*commands, *_HEALTH_COMMANDS))
    return attrs.evolve(dimm, dsm_mask=_default_mask(bus, dimm), commands=commands)


def without_functions(dimm: DimmDescription) -> DimmDescription:
    """The DIMM as a file describes it that omits functions and commands."""
    return attrs.evolve(dimm, dsm_mask=TO_BE_CHOSEN, commands=_DEFAULT_COMMANDS)


def _without_labels(commands: tuple[DimmCommand, ...]) -> tuple[DimmCommand, ...]:
    return tuple(command for command in commands if command not in LABEL_COMMANDS)


def _default_mask(bus: BusDescription, dimm: DimmDescription) -> int:
    mask = _HEALTH.get(dimm.family, 0) if dimm.reports_health else 0
    if dimm.label.size and not (mask and dimm.family in _WITH_LABEL_METHODS):
        mask |= _LABELS
    if dimm.family != DIMM_FAMILY_INTEL:
        return mask
    if dimm.firmware.version >= 0:
        mask |= command_mask(UPDATE_FUNCTIONS)
        if bus.firmware_activation is not FirmwareActivation.NONE:
            mask |= command_mask(ACTIVATION_FUNCTIONS)
    if dimm.security is not SecurityState.NONE:
        mask |= command_mask(SECURITY_FUNCTIONS)
    return mask


_DEFAULT_COMMANDS = DimmDescription().commands
