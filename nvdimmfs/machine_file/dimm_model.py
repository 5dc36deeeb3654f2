"""The classes of a machine file that describe a DIMM; `model` has those of all else, and explains the terms."""

from __future__ import annotations

from pathlib import Path

import attrs

from nvdimmfs.formats.ndctl import DIMM_FAMILY_INTEL, LABEL_COMMANDS, DimmCommand, command_mask
from nvdimmfs.machine_file.values import (
    NO_TEMPERATURE,
    TO_BE_CHOSEN,
    Count,
    Hexadecimal16,
    Hexadecimal32,
    Hexadecimal64,
    MaybeHexadecimal8,
    MaybeHexadecimal16,
    MaybeHexadecimal64,
    MaybePercent,
    Number,
    Size,
    Temperature,
    lists_as_tuples,
)
from nvdimmfs.machine_file.words import AlarmKind, DimmFlag, HealthState, SecurityState, ShutdownState
from nvdimmfs.units import KIB

#: Default size of a label area, and the smallest size for two index blocks and two labels, in bytes.
DEFAULT_LABEL_AREA = 128 * KIB
MINIMUM_LABEL_AREA = 1 * KIB

#: Largest size of a label area, in bytes: the DIMM reports it in 32 bits (GET_CONFIG_SIZE).
LARGEST_LABEL_AREA = (1 << 32) - 1


@attrs.frozen
class LabelAreaDescription:
    """The label area of a DIMM, and its content when the machine is new.

    At most one of `initialised`, `text`, `hex` and `file` may be given.  Without any of them the area is all zeros, as
    are the bytes after `text`, `hex` and `file`.

    Attributes:
        size: size in bytes; 0 for a DIMM without a label area.
        initialised: version of the empty index blocks, "1.1" or "1.2", as `ndctl init-labels` writes them.
        text: text at the beginning of the area.
        hex: bytes at the beginning of the area, two hexadecimal digits each; spaces between them are ignored.
        file: a file with the area's bytes, relative to the machine file.
    """

    size: Size = DEFAULT_LABEL_AREA
    initialised: str = ""
    text: str = ""
    hex: str = ""
    file: str = ""

    def first_bytes(self) -> bytes:
        """Return the bytes of `text`, `hex` or `file`; empty if none of these is given.  OSError."""
        if self.file:
            return Path(self.file).read_bytes()
        return bytes.fromhex(self.hex) if self.hex else self.text.encode()


@attrs.frozen(field_transformer=lists_as_tuples)
class HealthDescription:
    """The health that a DIMM reports through the functions of its command family.

    Values that the family has no field for are not reported: Microsoft's has neither spares nor shutdown state,
    Hyper-V's has the state alone, HPE's second one nothing that ndctl reads.

    Attributes:
        state: its health; none if it reports no health at all.
        temperature: of the media, degrees Celsius; omit it if it is not measured.
        controller_temperature: of the controller, or of the energy source; omit it if it is not measured.
        spares: spare capacity left, percent; -1 if it is not reported.
        life_used: used part of its life, percent; -1 if it is not reported.
        last_shutdown: whether the last shutdown lost data.  With dirty, an Intel DIMM has flush_fail in nfit/flags.
        alarms: the values of which it raises an alarm.
        temperature_threshold: the temperature of the media that is too high.
        controller_temperature_threshold: the temperature of the controller that is too high.
        spares_threshold: the spare capacity that is too low, percent.
    """

    state: HealthState = HealthState.NONE
    temperature: Temperature = NO_TEMPERATURE
    controller_temperature: Temperature = NO_TEMPERATURE
    spares: MaybePercent = -1
    life_used: MaybePercent = -1
    last_shutdown: ShutdownState = ShutdownState.NONE
    alarms: tuple[AlarmKind, ...] = ()
    temperature_threshold: Temperature = NO_TEMPERATURE
    controller_temperature_threshold: Temperature = NO_TEMPERATURE
    spares_threshold: MaybePercent = -1


@attrs.frozen
class FirmwareDescription:
    """The firmware of an Intel DIMM.

    Attributes:
        version: the version that runs; -1 if the DIMM does not report it, and its firmware cannot be updated.
        next_version: the version of the update that is staged; 0 for none.
        update_version: the version of the next update; by default the largest of the others plus 1.
    """

    version: MaybeHexadecimal64 = -1
    next_version: Hexadecimal64 = 0
    update_version: Hexadecimal64 = 0


@attrs.frozen(field_transformer=lists_as_tuples)
class DimmDescription:
    """A DIMM.  The kernel calls the DIMMs of a bus nmemN in the order of their handles.

    Attributes:
        name: its name in the ranges of this file; by default its handle, for example "0x1".
        handle: the NFIT device handle, unique on its bus; by default that of the previous DIMM plus 1, starting at 1.
        size: bytes of the DIMM, mapped or not; by default up to the end of the last range on it.
        phys_id: the SMBIOS handle.
        vendor: vendor ID of the module; 0x8680 is Intel.
        device: device ID of the module.
        rev_id: revision of the module.
        subsystem_vendor: vendor ID of its controller.
        subsystem_device: device ID of its controller.
        subsystem_rev_id: revision of its controller.
        serial: serial number, a part of the interleave-set cookies.  By default the one that QEMU assigns.
        manufacturing_location: place of manufacture; -1, together with the date, if the NFIT does not have it.
        manufacturing_date: date of manufacture, week and year in packed decimal as in the SPD.
        format: region format interface code; 0x0301 is byte addressable, energy backed.
        control_region: whether the NFIT has its control region.  Without one, the DIMM has no identification, and no
            range can use it.
        family: command family: 0 Intel, 1 and 2 HPE, 3 Microsoft, 4 Hyper-V; -1 if the kernel does not know it.
        dsm_mask: functions of that family that the kernel allows, one bit each.  By default those that access the
            label area, if there is one, and those for the health, firmware and security that the file gives the DIMM.
        commands: commands that the DIMM supports.  By default those that access the label area, if there is one, and
            cmd_call; an Intel DIMM with health also has smart and smart_thresh.
        flags: state flags that the platform reports; with not_armed, regions on the DIMM are read-only.
        flush_hints: number of flush hint addresses; regions over a DIMM with at least one support deep flush.
        label: its label area.
        security: its security state.
        frozen: whether its security is frozen until the next reset.
        locked: whether it refuses reads of its labels, so that it cannot be enabled (the word `lock` in `flags`).
        dirty_shutdown: number of unclean shutdowns; -1 if the DIMM does not count them, and the file does not exist.
        health: the health that it reports.
        firmware: its firmware.
    """

    name: str = ""
    handle: Hexadecimal32 = TO_BE_CHOSEN
    size: Size = TO_BE_CHOSEN
    phys_id: Hexadecimal16 = 0
    vendor: Hexadecimal16 = 0x8680
    device: Hexadecimal16 = 0x0100
    rev_id: Hexadecimal16 = 0x0100
    subsystem_vendor: Hexadecimal16 = 0
    subsystem_device: Hexadecimal16 = 0
    subsystem_rev_id: Hexadecimal16 = 0
    serial: Hexadecimal32 = TO_BE_CHOSEN
    manufacturing_location: MaybeHexadecimal8 = -1
    manufacturing_date: MaybeHexadecimal16 = -1
    format: Hexadecimal16 = 0x0301
    control_region: bool = True
    family: Number = 0
    dsm_mask: MaybeHexadecimal64 = TO_BE_CHOSEN
    commands: tuple[DimmCommand, ...] = (*LABEL_COMMANDS, DimmCommand.CMD_CALL)
    flags: tuple[DimmFlag, ...] = ()
    flush_hints: Count = 0
    label: LabelAreaDescription = LabelAreaDescription()
    security: SecurityState = SecurityState.NONE
    frozen: bool = False
    locked: bool = False
    dirty_shutdown: Number = -1
    health: HealthDescription = HealthDescription()
    firmware: FirmwareDescription = FirmwareDescription()

    @property
    def command_mask(self) -> int:
        """The commands as the kernel stores them: bit ND_CMD_... for each."""
        return command_mask(self.commands)

    @property
    def reports_health(self) -> bool:
        """Whether its firmware reports health."""
        return self.health.state is not HealthState.NONE

    @property
    def has_security_functions(self) -> bool:
        """Whether its security is that of its firmware, so that it can change."""
        if self.security in (SecurityState.NONE, SecurityState.OVERWRITE):
            return False
        from nvdimmfs.formats.dimm_functions import IntelFunction  # which few DIMMs have

        return self._allows_of_intel(IntelFunction.GET_SECURITY_STATE)

    @property
    def has_activation_functions(self) -> bool:
        """Whether the kernel allows the functions by which its firmware is activated."""
        from nvdimmfs.formats.dimm_functions import ACTIVATION_FUNCTIONS

        return all(map(self._allows_of_intel, ACTIVATION_FUNCTIONS))

    @property
    def has_firmware(self) -> bool:
        """Whether it has functions beside those that access labels."""
        return self.reports_health or self.firmware.version >= 0 or self.has_security_functions

    @property
    def flushed(self) -> bool:
        """Whether its last shutdown saved all data, as far as the kernel learns that from its health."""
        if self.health.last_shutdown is not ShutdownState.DIRTY:
            return True
        from nvdimmfs.formats.dimm_functions import IntelFunction

        return not self._allows_of_intel(IntelFunction.SMART)

    def allows(self, function: int) -> bool:
        """Whether the kernel allows a function of its family."""
        return bool(self.dsm_mask >> function & 1)

    def _allows_of_intel(self, function: int) -> bool:
        """Whether the kernel allows a function of Intel's family."""
        return self.family == DIMM_FAMILY_INTEL and self.allows(function)

    @property
    def has_manufacturing(self) -> bool:
        """Whether the NFIT has place and date of manufacture, which are then a part of nfit/id."""
        return self.manufacturing_date >= 0

    @property
    def identifier(self) -> str:
        """The content of nmemN/nfit/id."""
        if not self.has_manufacturing:
            return f"{self.vendor:04x}-{self.serial:08x}"
        manufactured = f"{self.manufacturing_location:02x}-{self.manufacturing_date:04x}"
        return f"{self.vendor:04x}-{manufactured}-{self.serial:08x}"


for _class in (LabelAreaDescription, HealthDescription, FirmwareDescription, DimmDescription):
    attrs.resolve_types(_class, globals(), include_extras=True)
