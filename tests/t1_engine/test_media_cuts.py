"""A process that ends at any system call: what each store writes to a folder of media is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest
from media_cuts import (
    Act,
    KilledError,
    abandon,
    abandon_storage,
    booted,
    content,
    copied,
    counting,
    create,
    disk_write,
    idle,
    interleaved,
    killed_at,
    label_ioctl,
    legacy,
    personality,
    resize,
    unbind_region,
    write,
)
from poke import DEBUG

from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.machine_file.model import MachineDescription, PersonalityDescription
from nvdimmfs.machine_file.words import PersonalityKind
from nvdimmfs.media import journal
from nvdimmfs.platforms.storage import FolderStorage


@attrs.frozen
class Store:
    """Acts of user space on a machine that has just booted; the last one, at least, writes to media."""

    name: str
    acts: Sequence[Act]


NS = "namespace0.0"
OTHER = "namespace0.1"

#: The life of a machine with labels, with a boot before each line.
WITH_LABELS = (
    Store("create", create(0)),
    Store("uuid", [idle(NS), write(f"{NS}/uuid", "22222222-0000-0000-0000-000000000000")]),
    Store("alt_name", [idle(NS), write(f"{NS}/alt_name", "a name\n")]),
    Store("grow", [idle(NS), resize(NS, 3)]),
    Store("shrink", [idle(NS), resize(NS, 2)]),
    Store("sector_size", [idle(NS), write(f"{NS}/sector_size", "4096")]),
    Store("holder_class", [idle(NS), write(f"{NS}/holder_class", "btt"), write(f"{NS}/holder_class", "")]),
    Store("create another", create(1)),
    Store("delete", [idle(OTHER), resize(OTHER, 0)]),
    Store("btt", personality("btt", NS, 1, sector_size=512)),
    Store("sectors", [disk_write("pmem0s", 4096, b"\x5a" * 1024), disk_write("pmem0s", 4600, b"across" * 100)]),
    Store("pfn", [*create(1), *personality("pfn", OTHER, 2, mode="pmem")]),
    Store("label ioctl", [unbind_region, label_ioctl(0, 4000, b"\xa5" * 3000)]),
)

#: The lives of machines without labels.
AS_PFN = (Store("pfn", personality("pfn", NS, 1, mode="pmem")),)
AS_DAX = (Store("dax", personality("dax", NS, 1, mode="pmem")),)
AS_BTT = (
    Store("btt", personality("btt", NS, 1, sector_size=4096)),
    Store("sectors", [disk_write("pmem0s", 0, b"\x5a" * 40960)]),
)

#: The memmap of the pfn device covers sectors that are bad after each boot; its probe clears them with zeros.
ON_BAD_SECTORS = (
    Store("create", create(0)),
    Store("sector", [disk_write("pmem0", 32768, b"\x5a" * 4096)]),
    Store("pfn", personality("pfn", NS, 1, mode="pmem")),
)

#: tests/torture/kills.py has up to six DIMMs, and kills at random.
LIVES = {
    "one DIMM": (interleaved(1, "1.1"), WITH_LABELS),
    "two DIMMs": (interleaved(2, "1.2"), WITH_LABELS),
    "bad sectors": (interleaved(1, "1.2", "{ sector = 64, count = 8 }"), ON_BAD_SECTORS),
    "pfn": (legacy(), AS_PFN),
    "dax": (legacy(), AS_DAX),
    "btt": (legacy(), AS_BTT),
}


@pytest.mark.no_cover  # many times what other tests cover
@pytest.mark.parametrize("life", LIVES)
def test_a_store_is_there_whole_or_not_at_all(life: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each call, before it and in the middle of it; the journal is so small that it often starts again."""
    monkeypatch.setattr(journal, "ROOM", 3 * 4096)
    for name in ("fdatasync", "fsync"):  # a killed process loses nothing that is in the host's page cache
        monkeypatch.setattr(os, name, lambda descriptor: None)
    description, stores = LIVES[life]
    folder = tmp_path / "media"
    booted(description, folder).machine.close()
    for store in stores:
        life = Life(description, folder, tmp_path, store)
        assert life.calls.count, f"{store.name} writes nothing"
        for number in range(1, life.calls.count + 1):
            life.cut(number)
            if number in life.calls.torn:
                life.cut(number, tears=True)
        life.cut(life.calls.count + 1)
        copied(tmp_path / "done", folder)


class Life:
    """A store on a machine that has just booted over a folder.

    Attributes:
        states: the content of the media before the first act, and after each.
        calls: the system calls of all acts.
    """

    def __init__(self, description: MachineDescription, folder: Path, tmp_path: Path, store: Store) -> None:
        self.description = description
        self.folder = folder
        self.tmp_path = tmp_path
        self.store = store
        self.calls = counting()
        hands = booted(description, copied(folder, tmp_path / "done"))
        self.states = [content(copied(tmp_path / "done", tmp_path / "copy"))]
        for act in store.acts:
            with self.calls.patched():
                act(hands)
            self.states.append(content(copied(tmp_path / "done", tmp_path / "copy")))
        hands.machine.close()

    def cut(self, number: int, *, tears: bool = False) -> None:
        """End the process at a call, or after all acts, and check what is there."""
        place = copied(self.folder, self.tmp_path / "cut")
        hands = booted(self.description, place)
        acknowledged = 0
        with killed_at(number, tears=tears).patched(), contextlib.suppress(KilledError):
            for act in self.store.acts:
                act(hands)
                acknowledged += 1
        abandon(hands.machine)
        assert acknowledged < len(self.store.acts) or number > self.calls.count
        allowed = self.states[acknowledged : acknowledged + 2]
        assert content(place) in allowed, f"{self.store.name}, call {number}: neither old nor new"


@pytest.fixture
def storages(monkeypatch: pytest.MonkeyPatch) -> list[FolderStorage]:
    """The folders that are opened from now on.  They are not closed when a boot fails: a killed process closes none."""
    opened: list[FolderStorage] = []
    construct = FolderStorage.__init__

    def remember(storage: FolderStorage, folder: Path, *, durable: bool = True) -> None:
        opened.append(storage)
        construct(storage, folder, durable=durable)

    monkeypatch.setattr(FolderStorage, "__init__", remember)
    monkeypatch.setattr(FolderStorage, "close", abandon_storage)
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, lambda descriptor: None)
    return opened


PFN = PersonalityDescription(NS, PersonalityKind.PFN, "11111111-2222-3333-4444-555555555555")


@pytest.mark.no_cover  # many times what other tests cover
@pytest.mark.parametrize("description", [interleaved(2, "1.2"), attrs.evolve(legacy(), personalities=(PFN,))])
def test_a_first_boot_that_ends_anywhere_is_repeated(
    description: MachineDescription, tmp_path: Path, storages: list[FolderStorage]
) -> None:
    with counting().patched() as calls:
        abandon(booted(description, tmp_path / "whole").machine)
    expected = content(tmp_path / "whole")
    assert expected
    for number in range(1, calls.count + 1):
        folder = tmp_path / str(number)
        with killed_at(number).patched(), pytest.raises(KilledError):
            booted(description, folder)
        abandon(booted(description, folder).machine)
        assert content(folder) == expected, f"call {number}"
    assert len(storages) == 1 + 2 * calls.count


@pytest.mark.no_cover  # many times what other tests cover
def test_a_module_that_owns_its_memory_discards_all_of_it_or_nothing(
    tmp_path: Path, storages: list[FolderStorage]
) -> None:
    """The memory of nfit_test is freed when it is unloaded, and new when it is loaded again, wherever that ends."""
    description = load_machine("nfit_test")
    abandon(booted(description, tmp_path / "new").machine)
    used = copied(tmp_path / "new", tmp_path / "used")
    for area in used.glob("labels-*.img"):
        with area.open("r+b") as file:
            file.seek(64 << 10)
            file.write(b"used")
    before, after = content(used), {place: page for place, page in content(used).items() if b"used" not in page}
    with counting().patched() as calls:
        reload(description, copied(used, tmp_path / "cut"))
    states = []
    for number in range(1, calls.count + 2):
        folder = copied(used, tmp_path / "cut")
        with killed_at(number).patched(), contextlib.suppress(KilledError):
            reload(description, folder)
        abandon_storage(storages[-1])
        abandon(booted(description, folder).machine)
        states.append(content(folder))
        assert states[-1] in (before, after), f"call {number}"
    assert states[0] == before
    assert states[-1] == after


def reload(description: MachineDescription, folder: Path) -> None:
    """Boot, unload nfit_test and load it again."""
    hands = booted(description, folder)
    for region in hands.names("region"):
        hands.unbind(region)
    hands.write(f"{DEBUG}/modules", "unload nfit_test")
    hands.write(f"{DEBUG}/modules", "load nfit_test")
