"""Machines over a folder, stores that write to it, and a process that ends between any two of its system calls."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from ioctl_stories import UserMemory
from poke import ND, Hands

from nvdimmfs.formats.ndctl import DimmCommand, LabelWrite
from nvdimmfs.kernfs import BinaryFile, Directory
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import parse_machine
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.media.base import Media
from nvdimmfs.media.journal import Journal, JournaledMedia
from nvdimmfs.nd.ioctl import nd_ioctl
from nvdimmfs.units import PAGE_SIZE

#: The system calls that change what a host stores.
CALLS = ("pwrite", "fdatasync", "fsync", "ftruncate", "posix_fallocate", "unlink")

#: Bytes of a disk that a comparison covers, from its start.
COMPARED = 64 * 1024


class KilledError(BaseException):
    """The process has ended; not an Exception, so that nothing handles it."""


@attrs.define
class Host:
    """The host's answers to system calls that change what it stores.

    Attributes:
        answer: given the number of the call from now on, from 1, and its name: raises to refuse it.
        torn: the number of each call that writes to more than one page of a file.
        count: the number of calls so far.
        tears: whether a pwrite that is refused has written some of its pages.  Linux copies page after page, and a
            signal that ends the process can stop it in between (generic_perform_write, mm/filemap.c, Linux 6.1).
    """

    answer: Callable[[int, str], None]
    torn: set[int] = attrs.field(factory=set)
    count: int = 0
    tears: bool = False

    @contextlib.contextmanager
    def patched(self) -> Iterator[Host]:
        """Ask `answer` before each call of this process."""
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._asking(name, getattr(os, name)))
            yield self

    def _asking(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def asking(*arguments: Any, **keywords: Any) -> Any:
            self.count += 1
            pages = first_pages(*arguments[1:]) if name == "pwrite" else b""
            if pages:
                self.torn.add(self.count)
            try:
                self.answer(self.count, name)
            except BaseException:
                if pages and self.tears:
                    call(arguments[0], pages, arguments[2])
                raise
            return call(*arguments, **keywords)

        return asking


def first_pages(data: bytes | memoryview, offset: int) -> memoryview:
    """About half of a write, up to the end of a page; empty if it lies in one page."""
    end = (offset + -(-len(data) // 2)) // PAGE_SIZE * PAGE_SIZE
    if end <= offset:
        end = -(-(offset + 1) // PAGE_SIZE) * PAGE_SIZE
    return memoryview(data)[: end - offset] if end < offset + len(data) else memoryview(b"")


def counting() -> Host:
    """A host that refuses nothing."""
    return Host(lambda _count, _name: None)


def killed_at(number: int, *, tears: bool = False) -> Host:
    """A host on which the process ends at its `number`th call; `tears`: in the middle of it, if it writes."""

    def answer(count: int, _name: str) -> None:
        if count >= number:
            raise KilledError

    return Host(answer, tears=tears)


def refusing(numbers: Callable[[int], bool], error: int) -> Host:
    """A host that refuses some of the calls."""

    def answer(count: int, _name: str) -> None:
        if numbers(count):
            raise OSError(error, os.strerror(error))

    return Host(answer)


def interleaved(dimms: int, version: str, bad_sectors: str = "") -> MachineDescription:
    """A machine with an interleave set over so many DIMMs of 96 MiB, and with bad sectors that it can clear."""
    commands = ["ars_cap", "ars_start", "ars_status", "clear_error", "cmd_call"] if bad_sectors else ["cmd_call"]
    names = [f"dimm{number}" for number in range(dimms)]
    described = [
        f'[[bus.dimm]]\nname = "{name}"\nsize = "96M"\nlabel = {{ initialised = "{version}" }}' for name in names
    ]
    bus = f"[[bus]]\ncommands = {commands}"
    range_ = f"[[bus.range]]\ndimms = {names}\nbadblocks = [{bad_sectors}]"
    return parse_machine("\n".join([bus, *described, range_]), "machine")


def legacy() -> MachineDescription:
    """A machine with a range that has no labels."""
    return MachineDescription(memmap="64M!4G", ram=4 << 30)


def booted(description: MachineDescription, folder: Path) -> Hands:
    """Boot the machine over a folder."""
    return Hands.described(description, folder)


def abandon(machine: Machine) -> None:
    """Close the machine's files as the kernel does at the end of a process, without another write."""
    abandon_storage(machine.storage)


def abandon_storage(storage: Any) -> None:
    """As `abandon`, for a machine that may still boot.  A second call does nothing."""
    if storage._lock < 0:
        return
    media: list[Media] = [*storage._media.values(), *storage._label_areas.values()]
    for medium in media:
        assert isinstance(medium, JournaledMedia)
        medium.file.close()
    if storage.journal._file >= 0:
        os.close(storage.journal._file)
    os.close(storage._lock)
    storage._lock = -1


def copied(folder: Path, to: Path) -> Path:
    """A copy of a folder whose sparse files stay sparse."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for path in folder.iterdir():
        with (to / path.name).open("wb") as copy:
            copy.truncate(path.stat().st_size)
            for offset, data in _stored(path):
                os.pwrite(copy.fileno(), data, offset)
    return to


def _stored(path: Path) -> Iterator[tuple[int, bytes]]:
    """The parts of a file that the host stores."""
    with path.open("rb") as file:
        position, end = 0, path.stat().st_size
        while position < end:
            try:
                position = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                return
            stop = os.lseek(file.fileno(), position, os.SEEK_HOLE)
            yield position, os.pread(file.fileno(), stop - position, position)
            position = stop


def content(folder: Path) -> dict[tuple[str, int], bytes]:
    """The pages of all media in a folder that are not zero, once the journal is completed."""
    Journal(folder)
    return {
        (path.name, offset + start): page
        for path in folder.glob("*.img")
        for offset, data in _stored(path)
        for start in range(0, len(data), PAGE_SIZE)
        if any(page := data[start : start + PAGE_SIZE])
    }


def seen(hands: Hands) -> dict[str, object]:
    """What user space sees: the tree, and the first bytes of the disks."""
    found = hands.snapshot()
    dev = hands.machine.tree.root.find("dev")
    assert isinstance(dev, Directory)
    for node in dev:
        if isinstance(node, BinaryFile):
            found[f"bytes of {node.name}"] = node.data.read(0, min(COMPARED, node.size))
    return found


def seen_after_boot(description: MachineDescription, folder: Path) -> dict[str, object]:
    """What user space sees of a machine that is booted over the folder."""
    hands = booted(description, folder)
    try:
        return seen(hands)
    finally:
        hands.machine.close()


#: One act of user space.
Act = Callable[[Hands], None]


def region(hands: Hands, name: str) -> str:
    """An attribute of the region."""
    return hands.read(f"{hands.device('region0')}/{name}").strip()


def write(path: Callable[[Hands], str] | str, text: str) -> Act:
    """A write to an attribute of a device."""

    def act(hands: Hands) -> None:
        device, _, name = (path if isinstance(path, str) else path(hands)).rpartition("/")
        hands.write(f"{hands.device(device)}/{name}", text)

    return act


def resize(name: str, units: int) -> Act:
    """Write a size, in units of the region's alignment that are at least 16 MiB."""

    def act(hands: Hands) -> None:
        align = int(region(hands, "align"), 0)
        unit = -(-(16 << 20) // align) * align
        hands.write(f"{hands.device(name)}/size", str(units * unit))

    return act


def idle(name: str) -> Act:
    """Unbind a namespace, so that its labels can be written."""
    return lambda hands: hands.unbind(name)


def create(number: int, units: int = 2) -> list[Act]:
    """The acts that create namespace0.`number`, which is the seed."""
    name = f"namespace0.{number}"
    return [write(f"{name}/uuid", f"00000000-0000-0000-0000-{number:012}"), resize(name, units)]


def personality(kind: str, namespace: str, number: int, **settings: object) -> list[Act]:
    """The acts that make a personality of a namespace; the last one writes to media."""

    def seed(name: str) -> Callable[[Hands], str]:
        return lambda hands: f"{region(hands, f'{kind}_seed')}/{name}"

    values = settings | {"uuid": f"11111111-0000-0000-0000-{number:012}", "namespace": namespace}
    return [
        lambda hands: hands.unbind(namespace),
        *(write(seed(name), str(value)) for name, value in values.items()),
        lambda hands: hands.bind(region(hands, f"{kind}_seed")),
    ]


def disk_write(disk: str, offset: int, data: bytes) -> Act:
    """A write to a disk, and no fsync(2)."""

    def act(hands: Hands) -> None:
        node = hands.machine.tree.root.find(f"dev/{disk}")
        assert isinstance(node, BinaryFile)
        node.data.write(offset, data)

    return act


def unbind_region(hands: Hands) -> None:
    """Let go of the DIMMs' labels."""
    hands.write(f"{ND}/drivers/nd_region/unbind", "region0")


def label_ioctl(dimm: int, offset: int, data: bytes) -> Act:
    """SET_CONFIG_DATA on a DIMM that no region uses (ND_IOCTL_SET_CONFIG_DATA, include/uapi/linux/ndctl.h)."""

    def act(hands: Hands) -> None:
        nd_bus = hands.machine.nd_bus
        assert nd_bus is not None
        device = nd_bus.members[f"nmem{dimm}"]
        argument = bytearray(LabelWrite(offset, len(data)).to_bytes() + data + struct.pack("<I", 0))
        UserMemory(argument).run(nd_ioctl(device, 0xC0004E00 | DimmCommand.SET_DATA, True))

    return act
