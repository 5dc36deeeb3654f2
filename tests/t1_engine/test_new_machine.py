"""What a machine file puts on media, and what it makes fail."""

import contextlib
import errno
import gc
import math

import attrs
import pytest
from poke import Hands

from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.machine.first_boot import NewMachineError
from nvdimmfs.media.base import MediaError
from nvdimmfs.media.file import FileMedia
from nvdimmfs.units import MIB

LABELLED = """
[[bus]]
commands = ["ars_cap", "ars_start", "ars_status", "clear_error"]
[[bus.dimm]]
size = "256M"
label = { initialised = "1.2" }
[[bus.dimm]]
size = "256M"
label = { initialised = "1.2" }
[[bus.range]]
start = "8G"
dimms = ["0x1", "0x2"]
badblocks = [{ sector = 65536, count = 4 }]
[[bus.range.namespace]]
uuid = "11111111-2222-4333-8444-555555555555"
size = "32M"
alt_name = "first"
sector_size = 512
[[bus.range.namespace]]
uuid = "21111111-2222-4333-8444-555555555555"
size = "64M"
holder_class = "pfn"
"""

LEGACY = """
memmap = "256M!4G,256M!5G"
[[personality]]
namespace = "namespace0.0"
kind = "pfn"
uuid = "31111111-2222-4333-8444-555555555555"
[[personality]]
namespace = "namespace1.0"
kind = "btt"
uuid = "41111111-2222-4333-8444-555555555555"
sector_size = 520
"""


def boot(text, folder=None):
    return Hands.described(text, folder)


def test_labels_define_namespaces():
    hands = boot(LABELLED)
    facts = [
        [hands.read(f"bus/nd/devices/namespace0.{number}/{name}").strip() for name in ("alt_name", "size", "resource")]
        for number in (0, 1)
    ]
    assert facts == [["first", str(32 * MIB), "0x200000000"], ["", str(64 * MIB), "0x202000000"]]
    assert hands.read("bus/nd/devices/namespace0.1/holder_class") == "pfn\n"


def test_bad_blocks_of_a_range_are_those_of_the_disk_there():
    hands = boot(LABELLED)
    assert hands.read("bus/nd/devices/region0/badblocks") == "65536 4\n"
    # The second namespace begins at sector 65536 of the region, and waits for a pfn device.
    assert hands.driver_of("namespace0.0") == "nd_pmem"
    assert hands.read("block/pmem0/badblocks") == ""
    hands.unbind("namespace0.1")
    hands.write("bus/nd/devices/namespace0.1/holder_class", "")
    hands.bind("namespace0.1")
    disk = next(name for name in hands.sysfs.names("block") if name != "pmem0")
    assert hands.read(f"block/{disk}/badblocks") == "0 4\n"
    with pytest.raises(KernelError) as refusal:
        hands.sysfs.pread(disk, 0, 512)
    assert refusal.value.errno == errno.EIO
    with pytest.raises(KernelError) as refusal:
        hands.sysfs.pwrite(disk, 0, bytes(1024))
    assert refusal.value.errno == errno.EIO
    hands.sysfs.pwrite(disk, 0, bytes(4096))
    assert hands.read("bus/nd/devices/region0/badblocks") == ""


def test_personalities_are_there_at_the_first_boot_and_stay(tmp_path):
    for _ in range(2):
        hands = boot(LEGACY, tmp_path)
        # A real 6.1 kernel has made the seeds by the time it finds info blocks on a bus that is new.
        assert (hands.driver_of("pfn0.0"), hands.driver_of("pfn0.1")) == (None, "nd_pmem")
        assert hands.read("bus/nd/devices/pfn0.1/uuid") == "31111111-2222-4333-8444-555555555555\n"
        assert (hands.driver_of("btt1.0"), hands.driver_of("btt1.1")) == (None, "nd_pmem")
        assert hands.read("bus/nd/devices/btt1.1/sector_size").split()[1] == "[520]"
        assert hands.sysfs.names("block") == ["pmem0", "pmem1s"]
        hands.machine.close()


class Killed(BaseException):
    """The daemon was killed with SIGKILL."""


@attrs.define
class Lifetime:
    """Counts the writes to files, and kills the process that makes one more than `writes`."""

    writes: float = math.inf
    made: int = 0

    def write(self, media, offset, data):
        if self.made >= self.writes:
            raise Killed
        self.made += 1
        WRITE(media, offset, data)


WRITE = FileMedia.write


@pytest.mark.parametrize("text", [LABELLED, LEGACY])
def test_a_first_boot_that_is_killed_leaves_nothing_half_made(text, tmp_path, monkeypatch):
    """At any point: at the next boot, the machine has all that its file describes, as at the first boot."""
    lifetime = Lifetime()
    monkeypatch.setattr(FileMedia, "write", lambda *arguments: lifetime.write(*arguments))
    whole = boot(text, tmp_path / "whole").snapshot()
    needed = lifetime.made
    for writes in range(0, needed, needed // 20 or 1):
        folder = tmp_path / str(writes)
        lifetime = Lifetime(writes)
        with pytest.raises(Killed):
            boot(text, folder)
        lifetime = Lifetime()
        hands = boot(text, folder)
        assert hands.snapshot() == whole
        hands.machine.close()
        assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


def test_media_of_the_user_are_never_taken_for_half_made(tmp_path):
    for text in (LEGACY, LEGACY + '[[unreadable]]\npath = "x"\nerrno = "EIO"\n'):
        with contextlib.suppress(NewMachineError):
            hands = boot(text, tmp_path)
            hands.sysfs.pwrite("pmem0", 0, b"mine")
            hands.machine.close()
    hands = boot(LEGACY, tmp_path)
    assert hands.sysfs.pread("pmem0", 0, 4) == b"mine"


def test_a_device_that_cannot_be_put_on_media_is_refused_in_one_line():
    with pytest.raises(NewMachineError, match=r"cannot create a pfn on namespace1\.0: ENXIO: "):
        boot(LEGACY.replace("256M!5G", "2M!5G").replace('"btt"', '"pfn"').replace("sector_size = 520", ""))


def test_an_unreadable_attribute_stays_so_when_its_device_comes_back():
    hands = boot(LEGACY + '[[unreadable]]\npath = "bus/nd/devices/btt1.0/size"\nerrno = "EIO"\n')
    for _ in range(2):
        with pytest.raises(KernelError) as refusal:
            hands.read("bus/nd/devices/btt1.0/size")
        assert refusal.value.errno == errno.EIO
        for verb in ("unbind", "bind"):
            hands.write(f"bus/nd/drivers/nd_region/{verb}", "region1")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("bus/nd/devices/nmem9/size", "does not exist"),
        ("bus/nd/drivers_autoprobe/size", "does not exist"),
        ("bus/nd/devices", "is not an attribute"),
    ],
)
def test_an_unreadable_attribute_must_be_there(path, what, tmp_path):
    for _ in range(2):  # and the folder is free again
        with pytest.raises(NewMachineError, match=f"unreadable: /sys/{path} {what}"):
            boot(LEGACY + f'[[unreadable]]\npath = "{path}"\nerrno = "EIO"\n', tmp_path)


def test_a_folder_of_media_belongs_to_one_machine(tmp_path):
    boot(LABELLED, tmp_path)
    with pytest.raises(MediaError, match="in use by another machine"):
        boot(LABELLED, tmp_path)


def test_the_machine_that_put_info_blocks_on_media_is_forgotten():
    """Also without garbage collection, as when a daemon boots."""
    gc.collect()
    before = count_systems()
    gc.disable()
    try:
        hands = boot(LEGACY)
        assert count_systems() == before + 1
    finally:
        gc.enable()
    assert hands.machine


def count_systems():
    return sum(isinstance(thing, System) for thing in gc.get_objects())
