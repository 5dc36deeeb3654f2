"""Strategies for Hypothesis: machines, writes that make sense at the moment, and label areas.

Hypothesis is an optional dependency: `pip install nvdimmfs[hypothesis]`.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from hypothesis import strategies as st

from nvdimmfs.formats.info_block import NULL_UUID
from nvdimmfs.formats.label import (
    LABEL_SIZE_1_1,
    LABEL_SIZE_1_2,
    PMEM_RANGE_GUID,
    IndexBlock,
    LabelAreaLayout,
    NamespaceLabel,
)
from nvdimmfs.kernels.kernel import EMULATED_KERNELS
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.dimm_model import MINIMUM_LABEL_AREA
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.machine_file.files import machines as built_in_machines
from nvdimmfs.machine_file.model import (
    BadBlocks,
    BusDescription,
    DimmDescription,
    LabelAreaDescription,
    MachineDescription,
    MappingDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.type_checks import require
from nvdimmfs.machine_file.words import DimmFlag, RangeKind
from nvdimmfs.machine_file.writer import machine_text
from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.nd.label import LabelStorage, init_label_area
from nvdimmfs.testing.engine import Engine
from nvdimmfs.testing.used_by_path import UsedByPath
from nvdimmfs.testing.values import MEMMAPS, SENSIBLE, UUIDS, fitting_driver
from nvdimmfs.units import GIB, KIB, MIB, PAGE_SIZE

__all__ = ["Write", "label_areas", "machine_files", "machines", "writes"]

_LEGACY_RAM = (4 * GIB, 8 * GIB, 16 * GIB)

#: The sizes of ranges, bytes for each DIMM; none is smaller than a page.
_SHARES = (PAGE_SIZE, 2 * PAGE_SIZE, 16 * MIB, 48 * MIB, 64 * MIB, 512 * MIB, GIB)

_LABEL_AREAS = (
    LabelAreaDescription(),
    LabelAreaDescription(0),
    LabelAreaDescription(KIB),
    LabelAreaDescription(initialised="1.1"),
    LabelAreaDescription(initialised="1.2"),
    LabelAreaDescription(text="x"),
)

#: Small, as Hypothesis prints what it found; the label areas of QEMU have 128 KiB.
_CONFIG_SIZE = 4 * KIB


# Machines


def machines(*, built_in: bool = True) -> st.SearchStrategy[MachineDescription]:
    """Machines that boot, of all platforms: legacy ranges on any kernel, an NFIT, the test platform.

    They are completed, so that `Engine` takes them.  They shrink towards one legacy range.

    Args:
        built_in: whether the machines that come with nvdimmfs are among them.
    """
    kinds = [_legacy_machines(), _nfit_machines()]
    if built_in:
        kinds.append(st.sampled_from(list(built_in_machines())).map(load_machine))
    return st.one_of(kinds)


def machine_files(*, built_in: bool = True) -> st.SearchStrategy[str]:
    """The same machines as the text of machine files."""
    return machines(built_in=built_in).map(machine_text)


def _legacy_machines() -> st.SearchStrategy[MachineDescription]:
    return st.builds(
        MachineDescription,
        name=st.just("legacy"),
        memmap=st.sampled_from(MEMMAPS),
        ram=st.sampled_from(_LEGACY_RAM),
        kernel=st.sampled_from(EMULATED_KERNELS),
    ).map(completed)


@st.composite
def _nfit_machines(draw: st.DrawFn) -> MachineDescription:
    """Machines with one bus of up to six DIMMs, and ranges over some of them."""
    dimms = tuple(_dimm(draw, number) for number in range(draw(st.integers(1, 6))))
    ranges = [_range(draw, dimms) for _ in range(draw(st.integers(0, 3)))]
    provider = draw(st.sampled_from(("ACPI.NFIT", "nfit_test.0")))
    if provider == "nfit_test.0":
        ranges += [RangeDescription(size=PAGE_SIZE, kind=RangeKind.VOLATILE_CD)] * draw(st.integers(0, 1))
    bus = BusDescription(provider=provider, dimms=dimms, ranges=tuple(ranges))
    ram = draw(st.integers(128, 1 << 20)) * MIB
    return completed(MachineDescription(name="nfit", ram=ram, buses=(bus,)))


def _dimm(draw: st.DrawFn, number: int) -> DimmDescription:
    return DimmDescription(
        handle=number * 0x11,
        size=draw(st.integers(1, 1 << 10)) * 4 * GIB,
        flags=tuple(draw(st.lists(st.sampled_from(DimmFlag), max_size=2, unique=True))),
        label=draw(st.sampled_from(_LABEL_AREAS)),
        serial=number,
    )


def _range(draw: st.DrawFn, dimms: Sequence[DimmDescription]) -> RangeDescription:
    members = draw(st.lists(st.sampled_from(dimms), min_size=1, unique=True))
    share = draw(st.sampled_from(_SHARES))
    mappings = tuple(MappingDescription(f"{dimm.handle:#x}", size=share) for dimm in members)
    badblocks = (BadBlocks(sector=8, count=3),) if share > PAGE_SIZE and draw(st.booleans()) else ()
    return RangeDescription(mappings=mappings, badblocks=badblocks)


# Writes


class Write(NamedTuple):
    """A write to an attribute: `engine.write(*write)` carries it out.

    Attributes:
        path: the attribute's path, below the machine's root.
        value: the text to write.
    """

    path: str
    value: str


def writes(engine: Engine) -> st.SearchStrategy[Write]:
    """Writes that make sense for what the machine has at the moment.

    A write binds a device to a driver that fits, unbinds one, or gives an attribute of a device of the bus nd or dax
    one of its values.  The machine may refuse it all the same.  Drawing one does not change the machine, but lets time
    pass where the clock moves by steps; call this function anew for each write.  A machine whose buses have no device
    has no such write.  TypeError for what is no machine.
    """
    require("engine", engine, (UsedByPath,), "an Engine or a Machine")
    return _writes(engine)


@st.composite
def _writes(draw: st.DrawFn, engine: Engine) -> Write:
    """List what makes sense when the write is drawn, not when the strategy is made."""
    kinds = [kind for kind in ([*_bindings(engine)], [*_settings(engine)]) if kind]
    return draw(st.one_of([st.sampled_from(kind) for kind in kinds]))


def _bindings(engine: Engine) -> Iterator[Write]:
    """Bind each device that has no driver to the one that fits, and unbind each that has one."""
    for bus, device in _devices(engine):
        folder = f"sys/bus/{bus}/devices/{device}"
        if engine.exists(f"{folder}/driver"):
            yield Write(f"{folder}/driver/unbind", device)
        elif bus == "dax":
            yield from (
                Write(f"sys/bus/dax/drivers/{driver}/bind", device) for driver in engine.ls("sys/bus/dax/drivers")
            )
        elif engine.exists(f"sys/bus/nd/drivers/{fitting_driver(device)}/bind"):
            yield Write(f"sys/bus/nd/drivers/{fitting_driver(device)}/bind", device)


def _settings(engine: Engine) -> Iterator[Write]:
    """Give each attribute that can be written each of its values."""
    for bus, device in _devices(engine):
        folder = f"sys/bus/{bus}/devices/{device}"
        for name in engine.ls(folder):
            mode = engine.lstat(f"{folder}/{name}").st_mode
            if stat.S_ISREG(mode) and mode & 0o222 and name != "uevent":
                yield from (Write(f"{folder}/{name}", value) for value in _values(engine, folder, device, name))


def _devices(engine: Engine) -> Iterator[tuple[str, str]]:
    for bus in ("nd", "dax"):
        with contextlib.suppress(FileNotFoundError):  # the kernel has no such bus, or its module is not loaded
            yield from ((bus, device) for device in engine.ls(f"sys/bus/{bus}/devices"))


def _values(engine: Engine, folder: str, device: str, attribute: str) -> Sequence[str]:
    if attribute == "uuid":
        return UUIDS
    if attribute == "namespace":
        region = device.strip("abcdefghijklmnopqrstuvwxyz").partition(".")[0]
        return ["", *(name for _, name in _devices(engine) if name.startswith(f"namespace{region}."))]
    if attribute == "size":
        unit = _unit(engine, folder)
        return [str(unit * count) for count in (0, 1, 2, 4)]
    return SENSIBLE.get(attribute, ())


def _unit(engine: Engine, folder: str) -> int:
    """What sizes are multiples of: the alignment of the device, or of its region."""
    for place in (f"{folder}/align", f"{folder}/../align"):
        with contextlib.suppress(OSError):
            return int(engine.read(place), 0)
    return 16 * MIB


# Label areas


def label_areas(
    *, damaged: bool = False, sizes: Sequence[int] = (_CONFIG_SIZE,), most: int = 8
) -> st.SearchStrategy[bytes]:
    """Bytes of label areas of DIMMs, of version 1.1 or 1.2, with labels of namespaces of 1 MiB.

    Args:
        damaged: change some bytes; the index blocks may have the right checksums all the same, and a uuid may be that
            of several labels.
        sizes: sizes of the area, bytes.
        most: labels at most.

    Raises:
        ValueError: there is no size, or one that is too small for two labels of version 1.2.
    """
    if not sizes or min(sizes) < MINIMUM_LABEL_AREA:
        raise ValueError(f"sizes must have numbers from {MINIMUM_LABEL_AREA}, not {sizes!r}")
    if most < 0:
        raise ValueError(f"most must be 0 or more, not {most}")
    return _label_areas(damaged, sizes, most)


@st.composite
def _label_areas(draw: st.DrawFn, damaged: bool, sizes: Sequence[int], most: int) -> bytes:
    media = MemoryMedia(draw(st.sampled_from(sizes)))
    init_label_area(media, draw(st.sampled_from((LABEL_SIZE_1_1, LABEL_SIZE_1_2))))
    area = LabelStorage(media)
    for number in range(draw(st.integers(0, min(area.available_slots, most)))):
        area.write(a_label(number % 3 if damaged else number + 1))
    content = bytearray(media.read(0, media.size))
    if damaged:
        _damage(draw, content, area.layout)
    return bytes(content)


def a_label(number: int, rawsize: int = MIB, name: bytes = b"") -> NamespaceLabel:
    """The label of a namespace on one DIMM, which no other number's label overlaps."""
    return NamespaceLabel(
        uuid=UUID(int=number),
        name=name,
        nlabel=1,
        position=0,
        isetcookie=0x1234,
        dpa=number << 30,
        rawsize=rawsize,
        type_guid=PMEM_RANGE_GUID,
        abstraction_guid=NULL_UUID,
    )


def _damage(draw: st.DrawFn, content: bytearray, layout: LabelAreaLayout) -> None:
    size = len(content)
    pieces = st.tuples(st.integers(0, size - 1), st.binary(min_size=1, max_size=9))
    for offset, piece in draw(st.lists(pieces, max_size=9)):
        content[offset : offset + len(piece)] = piece[: size - offset]
    if draw(st.booleans()):
        for start in layout.index_offsets:
            block = IndexBlock.from_bytes(bytes(content[start : start + layout.index_size]))
            content[start : start + layout.index_size] = block.to_bytes(layout.index_size)
