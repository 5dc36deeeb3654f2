"""A DIMM that is locked, asked by the kernel and by ioctl."""

import attrs
from ioctl_stories import Asker

from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine

GET_SIZE, GET_DATA, SET_DATA = 0xC00C4E04, 0xC00C4E05, 0xC0084E06


def locked_machine():
    description = load_machine("qemu-nfit")
    (bus,) = description.buses
    dimms = tuple(attrs.evolve(dimm, locked=True) for dimm in bus.dimms)
    return Machine.described(attrs.evolve(description, buses=(attrs.evolve(bus, dimms=dimms),)), clock="steps")


def test_it_is_not_bound_and_says_why():
    asker = Asker(locked_machine())
    assert asker.ask({"read": "bus/nd/devices/nmem0/flags"}) == {"data": "lock \n"}
    assert asker.ask({"write": "bus/nd/drivers/nvdimm/bind", "data": "nmem0"}) == {"errno": "EACCES"}


def test_user_space_reads_in_the_status_that_it_is_locked():
    asker = Asker(locked_machine())
    assert asker.ask({"ioctl": "nmem0", "request": GET_SIZE, "memory": "00*12"}) == {
        "result": 0,
        "memory": "0000000000000200ec0f0000",
    }
    read = {"ioctl": "nmem0", "request": GET_DATA, "memory": "00000000 10000000 00000000 55*16"}
    assert asker.ask(read) == {"result": 16, "memory": "000000001000000003000000 55*16"}
    write = {"ioctl": "nmem0", "request": SET_DATA, "memory": "00000000 04000000 61626364 00000000"}
    assert asker.ask(write) == {"result": 0, "memory": "00000000040000006162636403000000"}
