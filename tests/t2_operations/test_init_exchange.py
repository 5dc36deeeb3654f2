"""The first request of a mount: what the reply has beyond what pyfuse3 knows of."""

import os
import socket
import struct

import pytest

from nvdimmfs.fuse.init_exchange import InitExchange, kernel_keeps_link_texts

CACHE_SYMLINKS = 1 << 23
HANDLE_KILLPRIV_V2 = 1 << 28
BOTH = CACHE_SYMLINKS | HANDLE_KILLPRIV_V2
OTHER_FLAGS = 0x29


def request(flags):
    return struct.pack("=IIQQIIII4I", 56, 26, 1, 0, 0, 0, 0, 0, 7, 45, 0, flags)


def reply(error, flags):
    return struct.pack("=IiQ4I", 32, error, 1, 7, 45, 0, flags)


@pytest.mark.parametrize(
    ("offered", "keeps", "error", "agreed"),
    [
        (OTHER_FLAGS | BOTH, True, 0, OTHER_FLAGS | BOTH),
        (OTHER_FLAGS | BOTH, False, 0, OTHER_FLAGS | HANDLE_KILLPRIV_V2),
        (OTHER_FLAGS | CACHE_SYMLINKS, True, 0, OTHER_FLAGS | CACHE_SYMLINKS),
        (OTHER_FLAGS, True, 0, OTHER_FLAGS),
        (OTHER_FLAGS | BOTH, True, -71, OTHER_FLAGS),
    ],
)
def test_the_reply_accepts_what_the_kernel_offers(offered, keeps, error, agreed):
    device, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with device, kernel:
        kernel.send(request(offered))
        exchange, before = InitExchange(keeps_link_texts=keeps), os.fstat(device.fileno())
        exchange.begin(device.fileno())
        assert os.read(device.fileno(), 1000) == request(offered)
        os.write(device.fileno(), reply(error, OTHER_FLAGS))
        exchange.end(device.fileno())
        assert kernel.recv(1000) == reply(error, agreed)
        assert os.path.samestat(before, os.fstat(device.fileno()))


@pytest.mark.parametrize(
    ("release", "keeps"),
    [
        ("6.15.0", True),
        ("6.18.44-fc", True),
        ("7.0-rc1", True),
        ("6.14.11", False),
        ("5.19", False),
        ("unknown", False),
    ],
)
def test_earlier_kernels_would_cut_the_texts(release, keeps):
    assert kernel_keeps_link_texts(release) is keeps
