"""Media in files of a host whose disk is full."""

import errno
import os

import pytest
from poke import Hands

from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.units import GIB


def refuse(*_arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["pwrite", "posix_fallocate"])
@pytest.mark.parametrize(
    ("kind", "settings"), [("pfn", {"mode": "pmem"}), ("dax", {"mode": "pmem"}), ("btt", {"sector_size": 512})]
)
def test_a_device_that_could_not_be_bound_is_bound_once_there_is_room(kind, settings, call, tmp_path, monkeypatch):
    machine = Machine.legacy("512M!4G", 4 * GIB, tmp_path, clock="steps")
    hands = Hands.of(machine)
    seed = hands.configure(0, kind, **settings)
    before = hands.snapshot()
    with monkeypatch.context() as full:
        full.setattr(os, call, refuse)
        with pytest.raises(OSError, match="No space left on device"):
            hands.bind(seed)
    assert hands.snapshot() == before
    hands.bind(seed)
    assert hands.driver_of(seed)
    machine.close()


@pytest.mark.parametrize("name", ["e820", "qemu-nfit-labelled"])
def test_a_machine_whose_media_cannot_be_made_does_not_boot(name, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(OSError, match="No space left on device"):
        Machine.described(load_machine(name), tmp_path, clock="steps")
