"""Updates of firmware whose user asks all the time, and leaves the kernel no rest; recordings/ioctl has the others."""

import struct

import pytest
from ioctl_stories import Asker, from_hex
from machines import boot

from nvdimmfs.platforms.nfit_test.update import STILL_BUSY, VERIFY_QUERIES

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
    dimm = Dimm(asker, "nmem0")
    context = dimm.begin()
    assert [dimm.query(context) for _ in range(VERIFY_QUERIES + 2)] == [STILL_BUSY] * VERIFY_QUERIES + [0, 0]


def test_each_dimm_counts_for_itself(asker):
    first, second = Dimm(asker, "nmem0"), Dimm(asker, "nmem1")
    contexts = first.begin(), second.begin()
    for _ in range(VERIFY_QUERIES):
        first.query(contexts[0])
    assert (first.query(contexts[0]), second.query(contexts[1])) == (0, STILL_BUSY)
