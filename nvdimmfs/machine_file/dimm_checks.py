"""The checks of the DIMMs of a machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nvdimmfs.formats.label import LABEL_SIZES_BY_VERSION
from nvdimmfs.formats.ndctl import DIMM_FAMILY_INTEL
from nvdimmfs.machine_file.dimm_model import (
    LARGEST_LABEL_AREA,
    MINIMUM_LABEL_AREA,
    DimmDescription,
    FirmwareDescription,
    HealthDescription,
    LabelAreaDescription,
)
from nvdimmfs.machine_file.model import BusDescription
from nvdimmfs.machine_file.values import NO_TEMPERATURE, plain_size, shown
from nvdimmfs.machine_file.words import AlarmKind, SecurityState

#: A key path, and the error there.
Problem = tuple[str, str]

#: The value and the threshold of each alarm.
_ALARMS = {
    AlarmKind.SPARES: ("spares", "spares_threshold"),
    AlarmKind.TEMPERATURE: ("temperature", "temperature_threshold"),
    AlarmKind.CONTROLLER_TEMPERATURE: ("controller_temperature", "controller_temperature_threshold"),
}
_OMITTED = (-1, NO_TEMPERATURE)

#: The length of a structure of the NFIT has 16 bits; one of flush hint addresses has 16 bytes, and 8 for each address
#: (ACPI 6.5, 5.2.25.8).
_MOST_FLUSH_HINTS = ((1 << 16) - 1 - 16) // 8


def dimm_problems(bus: BusDescription, path: str) -> Iterator[Problem]:
    """Yield all errors of the DIMMs of a bus."""
    handles: dict[int, str] = {}
    names: dict[str, str] = {}
    for index, dimm in enumerate(bus.dimms):
        own = f"{path}.dimm[{index}]"
        first = handles.setdefault(dimm.handle, own)
        if first != own:
            yield f"{own}.handle", f"{dimm.handle:#x} is also the handle of {first}; handles must be unique on a bus"
        elif names.setdefault(dimm.name, own) != own:
            yield f"{own}.name", f'"{dimm.name}" is also the name of {names[dimm.name]}; names must be unique on a bus'
        yield from _dimm(dimm, own)
        if bus.is_test_platform:
            yield from _of_test_platform(dimm, own)


def _of_test_platform(dimm: DimmDescription, path: str) -> Iterator[Problem]:
    """The module nfit_test gives its DIMMs health and firmware of its own."""
    for key, omitted in (("health", HealthDescription()), ("firmware", FirmwareDescription())):
        if getattr(dimm, key) != omitted:
            yield f"{path}.{key}", f"nfit_test gives its DIMMs {key} of its own; omit it, or use another bus"


def _dimm(dimm: DimmDescription, path: str) -> Iterator[Problem]:
    if not dimm.name.isprintable():
        yield f"{path}.name", f"{shown(dimm.name)} has unprintable characters; remove them"
    if (dimm.manufacturing_location < 0) != (dimm.manufacturing_date < 0):
        yield (
            f"{path}.manufacturing_date",
            "the NFIT has both manufacturing_location and manufacturing_date, or neither; write both",
        )
    if dimm.flush_hints > _MOST_FLUSH_HINTS:
        yield f"{path}.flush_hints", f"{dimm.flush_hints} is too large; the maximum is {_MOST_FLUSH_HINTS}"
    if dimm.frozen and dimm.security is SecurityState.NONE:
        yield f"{path}.frozen", 'the DIMM has no security to freeze; write for example security = "disabled"'
    yield from _health(dimm, f"{path}.health")
    yield from _firmware(dimm, f"{path}.firmware")
    yield from _label(dimm.label, f"{path}.label")


def _health(dimm: DimmDescription, path: str) -> Iterator[Problem]:
    health = dimm.health
    if not dimm.reports_health:
        if health != HealthDescription():
            yield f"{path}.state", 'a DIMM without a state reports no health; write for example state = "ok"'
        return
    for alarm, (value, threshold) in _ALARMS.items():
        if alarm in health.alarms and getattr(health, threshold) in _OMITTED:
            yield f"{path}.{threshold}", f'the alarm "{alarm.value}" needs a threshold; write one, or omit the alarm'
        if alarm in health.alarms and getattr(health, value) in _OMITTED:
            yield f"{path}.{value}", f'the alarm "{alarm.value}" needs a value; write one, or omit the alarm'


def _firmware(dimm: DimmDescription, path: str) -> Iterator[Problem]:
    firmware = dimm.firmware
    if firmware == FirmwareDescription():
        return
    if firmware.version < 0:
        yield f"{path}.version", "the version that runs is missing; write for example version = 0x1"
    if dimm.family != DIMM_FAMILY_INTEL:
        yield path, f"no functions of family {dimm.family} report firmware; use the family {DIMM_FAMILY_INTEL}"


def _label(label: LabelAreaDescription, path: str) -> Iterator[Problem]:
    contents = [name for name in ("initialised", "text", "hex", "file") if getattr(label, name)]
    if len(contents) > 1:
        yield path, f"{' and '.join(contents)} are mutually exclusive; keep one"
        return
    if label.size and label.size < MINIMUM_LABEL_AREA:
        right = f"write 0 for none, or at least {plain_size(MINIMUM_LABEL_AREA)}"
        yield f"{path}.size", f"{label.size} is too small for two index blocks and labels; {right}"
    elif label.size > LARGEST_LABEL_AREA:
        yield f"{path}.size", f"{plain_size(label.size)} is too large; the maximum is {LARGEST_LABEL_AREA}"
    elif contents == ["initialised"]:
        yield from _initialised(label, path)
    elif contents:
        yield from _content(label, f"{path}.{contents[0]}")


def _initialised(label: LabelAreaDescription, path: str) -> Iterator[Problem]:
    if label.initialised not in LABEL_SIZES_BY_VERSION:
        yield f"{path}.initialised", f'"{label.initialised}" is not a label version; the versions are "1.1" and "1.2"'
    elif not label.size:
        yield f"{path}.initialised", "the DIMM has no label area to initialise; give it a size"


def _content(label: LabelAreaDescription, path: str) -> Iterator[Problem]:
    if label.file and not _is_file(label.file):
        yield path, f"{shown(label.file)} is not a file; the path is relative to the machine file"
        return
    try:
        size = Path(label.file).stat().st_size if label.file else len(label.first_bytes())
    except ValueError:
        yield path, 'not bytes in hexadecimal; write for example "4e 41 4d 45"'
        return
    if size > label.size:
        yield path, f"its {size} bytes do not fit into a label area of {label.size}; make the area larger"


def _is_file(path: str) -> bool:
    """Whether the path is that of a file; false when that cannot be determined, such as for a name too long."""
    try:
        return Path(path).is_file()
    except OSError:
        return False
