"""`nvdimmfs.testing.Engine`: a machine in the process of a test."""

from __future__ import annotations

import errno
import os
import stat
import struct
import subprocess
import sys
import threading

import pytest
from mounting import environment

from nvdimmfs.formats.block_requests import BLKPG, BLKPG_ADD, BLKROSET
from nvdimmfs.machine.first_boot import NewMachineError
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.testing import ARGUMENT_ADDRESS, Engine

UNBIND = "/sys/bus/nd/drivers/nd_pmem/unbind"

ND = "sys/bus/nd"
UUID = "01234567-89ab-cdef-0123-456789abcdef"

#: ND_IOCTL_GET_CONFIG_SIZE and ND_IOCTL_ARS_CAP (include/uapi/linux/ndctl.h): direction, size, 'N', number.
GET_CONFIG_SIZE = 0xC00C4E04
ARS_CAP = 0xC0204E01


@pytest.fixture
def engine():
    with Engine(memmap="512M!4G") as engine:
        yield engine


@pytest.fixture
def dimms():
    with Engine("nfit_test") as engine:
        yield engine


class TestFiles:
    @pytest.mark.parametrize("path", [f"{ND}/devices/region0/size", f"/{ND}/devices/region0/size"])
    def test_paths_may_be_absolute_or_below_the_root(self, engine, path):
        assert engine.read(path) == "536870912\n"
        assert engine.read_bytes(path) == b"536870912\n"

    def test_a_write_has_the_effects_of_the_kernels(self, engine):
        assert engine.write(f"{ND}/drivers/nd_pmem/unbind", "namespace0.0") == len("namespace0.0")
        assert engine.ls("dev") == []
        for name, value in {"mode": "pmem", "uuid": UUID, "namespace": "namespace0.0", "align": 2 << 20}.items():
            engine.write(f"{ND}/devices/pfn0.0/{name}", value)
        engine.write(f"{ND}/drivers/nd_pmem/bind", b"pfn0.0\n")
        assert engine.ls("/dev") == ["pmem0"]
        assert engine.read(f"{ND}/devices/pfn0.0/align") == "2097152\n"

    def test_a_refused_write_is_made_once(self, engine):
        """Unlike Path.write_text, which writes again when it closes the file."""
        engine.write(f"{ND}/drivers/nd_pmem/unbind", "namespace0.0")
        engine.write("sys/kernel/debug/nvdimmfs/fail_registration", "ENOMEM")
        with pytest.raises(OSError, match="Cannot allocate memory") as refusal:
            engine.write(f"{ND}/drivers/nd_pmem/bind", "namespace0.0")
        assert refusal.value.errno == errno.ENOMEM
        assert "namespace0.0" not in engine.ls(f"{ND}/drivers/nd_pmem")
        assert engine.read("sys/kernel/debug/nvdimmfs/fail_registration") == "none\n"

    def test_a_text_is_written_in_utf_8(self):
        with Engine("qemu-nfit-labelled") as engine:
            name = f"{ND}/devices/namespace0.0/alt_name"
            engine.write(name, "größer")
            assert engine.read(name) == "größer\n"

    def test_bytes_of_a_disk_are_read_and_written_at_an_offset(self, engine):
        size = engine.stat("dev/pmem0").st_size
        assert engine.write("dev/pmem0", b"bytes", size - 3) == 3
        assert engine.read_bytes("dev/pmem0", size - 5) == b"\0\0byt"
        assert engine.read_bytes("dev/pmem0", size - 5, 4) == b"\0\0by"
        with pytest.raises(OSError, match="No space left") as refusal:
            engine.write("dev/pmem0", b"x", size)
        assert refusal.value.errno == errno.ENOSPC
        assert engine.write("dev/pmem0", b"", size) == 0

    @pytest.mark.parametrize("value", [1, True, "1", b"1", bytearray(b"1"), memoryview(b"1")])
    def test_types_that_can_be_written(self, engine, value):
        path = f"{ND}/devices/namespace0.0/force_raw"
        assert engine.write(path, value) == 1
        assert engine.read(path) == "1\n"

    def test_a_float_cannot_be_written(self, engine):
        with pytest.raises(TypeError, match="a float cannot be written"):
            engine.write(f"{ND}/devices/namespace0.0/force_raw", 1.0)

    def test_names_and_links(self, engine):
        assert engine.ls() == ["dev", "proc", "sys"]
        assert engine.readlink(f"{ND}/devices/region0") == "../../../devices/platform/e820_pmem/ndbus0/region0"
        assert engine.exists(f"{ND}/devices/region0/size")
        assert not engine.exists(f"{ND}/devices/region1")
        assert not engine.exists(f"{ND}/devices/region0/size/x")
        assert not engine.exists("")

    def test_status(self, engine):
        attribute = engine.stat(f"{ND}/devices/region0/size")
        assert (stat.filemode(attribute.st_mode), attribute.st_size) == ("-r--r--r--", 4096)
        assert stat.S_ISLNK(engine.lstat(f"{ND}/devices/region0").st_mode)
        assert stat.S_ISDIR(engine.stat(f"{ND}/devices/region0").st_mode)
        assert engine.stat("/").st_nlink == 5


class TestRefusals:
    @pytest.mark.parametrize(
        ("call", "path", "kind"),
        [
            ("read", "", FileNotFoundError),
            ("ls", "", FileNotFoundError),
            ("read", f"{ND}/devices/region9/size", FileNotFoundError),
            ("read", f"{ND}/devices", IsADirectoryError),
            ("write", f"{ND}/devices", IsADirectoryError),
            ("read", f"{ND}/devices/region0/size/x", NotADirectoryError),
            ("ls", f"{ND}/devices/region0/size", NotADirectoryError),
            ("read", f"{ND}/drivers/nd_pmem/bind", PermissionError),
            ("write", f"{ND}/devices/region0/size", PermissionError),
        ],
    )
    def test_a_refusal_has_the_class_of_its_errno(self, engine, call, path, kind):
        with pytest.raises(kind) as refusal:
            getattr(engine, call)(path, *(["1"] if call == "write" else []))
        assert refusal.value.filename == path

    def test_the_reason_is_a_note(self, engine):
        with pytest.raises(OSError, match="Device or resource busy") as refusal:
            engine.write(f"/{ND}/drivers/nd_pmem/bind", "namespace0.0")
        assert refusal.value.__notes__ == ["namespace0.0 is bound to nd_pmem"]
        assert str(refusal.value) == f"[Errno 16] Device or resource busy: '/{ND}/drivers/nd_pmem/bind'"

    def test_the_refusals_behind_a_refusal_are_notes_as_well(self):
        with Engine(memmap="512M!4G", kernel="4.3") as engine:
            engine.write(f"{ND}/drivers/nd_pmem/unbind", "namespace0.0")
            engine.write("sys/kernel/debug/nvdimmfs/fail_registration", "ENOMEM")
            with pytest.raises(OSError, match="No such device") as refusal:
                engine.write(f"{ND}/drivers/nd_pmem/bind", "namespace0.0")
        assert refusal.value.__notes__[-1].startswith("because of ENOMEM: ")

    def test_a_host_whose_disk_is_full(self, engine, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(MemoryMedia, "write", full)
        with pytest.raises(OSError, match="dev/pmem0") as refusal:
            engine.write("dev/pmem0", b"x")
        assert refusal.value.errno == errno.ENOSPC
        assert refusal.value.__notes__ == ["error of the host: No space left on device"]

    def test_readlink_of_a_file(self, engine):
        with pytest.raises(OSError, match="Invalid argument"):
            engine.readlink("proc/iomem")


class TestIoctl:
    def test_bytes_are_answered_with_bytes(self, dimms):
        answer = dimms.ioctl("/dev/nmem0", GET_CONFIG_SIZE, bytes(12))
        assert answer == (0).to_bytes(4, "little") + (128 << 10).to_bytes(4, "little") + answer[8:]

    def test_a_bytearray_is_changed_in_place(self, dimms):
        memory = bytearray(12)
        assert dimms.ioctl("dev/nmem0", GET_CONFIG_SIZE, memory) == 0
        assert memory[4:8] == (128 << 10).to_bytes(4, "little")

    def test_memory_beyond_the_argument_is_not_mapped(self, dimms):
        with pytest.raises(OSError, match="Bad address"):
            dimms.ioctl("dev/ndctl0", ARS_CAP, bytes(5))

    def test_a_device_opened_for_reading(self, dimms):
        with pytest.raises(PermissionError) as refusal:
            dimms.ioctl("dev/nmem0", 0xC0004E06, bytes(64), flags=os.O_RDONLY)
        assert refusal.value.errno == errno.EPERM

    def test_a_disk_becomes_read_only(self, engine):
        engine.ioctl("dev/pmem0", BLKROSET, (1).to_bytes(4, "little"))
        assert engine.read("sys/class/block/pmem0/ro") == "1\n"

    def test_an_argument_may_contain_addresses_of_itself(self, engine):
        """struct blkpg_ioctl_arg, and behind it the struct blkpg_partition that it points to."""
        partition = struct.pack("<qqi132x", 1 << 20, 1 << 20, 1)
        request = struct.pack("<iii4xQ", BLKPG_ADD, 0, len(partition), ARGUMENT_ADDRESS + 24)
        engine.ioctl("dev/pmem0", BLKPG, request + partition)
        assert engine.ls("dev") == ["pmem0", "pmem0p1"]

    @pytest.mark.parametrize(
        ("path", "number"),
        [("dev/nmem9", errno.ENOENT), ("sys/bus/nd/uevent", errno.ENOTTY), ("proc/iomem", errno.ENOTTY)],
    )
    def test_files_that_take_no_ioctl(self, dimms, path, number):
        with pytest.raises(OSError, match=path) as refusal:
            dimms.ioctl(path, GET_CONFIG_SIZE, b"")
        assert refusal.value.errno == number


class TestMachine:
    def test_without_an_argument_it_is_that_of_the_command_line(self):
        with Engine() as engine:
            assert [name for name in engine.ls(f"{ND}/devices") if name.startswith("region")] == ["region0", "region1"]

    @pytest.mark.parametrize("ram", ["8G", 8 << 30])
    def test_arguments_replace_what_a_machine_has(self, ram):
        with Engine("e820", memmap="1G!4G", ram=ram, kernel="4.5", clock="manual") as engine:
            assert engine.read(f"{ND}/devices/region0/size") == f"{1 << 30}\n"
            assert engine.layout["kernel"] == "4.5"
            assert engine.clock.mode == "manual"
            assert engine.layout["system_ram"][-1]["start"] == 5 << 30

    def test_a_machine_is_a_name_a_path_or_a_description(self, tmp_path):
        file = tmp_path / "machine.toml"
        file.write_text("memmap = '64M!4G'\n")
        for machine in (file, str(file), load_machine(file)):
            with Engine(machine) as engine:
                assert engine.read(f"{ND}/devices/region0/size") == f"{64 << 20}\n"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"machine": "no-such-machine"}, "no-such-machine: unknown machine"),
            ({"machine": "/no/such.toml"}, "No such file"),
            ({"memmap": "0M!4G"}, "memmap"),
            ({"ram": "8Q"}, "ram"),
            ({"ram": 1}, "ram"),
            ({"kernel": "7.9"}, "kernel"),
            ({"clock": "wall"}, "clock"),
            ({"machine": "qemu-nfit", "memmap": "512M!6G"}, "overlaps memmap"),
        ],
    )
    def test_a_machine_that_cannot_exist(self, arguments, message):
        with pytest.raises(ValueError, match=message) as error:
            Engine(**arguments)
        assert "\n" not in str(error.value)

    def test_media_keep_the_bytes(self, tmp_path):
        for before, after in ((bytes(3), b"one"), (b"one", b"two")):
            with Engine(memmap="64M!4G", media=tmp_path / "media") as engine:
                assert engine.read_bytes("dev/pmem0", 0, 3) == before
                engine.write("dev/pmem0", after)

    def test_a_closed_machine_cannot_be_used(self):
        engine = Engine()
        engine.close()
        engine.close()
        for use in (
            lambda: engine.read("proc/iomem"),
            lambda: engine.clock.now,
            lambda: engine.modules.loaded,
            lambda: engine.clock.advance(1),
        ):
            with pytest.raises(ValueError, match="the engine is closed"):
                use()

    def test_modules(self, engine):
        assert "nd_pmem" in engine.modules.loaded
        assert set(engine.modules.loaded) < {*engine.modules.known, "x"}
        engine.modules.unload("nd_pmem")
        assert engine.ls("dev") == []
        with pytest.raises(FileNotFoundError, match="nd_pmem"):
            engine.modules.unload("nd_pmem")
        engine.modules.load("nd_pmem")
        assert engine.ls("dev") == ["pmem0"]

    def test_events_are_in_order_and_a_cursor_finds_the_new_ones(self, engine):
        assert engine.events.new() == []
        engine.write(f"{ND}/drivers/nd_pmem/unbind", "namespace0.0")
        removed = engine.events.new()
        assert str(removed[-1]) == "unbind@/devices/platform/e820_pmem/ndbus0/region0/namespace0.0"
        assert ("remove", "pmem0") in [(event.action, event.name) for event in removed]
        assert [int(event.properties["SEQNUM"]) for event in removed] == sorted(
            int(event.properties["SEQNUM"]) for event in removed
        )
        assert engine.events.new() == []
        engine.write(f"{ND}/drivers/nd_pmem/bind", "namespace0.0")
        assert list(engine.events) == removed + engine.events.new()
        assert len(engine.events) > len(removed)
        assert list(engine.events[: len(removed)]) == removed

    def test_time_passes_when_it_is_told_to(self, dimms):
        scrub = f"{ND}/devices/ndbus0/nfit/scrub"
        assert dimms.read(scrub) == "0+\n"
        assert "scrub" in dimms.clock.pending[0].what
        before = dimms.clock.now
        dimms.clock.advance(60)
        assert dimms.clock.now == pytest.approx(before + 60)
        assert dimms.read(scrub) == "1\n"
        with pytest.raises(ValueError, match="backwards"):
            dimms.clock.advance(-1)

    def test_its_clock_moves_by_steps_unless_something_else_is_requested(self, tmp_path):
        file = tmp_path / "machine.toml"
        file.write_text("memmap = '64M!4G'\nclock = 'manual'\n")
        for arguments, mode in (({}, "steps"), ({"clock": "real"}, "real"), ({"machine": file}, "manual")):
            with Engine(**arguments) as engine:
                assert engine.clock.mode == mode

    def test_it_is_drawn(self, engine):
        assert "namespace0.0" in engine.show()
        assert repr(engine) == "<Engine>"

    def test_threads_take_turns(self, engine):
        """Each thread binds and unbinds; whatever the order, an answer is success or EBUSY, ENODEV or ENXIO."""
        unexpected = []

        def rebind():
            for _ in range(20):
                for verb in ("unbind", "bind"):
                    try:
                        engine.write(f"{ND}/drivers/nd_pmem/{verb}", "namespace0.0")
                    except OSError as refusal:
                        if refusal.errno not in (errno.EBUSY, errno.ENODEV, errno.ENXIO):
                            unexpected.append(refusal)
                    except Exception as bug:
                        unexpected.append(bug)

        threads = [threading.Thread(target=rebind) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert unexpected == []


def test_importing_the_package_loads_nothing_else():
    """Not even typing, which is more than half of the time that Python needs to start."""
    program = "import sys; before = {*sys.modules}; import nvdimmfs.testing; print(*sorted({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-S", "-c", program], env=environment(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("__future__ nvdimmfs nvdimmfs.testing\n", "")


# Checkpoints and hot plug


def test_a_checkpoint_brings_everything_back_at_its_end():
    with Engine("qemu-nfit") as engine:
        before = engine.dump()
        with engine.checkpoint() as checkpoint:
            for _ in range(2):
                engine.write(UNBIND, "namespace0.0")
                assert engine.dump() != before
                checkpoint.reset()
                assert engine.dump() == before
            engine.write(UNBIND, "namespace0.0")
        assert engine.dump() == before
        engine.write(UNBIND, "namespace0.0")
        engine.reset()
        assert engine.dump() == before


def test_no_checkpoint_and_none_to_go_back_to(tmp_path):
    with Engine(memmap="64M!4G", media=tmp_path) as engine, pytest.raises(ValueError, match="--media"):
        engine.checkpoint()
    with Engine() as engine, pytest.raises(ValueError, match="no checkpoint yet"):
        engine.reset()


def test_a_dimm_is_plugged_in():
    with Engine("qemu-nfit") as engine:
        dimms = [name for name in engine.ls("/sys/bus/nd/devices") if name.startswith("nmem")]
        engine.plug("dimm size=64M")
        assert engine.exists(f"/sys/bus/nd/devices/nmem{len(dimms)}")
        with pytest.raises(OSError, match="Invalid argument") as refusal:
            engine.plug("dimm sizes=64M")
        assert refusal.value.errno == errno.EINVAL


class TestPowerCycle:
    @pytest.mark.parametrize("in_files", [False, True])
    def test_the_media_keep_what_they_have_and_the_kernel_keeps_nothing(self, in_files, tmp_path):
        with Engine(memmap="512M!4G,256M!6G", ram="8G", media=tmp_path / "media" if in_files else None) as engine:
            engine.write("/dev/pmem1", b"kept", 4096)
            engine.write(UNBIND, "namespace0.0")
            for name, value in {"mode": "pmem", "uuid": UUID, "namespace": "namespace0.0"}.items():
                engine.write(f"{ND}/devices/pfn0.0/{name}", value)
            engine.write(f"{ND}/drivers/nd_pmem/bind", "pfn0.0")
            engine.write(f"{ND}/drivers/nd_pmem/unbind", "namespace1.0")
            engine.modules.unload("device_dax")
            before = len(engine.events)
            engine.power_cycle()
            assert engine.ls("dev") == ["pmem0", "pmem1"]
            assert engine.readlink("/sys/block/pmem0/device").endswith("pfn0.1")
            assert engine.read(f"{ND}/devices/pfn0.1/uuid") == f"{UUID}\n"
            assert engine.read_bytes("/dev/pmem1", 4096, 4) == b"kept"
            assert "device_dax" in engine.modules.loaded
            assert engine.clock.now < 60
            assert len(engine.events) == before
            engine.write(UNBIND, "namespace1.0")
            assert [event.action for event in engine.events[before:]][-1] == "unbind"
            assert [event.op for event in engine.trace.writes()] == ["write"]

    def test_a_cut_power_returns(self):
        with Engine("qemu-nfit-labelled") as engine:
            namespace = f"{ND}/devices/{engine.read(f'{ND}/devices/region0/namespace_seed').strip()}"
            engine.write(f"{namespace}/uuid", UUID)
            fault = engine.fail("*", "media-write", power_cut=True)
            with pytest.raises(OSError, match="Input/output error"):
                engine.write(f"{namespace}/size", 32 << 20)
            engine.power_cycle()
            assert engine.read(f"{namespace}/size") == "0\n"
            fault.remove()
            assert fault.hits == 1
            engine.write(f"{namespace}/uuid", UUID)
            engine.write(f"{namespace}/size", 32 << 20)
            engine.power_cycle()
            assert engine.read(f"{namespace}/size") == f"{32 << 20}\n"

    def test_labels_of_the_machine_file_are_written_once(self, tmp_path):
        """They are those of a new machine: what became of them since is kept."""
        machine = """
            [[bus]]
            [[bus.dimm]]
            handle = 1
            label = { size = "128K", initialised = "1.2" }
            [[bus.range]]
            size = "64M"
            dimms = ["0x1"]
            [[bus.range.namespace]]
            uuid = "00000001-1111-2222-3333-000000000000"
            size = "32M"
        """
        file = tmp_path / "labelled.toml"
        file.write_text(machine)
        namespace = f"{ND}/devices/namespace0.0"
        with Engine(file) as engine:
            engine.power_cycle()
            assert engine.read(f"{namespace}/size") == f"{32 << 20}\n"
            engine.write(UNBIND, "namespace0.0")
            engine.write(f"{namespace}/size", 16 << 20)
            engine.power_cycle()
            assert engine.read(f"{namespace}/size") == f"{16 << 20}\n"

    def test_devices_that_were_plugged_in_stay(self):
        with Engine("one-dimm") as engine:
            dimms = len(engine.ls("/sys/class/nd"))
            engine.plug("dimm size=1G label=128K")
            before = engine.ls(f"{ND}/devices")
            engine.power_cycle()
            assert [name for name in engine.ls(f"{ND}/devices") if name.startswith("nmem")] == [
                name for name in before if name.startswith("nmem")
            ]
            assert dimms == len(engine.ls("/sys/class/nd"))

    def test_a_checkpoint_of_before_is_refused(self, engine):
        checkpoint = engine.checkpoint()
        engine.power_cycle()
        with pytest.raises(ValueError, match="booted again"):
            checkpoint.reset()
        with pytest.raises(ValueError, match="no checkpoint"):
            engine.reset()
        with engine.checkpoint():
            engine.write(UNBIND, "namespace0.0")
        assert engine.ls("dev") == ["pmem0"]

    def test_a_rule_of_the_machine_file_applies_again(self, tmp_path):
        file = tmp_path / "machine.toml"
        file.write_text(f"""
            memmap = "512M!4G"
            [[fault]]
            operation = "read"
            path = "{ND}/devices/region0/size"
            errno = "EIO"
            times = 1
        """)
        with Engine(file) as engine:
            for _ in range(2):
                with pytest.raises(OSError, match="Input/output error"):
                    engine.read(f"{ND}/devices/region0/size")
                assert engine.read(f"{ND}/devices/region0/size") == "536870912\n"
                engine.power_cycle()

    def test_a_machine_that_cannot_boot_is_closed(self, engine, monkeypatch):
        def fail(_: Machine) -> Machine:
            raise NewMachineError("cannot boot: no power")

        monkeypatch.setattr(Machine, "power_cycled", fail)
        with pytest.raises(ValueError, match="cannot boot: no power"):
            engine.power_cycle()
        with pytest.raises(ValueError, match="closed"):
            engine.ls()


def test_what_is_before_a_bad_page_is_written(engine):
    """As write(2) returns it: tests/recordings/e820/bad-pages has all cases."""
    engine.write("/sys/block/pmem0/badblocks", "16 1")
    with pytest.raises(OSError, match="Input/output error"):
        engine.read_bytes("/dev/pmem0", 8192, 512)
    assert engine.write("/dev/pmem0", b"x" * 4097, 4096) == 4096
    assert engine.read_bytes("/dev/pmem0", 8191, 1) == b"x"
    assert engine.write("/dev/pmem0", b"y" * 4097, 8192) == 4097
    assert engine.read("/sys/block/pmem0/badblocks") == ""
