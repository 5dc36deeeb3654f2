"""Questions that a real kernel does not survive: no walk asks them.

Moves that need an order of several questions avoid it themselves (`moves_nd.disable_dimm`, `moves_holders.hold`).
"""

from __future__ import annotations

import re

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.block_requests import BlockRequest
from nvdimmfs.lab.asking import Call
from nvdimmfs.lab.trees import InProcess

#: The questions, and the requests of an ioctl, that write to a disk.
_WRITING = frozenset({"pwrite", "mount", "umount"})
_WRITING_REQUESTS = frozenset({BlockRequest.BLKZEROOUT.value})

#: The disk of a btt, or a partition of it, on memory of a virtio-pmem device.
_BTT_OF_VIRTIO = re.compile(r".*/virtio\d+/.*/btt\d+\.\d+/.*")


def is_fatal(tree: InProcess, call: Call) -> bool:
    """Whether the kernel does not survive a question.

    It does not survive a write to a BTT on virtio-pmem.  btt_write_pg (drivers/nvdimm/btt.c) holds a lane of the
    region, with which it must not sleep, and virtio_pmem_flush (drivers/nvdimm/nd_virtio.c) sleeps until the host is
    done.  The first write ends in a segmentation fault of the writer, or a panic (Linux 6.1 and 6.12).  Reads do no
    harm.

    Args:
        tree: the emulated machine, as it is at the moment.
        call: the question.
    """
    return _writes(call) and _BTT_OF_VIRTIO.fullmatch(_path_of_disk(tree, call["dev"])) is not None


def _writes(call: Call) -> bool:
    return call["op"] in _WRITING or (call["op"] == "ioctl" and call["request"] in _WRITING_REQUESTS)


def _path_of_disk(tree: InProcess, node: str) -> str:
    """Where in /sys a disk is; empty if there is none of that name."""
    try:
        return tree.readlink(f"class/block/{node}")
    except KernelError:
        return ""
