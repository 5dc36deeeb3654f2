"""What pyfuse3 has no parameter for when a mount begins.

The kernel and a server agree on such things in the first request, FUSE_INIT, and its reply, which pyfuse3 and libfuse
make.  They know /dev/fuse by the number of its descriptor.  So a socket takes its place for this one request; the reply
that arrives there gets the flags, and goes on to the kernel.

- The kernel may keep the texts of symbolic links.  A text never changes as long as its link is there.  When a link is
  removed, `KernelCache` has its text dropped, as it has the pages of a disk.
- The server takes away set-user-ID and set-group-ID bits.  Otherwise the kernel does so, and asks before each write
  through the page cache, which is one of 1 MiB or less, whether the file has capabilities (security.capability).
"""

from __future__ import annotations

import os
import re
import socket
import struct

#: FUSE_CACHE_SYMLINKS and FUSE_HANDLE_KILLPRIV_V2 (include/uapi/linux/fuse.h, since Linux 4.20 and 5.11).
_CACHE_SYMLINKS = 1 << 23
_HANDLE_KILLPRIV_V2 = 1 << 28

#: Where `flags` is in the request and in its reply: after the header, major, minor and max_readahead (fuse.h).
_FLAGS_IN, _FLAGS_OUT = 40 + 12, 16 + 12
_FLAGS = struct.Struct("=I")

#: `error` in the header of a reply.
_ERROR = struct.Struct("=4xi")

#: Bytes to read at once; FUSE gives no request to a reader with less than 8 KiB (FUSE_MIN_READ_BUFFER).
_BUFFER = 1 << 16

#: Earlier kernels cut a text that they keep to st_size, which is 0 in sysfs (page_get_link, fs/namei.c, Linux 6.1;
#: fuse_get_link, fs/fuse/dir.c, uses page_get_link_raw in this release).
_FIRST_KERNEL = (6, 15)


def kernel_keeps_link_texts(release: str) -> bool:
    """Whether a kernel can keep the texts of links whose st_size is 0.

    Args:
        release: as uname(2) has it.
    """
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is not None and (int(found[1]), int(found[2])) >= _FIRST_KERNEL


class InitExchange:
    """The first request of a mount and its reply.

    Args:
        keeps_link_texts: whether the kernel may keep the texts of links.
    """

    def __init__(self, *, keeps_link_texts: bool) -> None:
        self._wanted = _HANDLE_KILLPRIV_V2 | (_CACHE_SYMLINKS if keeps_link_texts else 0)
        self._kernel = -1
        self._ours: socket.socket | None = None
        self._offered = 0

    def begin(self, descriptor: int) -> None:
        """Put a socket in the place of /dev/fuse, with the request in it.

        Args:
            descriptor: that of /dev/fuse.
        """
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._kernel = os.dup(descriptor)
            request = os.read(self._kernel, _BUFFER)
            (self._offered,) = _FLAGS.unpack_from(request, _FLAGS_IN)
            os.dup2(theirs.fileno(), descriptor, inheritable=False)
        self._ours.send(request)

    @property
    def has_begun(self) -> bool:
        """Whether the socket is there."""
        return self._ours is not None

    def end(self, descriptor: int) -> None:
        """Pass the reply on, and put /dev/fuse back in its place."""
        assert self._ours is not None, "it has begun"
        reply = bytearray(self._ours.recv(_BUFFER, socket.MSG_DONTWAIT))
        (error,) = _ERROR.unpack_from(reply)
        if not error:
            (flags,) = _FLAGS.unpack_from(reply, _FLAGS_OUT)
            _FLAGS.pack_into(reply, _FLAGS_OUT, flags | self._wanted & self._offered)
        os.write(self._kernel, reply)
        os.dup2(self._kernel, descriptor, inheritable=False)
        os.close(self._kernel)
        self._ours.close()
