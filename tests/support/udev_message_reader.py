"""Decodes the messages that `nvdimmfs.formats.udev_message` encodes (layout: there)."""

import struct

from nvdimmfs.formats.udev_message import MAGIC, PREFIX


def parse_kernel_message(message):
    """The properties of a kernel's message."""
    head, _, words = message.partition(b"\0")
    assert b"@/" in head
    return _properties(words)


def parse_udev_message(message):
    """The properties of udev's message."""
    assert message.startswith(PREFIX)
    assert int.from_bytes(message[8:12], "big") == MAGIC
    _, offset, length = struct.unpack_from("=3I", message, 12)
    assert offset + length == len(message)
    return _properties(message[offset:])


def _properties(words):
    pairs = (word.partition("=") for word in words.decode("latin-1").split("\0") if word)
    return {key: value for key, _, value in pairs}
