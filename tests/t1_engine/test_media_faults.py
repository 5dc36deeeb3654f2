"""A host that refuses to store what a store writes, and a power cut that the user orders."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from media_cuts import (
    Act,
    abandon,
    booted,
    content,
    copied,
    counting,
    create,
    disk_write,
    idle,
    interleaved,
    label_ioctl,
    legacy,
    personality,
    refusing,
    resize,
    seen,
    seen_after_boot,
    unbind_region,
    write,
)
from poke import DEBUG, Hands

from nvdimmfs.errors import KernelError
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.media import journal
from nvdimmfs.media.base import MediaError
from nvdimmfs.media.file import FileMedia
from nvdimmfs.media.journal import Journal
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.label import LabelStorage
from nvdimmfs.platforms import storage

NS = "namespace0.0"
TWO_DIMMS = interleaved(2, "1.2")

#: Stores on a machine that has just booted; only the last act writes to media.
STORES: dict[str, tuple[MachineDescription, list[Act], list[Act]]] = {
    "create": (TWO_DIMMS, [], create(0)[1:]),
    "uuid": (TWO_DIMMS, create(0), [idle(NS), write(f"{NS}/uuid", str(UUID(int=5)))]),
    "alt_name": (TWO_DIMMS, create(0), [idle(NS), write(f"{NS}/alt_name", "new")]),
    "delete": (TWO_DIMMS, create(0), [idle(NS), resize(NS, 0)]),
    "label ioctl": (TWO_DIMMS, create(0), [unbind_region, label_ioctl(1, 4000, b"\xa5" * 3000)]),
    "pfn": (legacy(), [], personality("pfn", NS, 1, mode="pmem")),
    "dax": (legacy(), [], personality("dax", NS, 1, mode="pmem")),
    "btt": (legacy(), [], personality("btt", NS, 1, sector_size=512)),
    "sectors": (
        legacy(),
        personality("btt", NS, 1, sector_size=512),
        [disk_write("pmem0s", 4096, b"\x5a" * 1024)],
    ),
}


#: Stores that do again what was refused, where the kernel refuses to do the same twice: a namespace keeps in memory the
#: uuid that it could not write to its labels (uuid_store, drivers/nvdimm/namespace_devs.c, Linux 6.1).
AGAIN = {"uuid": write(f"{NS}/alt_name", "again")}


@pytest.fixture(autouse=True)
def quick_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here loses the host's page cache."""
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, lambda descriptor: None)


class Stage:
    """A machine on which all acts of a store but the last have been done.

    Attributes:
        hands: the machine.
        last: the last act.
        before: the content of the media.
    """

    def __init__(self, name: str, tmp_path: Path) -> None:
        self.description, earlier, acts = STORES[name]
        self.folder = tmp_path / "media"
        hands = booted(self.description, self.folder)
        for act in earlier:
            act(hands)
        hands.machine.close()
        self.hands = booted(self.description, self.folder)
        if name == "create":
            create(0)[0](self.hands)
        for act in acts[:-1]:
            act(self.hands)
        self.last = acts[-1]
        self._copy = tmp_path / "copy"
        self.before = self.content()

    def content(self) -> dict[tuple[str, int], bytes]:
        """The content of the media, as it would be if the process ended now."""
        return content(copied(self.folder, self._copy))


def calls_of(name: str, tmp_path: Path) -> list[str]:
    """The system calls of the store's last act."""
    stage = Stage(name, tmp_path / "counted")
    names: list[str] = []
    with counting().patched() as host:
        host.answer = lambda _count, call: names.append(call)
        stage.last(stage.hands)
    abandon(stage.hands.machine)
    return names


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", STORES)
def test_a_store_that_the_host_refuses_is_refused_whole(name: str, error: int, tmp_path: Path) -> None:
    """At each call up to the one that makes the record durable; the store succeeds once the host accepts it."""
    calls = calls_of(name, tmp_path)
    for number in range(1, calls.index("fdatasync") + 2):
        stage = Stage(name, tmp_path / str(number))
        with (
            refusing(lambda count, refused=number: count == refused, error).patched(),
            pytest.raises((OSError, KernelError)) as refusal,
        ):
            stage.last(stage.hands)
        assert refusal.value.errno == error, f"call {number}"
        assert stage.content() == stage.before
        assert_labels_agree(stage.hands)
        AGAIN.get(name, stage.last)(stage.hands)
        stage.hands.machine.close()
        assert content(stage.folder) != stage.before
        seen_after_boot(stage.description, stage.folder)
    assert len(calls) > calls.index("fdatasync") + 1


@pytest.mark.parametrize("name", STORES)
def test_a_store_that_failed_after_it_was_accepted_is_completed_by_the_next_mount(
    name: str, tmp_path: Path, log_watch: Any
) -> None:
    """The host's disk fails between the journal and the media: readers see the store, nothing else can be stored."""
    calls = calls_of(name, tmp_path)
    log_watch.expect("the journal keeps writes that failed")
    stage = Stage(name, tmp_path / "whole")
    stage.last(stage.hands)
    expected, tree = stage.content(), seen(stage.hands)
    abandon(stage.hands.machine)
    for number in range(calls.index("fdatasync") + 2, len(calls) + 1):
        stage = Stage(name, tmp_path / str(number))
        with refusing(lambda count, refused=number: count == refused, errno.EIO).patched():
            stage.last(stage.hands)
        assert seen(stage.hands) == tree
        with pytest.raises((OSError, KernelError)) as refusal:
            disk_or_label(stage.hands)
        assert refusal.value.errno == errno.EIO
        stage.hands.machine.close()
        assert content(stage.folder) == expected
        seen_after_boot(stage.description, stage.folder)


def disk_or_label(hands: Hands) -> None:
    """Write something."""
    hands.machine.storage.media(*next(iter(hands.machine.storage._media))).write(0, b"x")


def assert_labels_agree(hands: Hands) -> None:
    """The copies of the label areas in memory are those on media."""
    nd_bus = hands.machine.nd_bus
    assert nd_bus is not None
    for device in nd_bus.members.values():
        if isinstance(device, DimmDevice) and device.data is not None:
            area = LabelStorage(device.data.labels.media)
            assert area.active() == device.data.labels.active()
            assert (area.current, area.index) == (device.data.labels.current, device.data.labels.index)


def test_a_probe_that_is_refused_at_its_end_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hands = booted(TWO_DIMMS, tmp_path)
    for act in create(0):
        act(hands)
    before = hands.snapshot()

    def refuse(_journal: Journal) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_commit", refuse)
        with pytest.raises(OSError, match="No space left on device"):
            hands.bind(NS)
    assert hands.snapshot() == before
    hands.bind(NS)
    assert hands.driver_of(NS) == "nd_pmem"
    hands.machine.close()


def test_a_journal_that_cannot_grow_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host that is almost full, what room the journal has is used again and again."""
    hands = booted(TWO_DIMMS, tmp_path)
    for act in create(0):
        act(hands)
    monkeypatch.setattr(journal, "STEP", 4096)
    pwrite = os.pwrite

    def almost_full(descriptor: int, data: bytes, offset: int) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/.journal") and offset + len(data) > 270 << 10:  # noqa: PTH115
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", almost_full)
    for number in range(200):
        write(f"{NS}/alt_name", f"name {number}")(hands)
    abandon(hands.machine)
    assert (tmp_path / ".journal").stat().st_size <= 270 << 10
    hands = booted(TWO_DIMMS, tmp_path)
    assert hands.read(f"{hands.device(NS)}/alt_name") == "name 199\n"
    hands.machine.close()


def test_a_host_that_fails_at_the_end_keeps_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each medium that cannot be flushed may have lost writes that the journal still has."""
    stage = Stage("alt_name", tmp_path)
    stage.last(stage.hands)
    expected = stage.content()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refused)
        with pytest.raises(OSError, match="Input/output error"):
            stage.hands.machine.close()
    for image in stage.folder.glob("labels-*.img"):
        image.write_bytes(bytes(image.stat().st_size))  # what the host has lost
    assert (stage.folder / ".journal").exists()
    assert content(stage.folder).items() <= expected.items()
    assert content(stage.folder)


def test_a_sync_that_fails_once_keeps_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host reports a failed write once: the next fdatasync(2) succeeds, although the bytes are lost."""
    stage = Stage("alt_name", tmp_path)
    stage.last(stage.hands)
    expected = stage.content()
    flush, failures = FileMedia.flush, iter([OSError(errno.EIO, os.strerror(errno.EIO))])

    def flush_of_a_failing_host(media: FileMedia) -> None:
        for failure in failures:
            raise failure
        flush(media)

    monkeypatch.setattr(FileMedia, "flush", flush_of_a_failing_host)
    with pytest.raises(OSError, match="Input/output error"):
        stage.hands.machine.close()
    for image in stage.folder.glob("labels-*.img"):
        image.write_bytes(bytes(image.stat().st_size))  # what the host has lost
    assert content(stage.folder).items() <= expected.items()
    assert content(stage.folder)


def test_a_journal_that_cannot_be_removed_leaves_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("alt_name", tmp_path)
    stage.last(stage.hands)
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_remove", refused)
        with pytest.raises(OSError, match="Input/output error"):
            stage.hands.machine.close()
    booted(stage.description, stage.folder).machine.close()


def test_a_file_that_is_made_after_the_boot_is_durable_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = booted(TWO_DIMMS, tmp_path)
    flushed: list[str] = []
    monkeypatch.setattr(FileMedia, "flush", lambda media: flushed.append(media.path.name))
    monkeypatch.setattr(storage, "sync_folder", lambda folder: flushed.append(str(folder)))
    before = {path.name for path in tmp_path.glob("*.img")}
    hands.write(f"{DEBUG}/plug", "dimm size=64M label=128K")
    made = {path.name for path in tmp_path.glob("*.img")} - before
    assert made
    assert made | {str(tmp_path)} <= set(flushed)
    assert not (tmp_path / ".unfinished").exists()
    hands.machine.close()


def test_a_plug_that_finds_a_file_of_another_size_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    hands = booted(TWO_DIMMS, tmp_path)
    hands.write(f"{DEBUG}/plug", "dimm size=64M label=128K")
    hands.machine.close()
    hands = booted(TWO_DIMMS, tmp_path)
    before = hands.machine.description
    assert hands.refused(f"{DEBUG}/plug", "dimm size=64M label=256K") == errno.EINVAL
    assert hands.machine.description == before
    for action in ("unbind", "bind"):
        hands.write(f"bus/acpi/drivers/nfit/{action}", "ACPI0012:00")
    assert len(hands.names("nmem")) == len(before.buses[0].dimms)
    hands.machine.close()


def test_the_content_of_a_file_that_somebody_lengthens_ends(tmp_path: Path) -> None:
    media = FileMedia(tmp_path / "a.img", 4096)
    (tmp_path / "a.img").write_bytes(b"x" * 8192)
    assert list(media.contents()) == [(0, b"x" * 4096)]
    media.close()


@pytest.mark.parametrize("durable", [True, False])
def test_a_failed_journal_forgets_nothing(
    durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_watch: Any
) -> None:
    """fsync(2) and an order of a power cut leave the record alone that only the next mount can complete."""
    log_watch.expect("the journal keeps writes that failed")
    hands = Hands.described(TWO_DIMMS, tmp_path, durable=durable)
    machine = hands.machine
    for act in create(0):
        act(hands)
    with monkeypatch.context() as patch:
        patch.setattr(FileMedia, "write", refused)
        write(f"{NS}/alt_name", "kept")(hands)
    for area in machine.storage._label_areas.values():
        area.flush()
    with pytest.raises(OSError, match="could not be completed"):
        hands.write(f"{DEBUG}/power_cut", "1")
    with pytest.raises(OSError, match="could not be completed"):
        next(iter(machine.storage.label_areas.values())).contents()
    machine.close()
    hands = booted(TWO_DIMMS, tmp_path)
    assert hands.read(f"{hands.device(NS)}/alt_name") == "kept\n"
    hands.machine.close()


def refused(*_arguments: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


class TestReplay:
    """Completing what a killed process could not complete."""

    def test_a_host_that_refuses_it_keeps_the_machine_from_booting(self, tmp_path: Path) -> None:
        stage = killed_stage(tmp_path)
        place = copied(stage.folder, tmp_path / "completed")
        with counting().patched() as host:
            Journal(place)
        assert host.count > 4
        for number in range(1, host.count + 1):
            place = copied(stage.folder, tmp_path / "refused")
            with (
                refusing(lambda count, refused=number: count == refused, errno.ENOSPC).patched(),
                pytest.raises(MediaError, match="cannot complete the last writes: No space left on device"),
            ):
                Journal(place)
            assert content(place) == stage.content()

    def test_a_journal_of_another_version_is_not_guessed_at(self, tmp_path: Path) -> None:
        stage = killed_stage(tmp_path)
        with (stage.folder / ".journal").open("r+b") as journal:
            journal.seek(16)
            journal.write(b"\x02")
        assert "has version 2; this release reads version 1" in str(not_booted(stage))

    @pytest.mark.parametrize("damage", [b"x", b"nvdimmfs journal\x01\0\0\0" + bytes(12)])
    def test_a_damaged_journal_is_reported(self, damage: bytes, tmp_path: Path) -> None:
        stage = killed_stage(tmp_path)
        (stage.folder / ".journal").write_bytes(damage)
        assert "the journal of the media" in str(not_booted(stage))

    @pytest.mark.parametrize("empty", [b"", bytes(4096)])
    def test_a_journal_that_was_never_begun_holds_nothing(self, empty: bytes, tmp_path: Path) -> None:
        stage = killed_stage(tmp_path)
        (stage.folder / ".journal").write_bytes(empty)
        assert not_booted(stage) is None
        assert not (stage.folder / ".journal").exists()

    def test_a_file_that_the_user_has_removed_is_left_out(self, tmp_path: Path) -> None:
        stage = killed_stage(tmp_path)
        next(stage.folder.glob("labels-*.img")).unlink()
        assert not_booted(stage) is None


def killed_stage(tmp_path: Path) -> Stage:
    """A machine that was killed after a store."""
    stage = Stage("alt_name", tmp_path)
    stage.last(stage.hands)
    abandon(stage.hands.machine)
    return stage


def not_booted(stage: Stage) -> MediaError | None:
    """Why the machine does not boot; None if it does."""
    try:
        hands = booted(stage.description, stage.folder)
    except MediaError as error:
        return error
    hands.machine.close()
    return None


class TestPowerCut:
    """`power_cut` of the debug folder."""

    @pytest.mark.parametrize("name", STORES)
    def test_media_hold_the_writes_before_it_in_the_order_of_the_engine(self, name: str, tmp_path: Path) -> None:
        """Each cut shows more of the store, as hardware does; the machine boots after each."""
        contents = []
        for writes in range(40):
            stage = Stage(name, tmp_path / str(writes))
            stage.hands.write(f"{DEBUG}/power_cut", f"{writes}\n")
            try:
                stage.last(stage.hands)
            except (OSError, KernelError) as refusal:
                assert refusal.errno == errno.EIO  # noqa: PT017
                assert stage.hands.debug("power_cut") == "0\n"
            else:
                break
            seen(stage.hands)
            found = stage.content()
            stage.hands.machine.close()
            assert content(stage.folder) == found
            seen_after_boot(stage.description, stage.folder)
            contents.append(found)
        assert contents[0] == stage.before
        assert stage.content() not in contents
        stage.hands.machine.close()

    def test_a_label_on_one_dimm_only_makes_the_region_unreachable(self, tmp_path: Path) -> None:
        """As in the kernel: the scan of a region gives up on the first namespace that is incomplete."""
        hands = booted(TWO_DIMMS, tmp_path)
        for act in create(0):
            act(hands)
        hands.machine.close()
        hands = booted(TWO_DIMMS, tmp_path)
        create(1)[0](hands)
        hands.write(f"{DEBUG}/power_cut", "2")
        with pytest.raises(OSError, match="power"):
            create(1)[1](hands)
        hands.machine.close()
        hands = booted(TWO_DIMMS, tmp_path)
        assert hands.names("namespace") == []
        hands.machine.close()

    def test_it_can_be_revoked_until_it_happens(self, tmp_path: Path) -> None:
        hands = booted(legacy(), tmp_path)
        assert hands.debug("power_cut") == "none\n"
        hands.write(f"{DEBUG}/power_cut", "2")
        disk_write("pmem0", 0, b"one")(hands)
        assert hands.debug("power_cut") == "1\n"
        hands.write(f"{DEBUG}/power_cut", "none")
        disk_write("pmem0", 0, b"two")(hands)
        hands.write(f"{DEBUG}/power_cut", "0")
        assert hands.refused(f"{DEBUG}/power_cut", "none") == errno.EBUSY
        hands.machine.close()

    @pytest.mark.parametrize("text", ["", "-1", "1 2", "soon", "9" * 10, "0x1"])
    def test_only_a_number_is_an_order(self, text: str, tmp_path: Path) -> None:
        hands = booted(legacy(), tmp_path)
        assert hands.refused(f"{DEBUG}/power_cut", f"{text}\n") == errno.EINVAL
        hands.machine.close()

    def test_media_in_memory_are_gone_anyway(self) -> None:
        hands = Hands.on("64M!4G")
        assert hands.refused(f"{DEBUG}/power_cut", "1") == errno.EOPNOTSUPP


@pytest.mark.parametrize("last", [".lock", "pmem-100000000-103ffffff.img"])
def test_a_file_system_without_locks_is_named(last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network file systems exist that cannot lock: ENOLCK does not mean that the folder is in use."""
    flock = fcntl.flock

    def no_lock(descriptor: int, operation: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(last):  # noqa: PTH115
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", no_lock)
    with pytest.raises(MediaError, match=r"cannot be locked: No locks available"):
        booted(legacy(), tmp_path)
