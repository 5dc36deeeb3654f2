"""A medium of the host that fails: the engine goes on, and what did not succeed has not happened."""

import contextlib
import errno
import os
import struct

import pytest
from control_session import ControlSession
from poke import DEBUG, ND, Hands

from nvdimmfs.core.device_number import dimm_number
from nvdimmfs.formats import control

GET_DATA = 0xC00C4E05


@contextlib.contextmanager
def failing(hands, monkeypatch):
    """Every access to the machine's media is EIO."""

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    storage = hands.machine.storage
    with monkeypatch.context() as patch:
        for media in (*storage._media.values(), *storage._label_areas.values()):
            patch.setattr(media, "read", fail)
            patch.setattr(media, "write", fail)
            patch.setattr(media, "is_blank", lambda *_: False)  # nothing is known of a file before it is read
        yield


@pytest.fixture
def labelled():
    return Hands.described("qemu-nfit-labelled")


def test_a_driver_is_loaded_although_its_first_probe_fails(monkeypatch, log_watch):
    log_watch.expect("nd_pmem does not bind namespace0.0: EIO")
    hands = Hands.on("64M!4G")
    hands.write(f"{DEBUG}/modules", "unload nd_pmem")
    with failing(hands, monkeypatch):
        hands.write(f"{DEBUG}/modules", "load nd_pmem")
        assert hands.driver_of("namespace0.0") is None
    assert "nd_pmem: loaded" in hands.debug("modules")
    hands.write(f"{ND}/drivers_probe", "namespace0.0")
    assert hands.driver_of("namespace0.0") == "nd_pmem"


def test_a_platform_is_loaded_although_no_label_can_be_read(labelled, monkeypatch, log_watch):
    log_watch.expect(r"nvdimm does not bind nmem\d: EIO")
    log_watch.expect(r"nd_pmem does not bind namespace\d.0: EIO")
    labelled.write("bus/acpi/drivers/nfit/unbind", "ACPI0012:00")
    labelled.write(f"{DEBUG}/modules", "unload nfit")
    with failing(labelled, monkeypatch):
        labelled.write(f"{DEBUG}/modules", "load nfit")
        assert labelled.driver_of("nmem0") is None
    labelled.write(f"{ND}/drivers_probe", "nmem0")
    assert labelled.driver_of("nmem0") == "nvdimm"


def test_a_disk_whose_partition_table_cannot_be_read_has_no_partitions(monkeypatch, log_watch):
    log_watch.expect("pmem0 has no partitions: EIO")
    hands = Hands.on("64M!4G")
    disk = next(each for each in hands.machine.system.numbered.values() if each.name == "pmem0")
    with failing(hands, monkeypatch):
        disk.rescan_partitions()
    assert disk.partitions == []


def test_a_control_session_is_answered_with_the_errno(labelled, monkeypatch):
    session = ControlSession(labelled.machine)
    number, memory = dimm_number(0), struct.pack("<III", 0, 128, 0) + bytes(128)
    call = control.Ioctl("char", number.major, number.minor, GET_DATA, 4096, writable=True, privileged=True)
    with failing(labelled, monkeypatch):
        answer = session.request(call)
        while isinstance(answer, control.ReadMemory):
            answer = session.request(control.Copied(memory[answer.offset : answer.offset + answer.length]))
    assert isinstance(answer, control.Refused)
    assert answer.errno == errno.EIO


def test_a_module_is_gone_although_the_host_refuses_what_its_end_writes(monkeypatch):
    hands = Hands.on("64M!4G")
    system = hands.machine.system

    @contextlib.contextmanager
    def refused():
        yield
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(system, "transaction", refused)
    with pytest.raises(OSError, match="No space left"):
        hands.write(f"{DEBUG}/modules", "unload nd_pmem")
    monkeypatch.undo()
    assert "nd_pmem: not loaded" in hands.debug("modules")
    hands.write(f"{DEBUG}/modules", "load nd_pmem")
    assert "nd_pmem: loaded" in hands.debug("modules")
