"""Updates of firmware by a tool that does nothing but ask whether they are done; recordings/ioctl has the others."""

import struct

import pytest
from ioctl_stories import Asker, from_hex
from machines import boot

from nvdimmfs.formats.intel_dsm import Status
from nvdimmfs.kernels.durations import FIRMWARE_VERIFY, IOCTL

#: ND_IOCTL_CALL, and the functions of a DIMM: start, finish, query.
CALL = 0xC0404E0A
START, FINISH, QUERY = 13, 15, 16


class Dimm:
    def __init__(self, asker, name):
        self.asker, self.name = asker, name

    def call(self, function, given, answer_size):
        """What a function answers."""
        head = struct.pack("<QQII40x", 0, function, len(given), answer_size)
        question = {"ioctl": self.name, "request": CALL, "memory": (head + given + b"\x55" * answer_size).hex()}
        answer = self.asker.ask(question)
        assert answer["result"] == 0
        return from_hex(answer["memory"])[len(head) + len(given) :]

    def begin(self):
        """Begin an update that is verified from now on, and return its context."""
        status, context = struct.unpack("<II", self.call(START, b"", 8))
        assert status == 0
        assert self.call(FINISH, struct.pack("<B3xI", 0, context), 4) == bytes(4)
        return context

    def query(self, context):
        return struct.unpack("<IQ", self.call(QUERY, struct.pack("<I", context), 12))[0]


@pytest.fixture
def asker():
    machine = boot({"machine": "nfit_test"})
    yield Asker(machine)
    machine.close()


def test_asking_often_enough_sees_the_end(asker):
    dimm, clock = Dimm(asker, "nmem0"), asker.machine.system.clock
    context = dimm.begin()
    end = clock.now - IOCTL.nanoseconds + FIRMWARE_VERIFY.nanoseconds
    queries = 0
    while dimm.query(context) == Status.UPDATE_BUSY:
        queries += 1
    assert clock.now - IOCTL.nanoseconds >= end
    assert 80 < queries < 120  # ndctl asked 97 times on a real kernel


def test_each_update_takes_its_own_time(asker):
    first, second = Dimm(asker, "nmem0"), Dimm(asker, "nmem1")
    context = first.begin()
    asker.machine.system.clock.advance(FIRMWARE_VERIFY.nanoseconds // 2)
    other = second.begin()
    asker.machine.system.clock.advance(FIRMWARE_VERIFY.nanoseconds // 2)
    assert (first.query(context), second.query(other)) == (0, Status.UPDATE_BUSY)
