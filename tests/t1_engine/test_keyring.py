"""How the host's keyrings are read, and the digests that stand in for keys' secrets."""

import errno
import os

import pytest

from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.keyring import UserKeyring

KEYS = {
    1: ("encrypted", "first", b"enc32 user:master 32 00ff"),
    2: ("encrypted", "second", b"enc32 user:master 32 00fe"),
    3: ("encrypted", "copy of the first", b"default user:master 32 00ff"),
    4: ("encrypted", "long", b"default user:master 64 00ff"),
    5: ("user", "plain", b"enc32 user:master 32 00ff"),
}


def refuse(number):
    raise OSError(number, os.strerror(number))


@pytest.fixture
def keyring(monkeypatch):
    def find(kind, description):
        for serial, (key_kind, name, _) in KEYS.items():
            if (key_kind, name) == (kind, description):
                return serial
        return refuse(errno.ENOKEY)

    def known(serial):
        return KEYS.get(serial) or refuse(errno.ENOKEY)

    monkeypatch.setattr(libc, "possess_user_keyring", lambda: None)
    monkeypatch.setattr(libc, "find_key", find)
    monkeypatch.setattr(libc, "key_description", lambda serial: f"{known(serial)[0]};0;0;0;x".encode())
    monkeypatch.setattr(libc, "key_contents", lambda serial: known(serial)[2])
    return UserKeyring()


def test_a_secret_is_known_by_its_encryption(keyring):
    first, second, copy = (keyring.payload(serial) for serial in (1, 2, 3))
    assert first == copy != second
    assert len(first) == 32


def test_a_name_finds_the_same_secret_as_the_number(keyring):
    assert keyring.find("second") == keyring.payload(2)


@pytest.mark.parametrize("serial", [4, 5, 6])
def test_other_keys_are_no_passphrases(keyring, serial):
    assert keyring.payload(serial) is None


def test_names_of_other_keys_are_not_found(keyring):
    assert keyring.find("plain") is None


def test_a_host_without_keys_has_none(monkeypatch):
    monkeypatch.setattr(libc, "possess_user_keyring", lambda: refuse(errno.ENOSYS))
    keyring = UserKeyring()
    assert keyring.payload(1) is None
    assert keyring.find("first") is None
