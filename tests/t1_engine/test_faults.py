"""Fault rules on a machine: each operation and each action, the interfaces that declare them, and what they leave."""

from __future__ import annotations

import errno
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from poke import Hands

from nvdimmfs.errors import KernelError
from nvdimmfs.faults.rule import Garbage
from nvdimmfs.formats.ndctl import DimmCommand, LabelAreaSize, LabelRead
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine.saved import read_saved
from nvdimmfs.machine_file.faults import rule_of_description
from nvdimmfs.machine_file.files import MachineFileError, load_machine, machines, parse_machine
from nvdimmfs.machine_file.writer import machine_text
from nvdimmfs.testing import Engine

DEBUG = "/sys/kernel/debug/nvdimmfs"
FAULTS = f"{DEBUG}/faults"
DEVICES = "/sys/bus/nd/devices"
PMEM = "/sys/bus/nd/drivers/nd_pmem"
SIZE = f"{DEVICES}/region0/size"


@pytest.fixture
def legacy():
    with Engine(memmap="512M!4G,256M!6G", ram="8G") as engine:
        yield engine


@pytest.fixture
def nfit():
    with Engine("qemu-nfit") as engine:
        yield engine


def errno_of(call, *arguments, **keywords):
    """The errno of a call that is refused; 0 when it is not."""
    try:
        call(*arguments, **keywords)
    except OSError as refusal:
        return refusal.errno
    return 0


# Requests


def test_an_open_fails_for_whatever_is_done_then(legacy):
    fault = legacy.fail("sys/bus/nd/devices/region0/*", "open", "EACCES")
    assert errno_of(legacy.read, SIZE) == errno.EACCES
    assert errno_of(legacy.write, f"{DEVICES}/region0/read_only", 1) == errno.EACCES
    assert errno_of(legacy.read, f"{DEVICES}/region1/size") == 0
    assert fault.hits == 2


def test_a_read_fails_as_often_as_declared(legacy):
    fault = legacy.fail("sys/bus/nd/devices/*/size", "read", errno.EIO, times=2, after=1)
    assert [errno_of(legacy.read, SIZE) for _ in range(4)] == [0, errno.EIO, errno.EIO, 0]
    assert fault.hits == 2


def test_the_reason_names_the_rule(legacy):
    legacy.fail("sys/bus/nd/devices/region0/size", "read", "EIO")
    with pytest.raises(OSError, match="Input/output error") as refusal:
        legacy.read(SIZE)
    assert refusal.value.__notes__ == ["fault rule 1: read sys/bus/nd/devices/region0/size errno=EIO"]


def test_a_write_that_fails_does_not_reach_the_kernel(legacy):
    with legacy.fail("sys/bus/nd/drivers/*/unbind", "write", "ENOMEM") as fault:
        assert errno_of(legacy.write, f"{PMEM}/unbind", "namespace0.0") == errno.ENOMEM
        assert legacy.exists("/dev/pmem0")
        assert fault.hits == 1
    legacy.write(f"{PMEM}/unbind", "namespace0.0")
    assert not legacy.exists("/dev/pmem0")


def test_a_rule_that_never_matches_changes_nothing(legacy):
    before = legacy.dump()
    fault = legacy.fail("sys/bus/nd/devices/region9/size", "read", "EIO")
    legacy.fail("nmem0", "command", "EIO")
    assert legacy.read(SIZE) == "536870912\n"
    assert legacy.diff(before) == []
    assert fault.hits == 0


def test_a_short_answer(legacy):
    legacy.fail("sys/bus/nd/devices/*/size", "read", short=3, times=1)
    legacy.fail("sys/bus/nd/devices/*/read_only", "write", short=1)
    assert legacy.read_bytes(SIZE, size=100) == b"536870912\n"  # the reads that follow return the rest
    assert legacy.write(f"{DEVICES}/region0/read_only", "1 and so on") == 1
    assert legacy.read(f"{DEVICES}/region0/read_only") == "1\n"
    legacy.fail("dev/pmem0", "read", short=0)
    assert legacy.read_bytes("/dev/pmem0", size=512) == b""


def test_garbage_has_the_length_of_the_answer(legacy):
    legacy.fail("sys/bus/nd/devices/*/size", "read", garbage=7, times=1)
    assert legacy.read_bytes(SIZE) == Garbage(7).replaced(len("536870912\n"), 1)
    assert legacy.read(SIZE) == "536870912\n"
    legacy.fail("dev/pmem1", "write", garbage=8)
    legacy.write("/dev/pmem1", bytes(512))
    assert legacy.read_bytes("/dev/pmem1", size=512) == Garbage(8).replaced(512, 1)


def test_the_bytes_of_a_disk_fail_by_its_name(legacy):
    legacy.fail("dev/pmem0", "read", "EIO")
    legacy.fail("dev/pmem*", "write", "ENOSPC", times=1)
    assert errno_of(legacy.read_bytes, "/dev/pmem0", size=512) == errno.EIO
    assert errno_of(legacy.read_bytes, "/dev/pmem1", size=512) == 0
    assert errno_of(legacy.write, "/dev/pmem1", bytes(512)) == errno.ENOSPC
    assert errno_of(legacy.write, "/dev/pmem1", bytes(512)) == 0


def test_a_delayed_request_is_carried_out(legacy):
    fault = legacy.fail("sys/bus/nd/devices/*/size", "read", delay=0.001)
    opened = legacy.fail("sys/bus/nd/devices/*/size", "open", delay=0.001)
    assert legacy.read(SIZE) == "536870912\n"
    assert legacy.read(f"{DEVICES}/region0/mappings") == "0\n"
    assert (fault.hits, opened.hits) == (1, 1)


def test_while_a_request_is_delayed_others_are_answered(legacy, monkeypatch):
    """The other thread is answered while this one sleeps, with the machine's lock free."""
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        with ThreadPoolExecutor(1) as other:
            assert other.submit(legacy.read, f"{DEVICES}/region1/size").result() == "268435456\n"

    legacy.fail("sys/bus/nd/devices/region0/size", "read", delay=3600)
    monkeypatch.setattr("nvdimmfs.testing.engine.time.sleep", sleep)
    assert legacy.read(SIZE) == "536870912\n"
    assert slept == [3600]


def test_an_ioctl_fails_by_the_name_of_the_device(nfit):
    request = LabelAreaSize.size() << 16 | ord("N") << 8 | DimmCommand.GET_SIZE | 3 << 30
    fault = nfit.fail("dev/nmem1", "ioctl", "EINTR", times=1)
    slow = nfit.fail("dev/nmem*", "ioctl", delay=0.001)
    asked = [errno_of(nfit.ioctl, f"/dev/nmem{number}", request, bytes(12)) for number in (0, 1, 1)]
    assert asked == [0, errno.EINTR, 0]
    assert (fault.hits, slow.hits) == (1, 3)


@pytest.mark.parametrize("condition", [{"uid": 0}, {"comm": "this"}, {"uid": 0, "comm": "this"}])
def test_the_caller_of_an_engine_is_root_in_this_process(legacy, condition):
    with open("/proc/self/comm") as file:  # noqa: PTH123
        this = file.read().removesuffix("\n")
    legacy.fail("sys/bus/nd/devices/region0/size", "read", "EIO", uid=1)
    legacy.fail("sys/bus/nd/devices/region0/size", "read", "EIO", comm=f"{this[:14]}!")
    assert errno_of(legacy.read, SIZE) == 0
    legacy.fail("sys/bus/nd/devices/region0/size", "read", "EPERM", **{**condition, "comm": this})
    assert errno_of(legacy.read, SIZE) == errno.EPERM


def test_a_dump_shows_what_fails_and_does_not_count(legacy):
    before = legacy.dump()
    fault = legacy.fail("sys/bus/nd/devices/region0/size", "read", "EIO", times=1)
    assert legacy.diff(before) != []
    assert fault.hits == 0
    assert errno_of(legacy.read, SIZE) == errno.EIO
    assert legacy.diff(before) == []


def test_hits_are_logged(legacy, caplog):
    with caplog.at_level(logging.INFO, logger="nvdimmfs.faults.faults"):
        legacy.fail("sys/bus/nd/devices/region0/size", "read", "EIO")
        errno_of(legacy.read, SIZE)
    path = "/sys/devices/platform/e820_pmem/ndbus0/region0/size"
    rule = "read sys/bus/nd/devices/region0/size errno=EIO"
    assert caplog.messages == [f"fault rule 1 applies to {path}: {rule}"]


# Struct pages


def test_registrations_fail_until_the_rule_is_removed(legacy):
    """The trap of Path.write_text(): a write that it makes twice fails twice."""
    legacy.write(f"{PMEM}/unbind", "namespace0.0")
    with legacy.fail("namespace0.*", "register", "ENOMEM") as fault:
        assert [errno_of(legacy.write, f"{PMEM}/bind", "namespace0.0") for _ in range(2)] == [errno.ENOMEM] * 2
        legacy.write(f"{PMEM}/unbind", "namespace1.0")
        legacy.write(f"{PMEM}/bind", "namespace1.0")
        assert fault.hits == 2
    legacy.write(f"{PMEM}/bind", "namespace0.0")


def configure(engine, name, mode):
    for attribute, value in {
        "mode": mode,
        "uuid": "01234567-89ab-cdef-0123-456789abcdef",
        "namespace": "namespace0.0",
    }.items():
        engine.write(f"{DEVICES}/{name}/{attribute}", value)


def test_an_altmap_without_room_is_that_of_one_device(legacy):
    legacy.write(f"{PMEM}/unbind", "namespace0.0")
    configure(legacy, "pfn0.0", "pmem")
    legacy.fail("pfn1.*", "altmap", "ENOMEM")
    fault = legacy.fail("pfn0.*", "altmap", "ENOMEM", times=1)
    assert errno_of(legacy.write, f"{PMEM}/bind", "pfn0.0") == errno.ENOMEM
    assert fault.hits == 1
    legacy.write(f"{PMEM}/bind", "pfn0.0")


def test_a_delay_of_the_kernel_passes_on_the_clock_of_the_machine(legacy):
    legacy.write(f"{PMEM}/unbind", "namespace0.0")
    before = legacy.clock.now
    legacy.write(f"{PMEM}/bind", "namespace0.0")
    usual = legacy.clock.now - before
    legacy.write(f"{PMEM}/unbind", "namespace0.0")
    legacy.fail("namespace0.0", "register", delay=30)
    before = legacy.clock.now
    legacy.write(f"{PMEM}/bind", "namespace0.0")
    assert legacy.clock.now - before == pytest.approx(30 + usual)


@pytest.mark.parametrize(("clock", "passes"), [("real", True), ("manual", False)])
def test_a_delay_of_the_kernel_needs_a_clock_that_acts_move(clock, passes):
    with Engine(memmap="512M!4G", clock=clock) as engine:
        engine.write(f"{PMEM}/unbind", "namespace0.0")
        engine.fail("namespace0.0", "register", delay=3600)
        before = engine.clock.now
        engine.write(f"{PMEM}/bind", "namespace0.0")
        assert (engine.clock.now - before >= 3600) == passes


# Media


def test_the_medium_of_a_region_fails(legacy):
    legacy.fail("region0", "media-read", "EIO", after=1)
    assert [errno_of(legacy.read_bytes, "/dev/pmem0", size=512) for _ in range(2)] == [0, errno.EIO]
    assert errno_of(legacy.read_bytes, "/dev/pmem1", size=512) == 0
    legacy.fail("region1", "media-write", "EIO")
    assert errno_of(legacy.write, "/dev/pmem1", bytes(512)) == errno.EIO


@pytest.mark.parametrize("times", [1, None])
def test_a_namespace_that_cannot_be_read_keeps_no_region_from_being_bound(legacy, times):
    """And a rule that counts is used up by what the kernel reads alone."""
    region, pmem = "/sys/bus/nd/drivers/nd_region", "/sys/bus/nd/drivers/nd_pmem"
    legacy.write(f"{region}/unbind", "region0")
    fault = legacy.fail("region0", "media-read", "EIO", times=times)
    legacy.write(f"{region}/bind", "region0")
    assert "region0" in legacy.ls(region)
    assert "namespace0.0" not in legacy.ls(pmem)
    assert fault.hits == 1


def test_the_labels_of_a_dimm_are_a_medium(nfit):
    fault = nfit.fail("nmem0", "media-read", "EIO")
    driver = "/sys/bus/nd/drivers/nvdimm"
    nfit.write("/sys/bus/nd/drivers/nd_region/unbind", "region0")
    nfit.write(f"{driver}/unbind", "nmem0")
    assert errno_of(nfit.write, f"{driver}/bind", "nmem0") != 0
    assert fault.hits > 0
    fault.remove()
    nfit.write(f"{driver}/bind", "nmem0")


@pytest.mark.parametrize("machine", [{"memmap": "512M!4G"}, {"machine": "nfit_test"}])
def test_bad_sectors_are_bad_until_they_are_written(machine):
    with Engine(**machine) as engine:
        disk = engine.ls("/sys/class/block")[0]
        name = engine.readlink(f"/sys/class/block/{disk}").partition("region")[2].partition("/")[0]
        fault = engine.fail(f"region{name}", "media-read", sectors=(8, 3))
        assert engine.read(f"/sys/block/{disk}/badblocks") == "8 3\n"
        assert engine.read(f"{DEVICES}/region{name}/badblocks") == "8 3\n"
        assert errno_of(engine.read_bytes, f"/dev/{disk}", 4096, 512) == errno.EIO
        assert errno_of(engine.read_bytes, f"/dev/{disk}", 0, 4096) == 0
        engine.write(f"/dev/{disk}", bytes(4096), offset=4096)
        assert engine.read_bytes(f"/dev/{disk}", 4096, 512) == bytes(512)
        assert engine.read(f"/sys/block/{disk}/badblocks") == ""
        engine.write("/sys/bus/nd/drivers/nd_region/unbind", f"region{name}")
        engine.write("/sys/bus/nd/drivers/nd_region/bind", f"region{name}")
        assert engine.read(f"{DEVICES}/region{name}/badblocks") == ""
        assert fault.hits == 1


def test_the_machine_boots_from_what_was_there_when_the_power_went(tmp_path):
    with Engine(memmap="64M!4G", media=tmp_path) as engine:
        fault = engine.fail("region0", "media-write", power_cut=True, after=2)
        engine.write("/dev/pmem0", b"1" * 4096)
        engine.write("/dev/pmem0", b"2" * 4096, offset=4096)
        assert engine.read(f"{DEBUG}/power_cut") == "0\n"
        assert errno_of(engine.write, "/dev/pmem0", b"3" * 4096, offset=8192) == errno.EIO
        assert errno_of(engine.write, FAULTS, "clear") == errno.EBUSY
        assert errno_of(engine.write, f"{DEBUG}/power_cut", "none") == errno.EBUSY
        fault.remove()  # the power does not return
        assert errno_of(engine.write, "/dev/pmem0", b"3" * 4096, offset=8192) == errno.EIO
    with Engine(memmap="64M!4G", media=tmp_path) as engine:
        assert [engine.read_bytes("/dev/pmem0", 4096 * number, 1) for number in range(3)] == [b"1", b"2", b"\0"]


def test_a_machine_in_memory_loses_its_power_as_well(legacy):
    before = legacy.checkpoint()
    legacy.fail("*", "media-write", power_cut=True, after=1)
    assert [errno_of(legacy.write, "/dev/pmem0", b"1" * 4096) for _ in range(2)] == [0, errno.EIO]
    before.reset()
    legacy.write("/dev/pmem0", b"1" * 4096)


# Commands


def get_labels(engine, dimm, length=16):
    request = (LabelRead.size() + length) << 16 | ord("N") << 8 | DimmCommand.GET_DATA | 3 << 30
    argument = LabelRead(0, length, 0).to_bytes() + bytes(length)
    return engine.ioctl(f"/dev/{dimm}", request, argument)


def test_a_command_fails_with_an_errno(nfit):
    fault = nfit.fail("nmem0", "command", "EIO", command="get_data")
    assert errno_of(get_labels, nfit, "nmem0") == errno.EIO
    assert errno_of(get_labels, nfit, "nmem1") == 0
    assert fault.hits == 1


@pytest.mark.parametrize("machine", ["qemu-nfit", "nfit_test"])
def test_a_command_fails_with_a_status_of_the_firmware(machine):
    """The ioctl succeeds, as on hardware: its caller finds the status."""
    with Engine(machine) as engine:
        with engine.fail("nmem*", "command", status=0x105, command=int(DimmCommand.GET_DATA)):
            answer = get_labels(engine, "nmem1")
            assert LabelRead.from_bytes(answer).status == 0x105
            assert answer[LabelRead.size() :] == bytes(16)
        assert LabelRead.from_bytes(get_labels(engine, "nmem1")).status == 0


def test_the_kernel_takes_the_status_for_an_error(nfit):
    driver = "/sys/bus/nd/drivers/nvdimm"
    nfit.write("/sys/bus/nd/drivers/nd_region/unbind", "region0")
    nfit.write(f"{driver}/unbind", "nmem0")
    with nfit.fail("nmem0", "command", status=3, command="get_data"):
        assert errno_of(nfit.write, f"{driver}/bind", "nmem0") == errno.EIO
    nfit.write(f"{driver}/bind", "nmem0")


def test_a_result_is_replaced_after_the_command_was_executed(nfit):
    before = nfit.clock.now
    nfit.fail("nmem0", "command", result=-errno.ENXIO, command="get_data", times=1)
    nfit.fail("nmem0", "command", delay=5, command="get_data")
    assert [errno_of(get_labels, nfit, "nmem0") for _ in range(2)] == [errno.ENXIO, 0]
    assert nfit.clock.now - before > 5


def test_fail_cmd_is_a_rule():
    folder = "/sys/class/nfit_test_dimm/test_dimm0"
    with Engine("nfit_test") as engine:
        engine.write(f"{folder}/fail_cmd", 1 << DimmCommand.GET_DATA | 1 << 2)
        engine.write(f"{folder}/fail_cmd_code", -errno.ENOSPC)
        rule = "add command test_dimm0 command=2,5 result=-28  # rule 2, hits 0\n"
        assert engine.read(FAULTS).endswith(rule)
        dimms = [errno_of(get_labels, engine, f"nmem{number}") for number in range(4)]
        assert sorted(dimms) == [0, 0, 0, errno.ENOSPC]
        assert engine.read(f"{folder}/fail_cmd") == "0x24\n"
        engine.write(FAULTS, "remove 2")
        assert engine.read(f"{folder}/fail_cmd") == "0x0\n"
        assert [errno_of(get_labels, engine, f"nmem{number}") for number in range(4)] == [0] * 4


# The debug file


def test_the_debug_file_lists_what_it_takes(legacy):
    assert legacy.read(FAULTS) == ""
    first = "read sys/bus/nd/devices/*/size errno=EIO times=1"
    second = "register pfn* errno=ENOMEM name=no-pages"
    legacy.write(FAULTS, f"add {first}\nadd {second}\n")
    errno_of(legacy.read, SIZE)
    listed = f"add {first}  # rule 1, hits 1\nadd {second}  # rule 2, hits 0\n"
    assert legacy.read(FAULTS) == listed
    legacy.write(FAULTS, "remove 1\nremove no-pages\n")
    assert legacy.read(FAULTS) == ""
    legacy.write(FAULTS, listed)
    assert legacy.read(FAULTS).count("add") == 2
    legacy.write(FAULTS, "clear")
    assert legacy.read(FAULTS) == ""


@pytest.mark.parametrize(
    ("written", "number", "reason"),
    [
        ("add read x errno=EIO", errno.EINVAL, 'path: "x" begins with none of sys, dev, proc'),
        ("remove 1", errno.ENOENT, "there is no fault rule '1'"),
        (b"add read sys/\xff errno=EIO", errno.EINVAL, "not UTF-8 text: byte 13 is 0xff"),
        ("add read sys/x errno=EIO\noops", errno.EINVAL, 'line 2: "oops" is none of: add OPERATION PATH ...'),
    ],
)
def test_a_mistake_declares_nothing(legacy, written, number, reason):
    with pytest.raises(OSError, match=FAULTS) as refusal:
        legacy.write(FAULTS, written)
    assert refusal.value.errno == number
    assert refusal.value.__notes__[0].startswith(reason)
    assert legacy.read(FAULTS) == ""


def test_no_rule_makes_its_own_file_fail(legacy):
    for operation in ("open", "read", "write"):
        legacy.write(FAULTS, f"add {operation} sys/*/*/*/* errno=EIO")
    assert legacy.read(FAULTS).count("hits 0") == 3
    legacy.write(FAULTS, "clear")


def test_the_older_files_are_rules_that_vanish(legacy):
    legacy.write(f"{DEBUG}/fail_registration", "ENOSPC")
    legacy.write(f"{DEBUG}/fail_altmap", 1)
    assert [line.partition("  #")[0] for line in legacy.read(FAULTS).splitlines()] == [
        "add register * errno=ENOSPC times=1",
        "add altmap * errno=ENOMEM times=1",
    ]
    legacy.write(FAULTS, "clear")
    assert legacy.read(f"{DEBUG}/fail_registration") == "none\n"
    assert legacy.read(f"{DEBUG}/fail_altmap") == "0\n"
    legacy.write(f"{DEBUG}/fail_registration", "ENOSPC")
    legacy.write(f"{PMEM}/unbind", "namespace0.0")
    assert errno_of(legacy.write, f"{PMEM}/bind", "namespace0.0") == errno.ENOSPC
    assert legacy.read(FAULTS) == ""


# The machine file

MACHINE = """
memmap = "512M!4G"

[[unreadable]]
path = "bus/nd/devices/region0/align"
errno = "ENXIO"

[[fault]]
operation = "register"
path = "namespace0.0"
errno = "ENOMEM"
times = 2
name = "no-pages"

[[fault]]
operation = "read"
path = "sys/bus/nd/devices/*/size"
short = 2
uid = 0
after = 1

[[fault]]
operation = "media-read"
path = "region0"
sectors = "8+3"
"""


def machine_file(tmp_path, text):
    path = tmp_path / "machine.toml"
    path.write_text(text)
    return path


def test_a_machine_file_declares_what_fails_from_the_boot_on(tmp_path):
    with Engine(machine_file(tmp_path, MACHINE)) as engine:
        assert engine.read(FAULTS).splitlines() == [
            "add register namespace0.0 errno=ENOMEM times=2 name=no-pages  # rule 1, hits 1",
            "add read sys/bus/nd/devices/*/size uid=0 short=2 after=1  # rule 2, hits 0",
            "add media-read region0 sectors=8+3  # rule 3, hits 1",
            "add read sys/devices/platform/e820_pmem/ndbus0/region0/align errno=ENXIO  # rule 4, hits 0",
        ]
        assert not engine.exists("/dev/pmem0")
        assert errno_of(engine.write, f"{PMEM}/bind", "namespace0.0") == errno.ENOMEM
        engine.write(f"{PMEM}/bind", "namespace0.0")
        assert engine.read("/sys/block/pmem0/badblocks") == "8 3\n"
        assert errno_of(engine.read, f"{DEVICES}/region0/align") == errno.ENXIO


def test_a_machine_in_memory_boots_from_what_was_saved_after_its_power_went(tmp_path):
    machine = Machine.legacy("64M!4G", 4 << 30, clock="steps")
    hands = Hands.of(machine)
    hands.write("kernel/debug/nvdimmfs/faults", "add media-write region0 power-cut after=1")
    hands.sysfs.pwrite("pmem0", 0, b"1" * 4096)
    with pytest.raises(KernelError, match="EIO: the power of the machine is cut"):
        hands.sysfs.pwrite("pmem0", 4096, b"2" * 4096)
    saved = tmp_path / "machine.saved"
    saved.write_bytes(b"".join(machine.saved()))
    found = read_saved(saved)
    again = Hands.of(Machine.described(found.description, clock="steps", saved=found))
    assert again.sysfs.pread("pmem0", 0, 8192) == b"1" * 4096 + bytes(4096)
    again.sysfs.pwrite("pmem0", 0, b"3" * 4096)


EVERY_KEY = """
memmap = "512M!4G"
[[fault]]
operation = "command"
path = "nmem*"
status = 0x10000
command = ["smart", "cmd_call:3", "5"]
times = 2
after = 3
name = "all"
[[fault]]
operation = "read"
path = "sys/x"
garbage = 0
uid = 0
comm = "Web Content"
[[fault]]
operation = "write"
path = "sys/x"
short = 0
[[fault]]
operation = "open"
path = "sys/x"
delay = "1.5s"
[[fault]]
operation = "command"
path = "ndbus0"
result = "-16"
[[fault]]
operation = "media-write"
path = "*"
power_cut = true
[[fault]]
operation = "media-read"
path = "region0"
sectors = "8+3"
[[fault]]
operation = "poll"
path = "sys/x"
notified = true
[[fault]]
operation = "poll"
path = "sys/x"
lost = true
"""


def test_a_machine_file_has_each_key(tmp_path):
    machine = load_machine(machine_file(tmp_path, EVERY_KEY))
    assert [str(rule_of_description(fault)) for fault in machine.faults] == [
        "command nmem* command=smart,cmd_call:3,5 status=0x10000 times=2 after=3 name=all",
        'read sys/x uid=0 comm="Web Content" garbage=0',
        "write sys/x short=0",
        "open sys/x delay=1500ms",
        "command ndbus0 result=-16",
        "media-write * power-cut",
        "media-read region0 sectors=8+3",
        "poll sys/x notified",
        "poll sys/x lost",
    ]
    assert parse_machine(machine_text(machine), "again").faults == machine.faults


def test_the_media_of_a_new_machine_are_written_without_faults(tmp_path):
    text = """
        [[fault]]
        operation = "media-write"
        path = "*"
        errno = "EIO"
        [[fault]]
        operation = "register"
        path = "pfn*"
        errno = "ENOMEM"
        times = 1
        [[personality]]
        namespace = "namespace0.0"
        kind = "pfn"
        memmap = "ram"
        uuid = "01234567-89ab-cdef-0123-456789abcdef"
        [[bus]]
        dimm = [{ name = "a", size = "1G", label = { initialised = "1.2" } }]
        [[bus.range]]
        dimms = ["a"]
        namespace = [{ uuid = "11234567-89ab-cdef-0123-456789abcdef", size = "512M" }]
    """
    with Engine(machine_file(tmp_path, text)) as engine:
        assert not engine.exists("/dev/pmem0")
        bound = [name for name in engine.ls(DEVICES) if name.startswith("pfn")]
        device = next(name for name in bound if engine.read(f"{DEVICES}/{name}/uuid").startswith("01234567"))
        engine.write(f"{PMEM}/bind", device)
        assert engine.exists("/dev/pmem0")


def test_a_machine_whose_power_goes_while_it_boots_is_one_line(tmp_path):
    """The memmap of a pfn device is written at each boot."""
    text = """
        memmap = "512M!4G"
        [[personality]]
        namespace = "namespace0.0"
        kind = "pfn"
        uuid = "01234567-89ab-cdef-0123-456789abcdef"
        [[fault]]
        operation = "media-write"
        path = "region0"
        power_cut = true
    """
    with pytest.raises(ValueError, match=r"^cannot boot: the power of the machine is cut \(fault rule 1: "):
        Engine(machine_file(tmp_path, text))


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("media-read", 'errno = "EIO"'),
        ("media-read", "garbage = 3"),
        ("media-write", 'errno = "EIO"'),
        ("media-write", "garbage = 3"),
        ("media-write", "short = 3"),
    ],
)
@pytest.mark.parametrize("machine", ["e820", "nfit_test", "qemu-nfit-labelled"])
def test_a_machine_boots_on_hardware_that_fails(tmp_path, machine, operation, action):
    text = machines()[machine].read_text()
    fault = f'\n[[fault]]\noperation = "{operation}"\npath = "*"\n{action}\n'
    with Engine(machine_file(tmp_path, text + fault)) as engine:
        assert engine.ls(DEVICES)
        errno_of(engine.write, f"{PMEM}/bind", "namespace0.0")


@pytest.mark.parametrize("action", ['errno = "EIO"', "status = 1", 'result = "-5"', 'result = "5"', 'delay = "5s"'])
@pytest.mark.parametrize("machine", ["nfit_test", "qemu-nfit-labelled"])
def test_a_machine_boots_with_firmware_that_fails(tmp_path, machine, action):
    fault = f'\n[[fault]]\noperation = "command"\npath = "*"\n{action}\n'
    with Engine(machine_file(tmp_path, machines()[machine].read_text() + fault)) as engine:
        assert engine.ls(DEVICES)


@pytest.mark.parametrize(
    ("fault", "mistake"),
    [
        ('path = "sys/x"\nerrno = "EIO"', "fault[0].operation: required key missing"),
        ('operation = "read"\npath = "sys/x"', "fault[0]: a rule has one of errno, short, garbage,"),
        ('operation = "read"\npath = "sys/x"\nerrno = "EFOO"', 'fault[0].errno: "EFOO" is not an errno'),
        ('operation = "media-write"\npath = "*"\npower_cut = true\ntimes = 1', "fault[0].times: power-cut lasts"),
        ('operation = "read"\npath = "sys/x"\ncomand = "x"', "fault[0].comand: unknown key; did you mean command?"),
        (
            "[[fault]]\n".join(['operation = "read"\npath = "sys/x"\nshort = 1\nname = "a"\n'] * 2),
            'fault[1].name: "a" is also the name of another fault',
        ),
    ],
)
def test_a_mistake_in_a_machine_file_is_one_line(tmp_path, fault, mistake):
    with pytest.raises(MachineFileError) as error:
        load_machine(machine_file(tmp_path, f'memmap = "512M!4G"\n[[fault]]\n{fault}\n'))
    assert any(mistake in line for line in error.value.lines)


# Checkpoints


def test_a_reset_takes_counts_back_and_later_rules_away(legacy):
    kept = legacy.fail("sys/bus/nd/devices/region0/size", "read", "EIO", times=2)
    errno_of(legacy.read, SIZE)
    with legacy.checkpoint():
        errno_of(legacy.read, SIZE)
        later = legacy.fail("sys/bus/nd/devices/region1/size", "read", "EPERM")
        legacy.write(f"{DEBUG}/fail_registration", "ENOMEM")
        assert errno_of(legacy.read, SIZE) == 0
        assert kept.hits == 2
    assert kept.hits == 1
    assert errno_of(legacy.read, f"{DEVICES}/region1/size") == 0
    assert legacy.read(f"{DEBUG}/fail_registration") == "none\n"
    later.remove()
    assert errno_of(legacy.read, SIZE) == errno.EIO
    assert legacy.read(FAULTS).count("\n") == 1


def test_a_rule_that_was_removed_is_back_after_a_reset(legacy):
    fault = legacy.fail("sys/bus/nd/devices/region0/size", "read", "EIO")
    with legacy.checkpoint():
        fault.remove()
        assert errno_of(legacy.read, SIZE) == 0
    assert errno_of(legacy.read, SIZE) == errno.EIO


# The Python interface


@pytest.mark.parametrize(
    ("arguments", "details", "message"),
    [
        (("sys/x", "reed", "EIO"), {}, 'operation: "reed" is not one of open,'),
        (("sys/x", "read"), {}, "a rule has one of errno,"),
        (("sys/x", "read", "EIO"), {"short": 1}, "a rule has one of .*, not errno and short"),
        (("sys/x", "read", 9999), {}, 'errno: "9999" is not an errno'),
        (("sys/x", "read", "EIO", -1), {}, 'times: "-1" is not a number'),
        (("sys/x", "read", "EIO", "often"), {}, 'times: "often" is not a number'),
        (("sys/x", "read"), {"delay": "soon"}, 'delay: "soon" is not a time'),
        (("region0", "media-read"), {"sectors": (8, "x")}, "sectors: .* is not FIRST\\+COUNT"),
        (("nmem0", "command", "EIO"), {"command": ["smart", 0.5]}, 'command: "0.5" is not a number'),
        (("sys/x", "read", "EIO"), {"tmes": 1}, '"tmes" is not a key'),
    ],
)
def test_an_invalid_rule_is_a_value_error(legacy, arguments, details, message):
    with pytest.raises(ValueError, match=message):
        legacy.fail(*arguments, **details)
    assert legacy.read(FAULTS) == ""


def test_two_rules_have_two_names(legacy):
    legacy.fail("sys/x", "read", "EIO", name="one")
    with pytest.raises(ValueError, match="another fault rule has the name one"):
        legacy.fail("sys/x", "read", "EIO", name="one")


def test_a_fault_shows_what_it_is(legacy):
    fault = legacy.fail("nmem0", "command", command=["smart", 5], status=1, times=2)
    assert fault.text == "command nmem0 command=smart,5 status=0x1 times=2"
    assert repr(fault) == f"<Fault {fault.text}>"


# The trace


def test_a_hit_is_an_effect_of_the_call(legacy):
    legacy.trace.start()
    legacy.fail("sys/bus/nd/devices/region0/size", "read", "EIO")
    legacy.fail("namespace0.0", "register", "ENOMEM")
    errno_of(legacy.read, SIZE)
    legacy.write(f"{PMEM}/unbind", "namespace0.0")
    errno_of(legacy.write, f"{PMEM}/bind", "namespace0.0")
    hits = {
        (event.op, event.errno): effect.rule
        for event in legacy.trace
        for effect in event.effects
        if effect.kind == "fault"
    }
    assert hits == {
        ("read", errno.EIO): "read sys/bus/nd/devices/region0/size errno=EIO",
        ("write", errno.ENOMEM): "register namespace0.0 errno=ENOMEM",
    }
