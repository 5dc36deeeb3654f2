"""Requests to a guest that does not answer."""

import socket

import pytest

from nvdimmfs.lab import guest
from nvdimmfs.lab.errors import GuestEndedError, LabError
from nvdimmfs.lab.guest import Guest


class SilentQemu:
    """A virtual machine that sends nothing; its kernel panics after so many looks at its console."""

    def __init__(self, looks):
        self.line, self._guest = socket.socketpair()
        self._looks = looks

    @property
    def has_panicked(self):
        self._looks -= 1
        return self._looks <= 0

    def epitaph(self):
        return "the guest's kernel panicked"

    def close(self):
        self.line.close()
        self._guest.close()


@pytest.fixture(autouse=True)
def _short_interval(monkeypatch):
    monkeypatch.setattr(guest, "_INTERVAL", 0.001)


def test_a_kernel_that_panics_and_boots_again_is_not_waited_for():
    with Guest(SilentQemu(looks=3), timeout=600) as silent, pytest.raises(GuestEndedError, match="panicked"):
        silent.wait_for_agent()


def test_a_guest_that_does_not_answer_is_waited_for_until_the_time_is_up():
    with Guest(SilentQemu(looks=10**9), timeout=0.02) as silent, pytest.raises(LabError, match=r"within 0\.02 s"):
        silent.wait_for_agent()
