"""Messages of the kernel and of udev, byte for byte."""

import sys

import hypothesis.strategies as st
import libudev
import pytest
from hypothesis import given
from udev_message_reader import parse_kernel_message, parse_udev_message

from nvdimmfs.formats.udev_message import (
    PROPERTIES_SIZE,
    kernel_message,
    murmur_hash2,
    string_hash,
    tag_bloom,
    udev_message,
)

EVENT = {"ACTION": "add", "DEVPATH": "/devices/x", "SUBSYSTEM": "nd", "SEQNUM": "7"}
WORDS = b"ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=nd\0SEQNUM=7\0"

TEXT = st.text(st.characters(codec="latin-1", exclude_characters="\0"), max_size=20)
KEYS = TEXT.filter(lambda key: key and "=" not in key)
EVENTS = st.dictionaries(KEYS, TEXT).map(lambda more: {**EVENT, **more, "DEVPATH": "/devices/x"})


def test_the_kernels_message():
    assert kernel_message([*EVENT.items()]) == b"add@/devices/x\0" + WORDS


def test_udevs_message():
    message = udev_message(EVENT)
    header, words = message[:40], message[40:]
    assert words == WORDS
    assert header[:12] == b"libudev\0\xfe\xed\xca\xfe"
    assert [int.from_bytes(header[at : at + 4], sys.byteorder) for at in (12, 16, 20)] == [40, 40, len(WORDS)]
    assert header[24:28] == murmur_hash2(b"nd").to_bytes(4, "big")
    assert header[28:] == bytes(12), "neither a devtype nor tags"


def test_udevs_message_of_a_device_with_type_and_tags():
    header = udev_message({**EVENT, "DEVTYPE": "nd_pmem", "TAGS": ":seat:systemd:"})[:40]
    assert header[28:32] == murmur_hash2(b"nd_pmem").to_bytes(4, "big")
    assert header[32:] == tag_bloom(["systemd", "seat"]).to_bytes(8, "big")


@given(EVENTS)
def test_messages_are_unpacked_as_they_were_packed(properties):
    assert parse_udev_message(udev_message(properties)) == properties
    assert parse_kernel_message(kernel_message([*properties.items()])) == properties


@pytest.mark.parametrize("more", [{"A=B": "c"}, {"": "c"}, {"A": "b\0c"}, {"A\0": "c"}])
@pytest.mark.parametrize("pack", [lambda event: kernel_message([*event.items()]), udev_message])
def test_no_listener_reads_something_else(pack, more):
    with pytest.raises(ValueError, match="is not a valid property"):
        pack(EVENT | more)


def test_the_kernel_has_no_room_for_more():
    room = PROPERTIES_SIZE - len(WORDS) - len("A=\0")
    kernel_message([*EVENT.items(), ("A", "x" * room)])
    with pytest.raises(ValueError, match="2049 bytes of properties are more than 2048"):
        kernel_message([*EVENT.items(), ("A", "x" * (room + 1))])


def test_the_kernel_says_a_key_as_often_as_it_is_written():
    message = kernel_message([*EVENT.items(), ("A", "1"), ("A", "2"), ("A", "1")])
    assert message == b"add@/devices/x\0" + WORDS + b"A=1\0A=2\0A=1\0"


@pytest.fixture(scope="module")
def library():
    try:
        return libudev.load()
    except OSError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("text", ["nd", "bdi", "disk", "block", "nd_pfn", "nd_pmem", "platform", "nd_namespace_io"])
def test_hashes_are_those_that_libudev_filters_by(library, text):
    subsystem = libudev.Monitor.open(library, "udev", [(text, None)])
    devtype = libudev.Monitor.open(library, "udev", [("nd", text)])
    assert string_hash(text) in subsystem.filter_constants()
    assert {string_hash("nd"), string_hash(text)} <= devtype.filter_constants()
    assert string_hash(text + "x") not in subsystem.filter_constants() | devtype.filter_constants()


@pytest.mark.parametrize("tag", ["systemd", "seat", "uaccess", "x"])
def test_tags_are_those_that_libudev_filters_by(library, tag):
    bloom = tag_bloom([tag])
    monitor = libudev.Monitor.open(library, "udev", [], [tag])
    assert {bloom >> 32, bloom & 0xFFFFFFFF} <= monitor.filter_constants()
