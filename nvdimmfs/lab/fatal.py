"""Questions that a guest does not survive: no walk asks them.

Moves that need an order of several questions avoid it themselves (`moves_nd.disable_dimm`, `moves_holders.hold`).
"""

from __future__ import annotations

import re

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.block_requests import BlockRequest
from nvdimmfs.formats.ndctl import CALL, PACKAGE_SIZE, DimmCommand, LabelWrite, Package
from nvdimmfs.lab.asking import Call
from nvdimmfs.lab.nfit_test import NFIT_TEST
from nvdimmfs.lab.trees import InProcess

#: The questions, and the requests of an ioctl, that write to a disk.
_WRITING = frozenset({"pwrite", "mount", "umount"})
_WRITING_REQUESTS = frozenset({BlockRequest.BLKZEROOUT.value})

#: The disk of a btt, or a partition of it, on memory of a virtio-pmem device.
_BTT_OF_VIRTIO = re.compile(r".*/virtio\d+/.*/btt\d+\.\d+/.*")

#: The number of a command in the request of an ioctl (_IOC_NR, include/uapi/asm-generic/ioctl.h).
_COMMAND_NUMBER = 0xFF

#: The commands that read and write a label area, and also the numbers of the functions of QEMU that do.
_OF_LABEL_DATA = (DimmCommand.GET_DATA, DimmCommand.SET_DATA)


def is_fatal(tree: InProcess, call: Call) -> bool:
    """Whether a guest does not survive a question.

    The kernel does not survive a write to a BTT on virtio-pmem.  btt_write_pg (drivers/nvdimm/btt.c) holds a lane of
    the region, with which it must not sleep, and virtio_pmem_flush (drivers/nvdimm/nd_virtio.c) sleeps until the host
    is done.  The first write ends in a segmentation fault of the writer, or a panic (Linux 6.1 and 6.12).  Reads do no
    harm.

    QEMU 7.2 does not survive it when no bytes of a label area are read or written: it ends itself
    (nvdimm_validate_rw_label_data, hw/mem/nvdimm.c).

    Args:
        tree: the emulated machine, as it is at the moment.
        call: the question.
    """
    if _writes(call):
        return _BTT_OF_VIRTIO.fullmatch(_path_of_disk(tree, call["dev"])) is not None
    return call["op"] == "ioctl" and _is_of_empty_label_data(tree, call)


def _is_of_empty_label_data(tree: InProcess, call: Call) -> bool:
    """Whether an ioctl of a DIMM of QEMU reads or writes no bytes of its label area, perhaps by a CALL."""
    if not call["dev"].startswith("nmem") or NFIT_TEST in tree.names("module"):
        return False
    command, memory = call["request"] & _COMMAND_NUMBER, bytes.fromhex(call["hex"])
    if command == CALL:
        if len(memory) < PACKAGE_SIZE:
            return False
        package = Package.from_bytes(memory)
        command, memory = package.function, memory[PACKAGE_SIZE:][: package.size_in]
    head = memory[: LabelWrite.size()].ljust(LabelWrite.size(), b"\0")  # QEMU reads zeros after what goes in
    return command in _OF_LABEL_DATA and not LabelWrite.from_bytes(head).length


def _writes(call: Call) -> bool:
    return call["op"] in _WRITING or (call["op"] == "ioctl" and call["request"] in _WRITING_REQUESTS)


def _path_of_disk(tree: InProcess, node: str) -> str:
    """Where in /sys a disk is; empty if there is none of that name."""
    try:
        return tree.readlink(f"class/block/{node}")
    except KernelError:
        return ""
