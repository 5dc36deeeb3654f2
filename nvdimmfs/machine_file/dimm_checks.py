"""What the DIMMs of a machine must be like to make sense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nvdimmfs.formats.label import LABEL_SIZES_BY_VERSION
from nvdimmfs.machine_file.model import (
    LARGEST_LABEL_AREA,
    MINIMUM_LABEL_AREA,
    BusDescription,
    DimmDescription,
    LabelArea,
)
from nvdimmfs.machine_file.values import plain_size, shown
from nvdimmfs.machine_file.words import Security

#: A key path, and what is wrong there.
Problem = tuple[str, str]


def dimm_problems(bus: BusDescription, path: str) -> Iterator[Problem]:
    """Everything that is wrong with the DIMMs of a bus."""
    handles: dict[int, str] = {}
    names: dict[str, str] = {}
    for index, dimm in enumerate(bus.dimms):
        own = f"{path}.dimm[{index}]"
        first = handles.setdefault(dimm.handle, own)
        if first != own:
            yield f"{own}.handle", f"{dimm.handle:#x} is that of {first}, too; a handle names one DIMM of a bus"
        elif names.setdefault(dimm.name, own) != own:
            yield f"{own}.name", f'"{dimm.name}" is that of {names[dimm.name]}, too; ranges could not tell them apart'
        yield from _dimm(dimm, own)


def _dimm(dimm: DimmDescription, path: str) -> Iterator[Problem]:
    if not dimm.name.isprintable():
        yield f"{path}.name", f"{shown(dimm.name)} has characters that cannot be printed; leave them out"
    if (dimm.manufacturing_location < 0) != (dimm.manufacturing_date < 0):
        yield (
            f"{path}.manufacturing_date",
            "the NFIT has both manufacturing_location and manufacturing_date, or neither; write both",
        )
    if dimm.frozen and dimm.security is Security.NONE:
        yield f"{path}.frozen", 'there is no security that could be frozen; write security = "disabled"'
    yield from _label(dimm.label, f"{path}.label")


def _label(label: LabelArea, path: str) -> Iterator[Problem]:
    contents = [name for name in ("initialised", "text", "hex", "file") if getattr(label, name)]
    if len(contents) > 1:
        yield path, f"{' and '.join(contents)} exclude each other; keep one"
        return
    if label.size and label.size < MINIMUM_LABEL_AREA:
        right = f"write 0 for none, or at least {plain_size(MINIMUM_LABEL_AREA)}"
        yield f"{path}.size", f"{label.size} bytes do not hold two index blocks and labels; {right}"
    elif label.size > LARGEST_LABEL_AREA:
        yield f"{path}.size", f"{plain_size(label.size)} is too large; the most is {LARGEST_LABEL_AREA}"
    elif contents == ["initialised"]:
        yield from _initialised(label, path)
    elif contents:
        yield from _content(label, f"{path}.{contents[0]}")


def _initialised(label: LabelArea, path: str) -> Iterator[Problem]:
    if label.initialised not in LABEL_SIZES_BY_VERSION:
        yield f"{path}.initialised", f'"{label.initialised}" is not a version of labels; there are "1.1" and "1.2"'
    elif not label.size:
        yield f"{path}.initialised", "there is no label area to initialise; give it a size"


def _content(label: LabelArea, path: str) -> Iterator[Problem]:
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
    """Whether it is; not so when nobody can know, such as of a name that is too long."""
    try:
        return Path(path).is_file()
    except OSError:
        return False
