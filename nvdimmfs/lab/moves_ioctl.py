"""Moves of a walk that are ioctls: every request of the tables, with arguments that make sense and with others.

Nothing here names a request that does not need care of its own, so that walks make a new one as soon as a table has it.
"""

from __future__ import annotations

import re
import struct

from nvdimmfs.formats.block_requests import (
    BLKPG,
    BLKPG_ADD,
    BLKPG_DELETE,
    BLKPG_RESIZE,
    BLKROSET,
    BYTE_RANGE,
    INTEGER,
    BlockRequest,
    PartitionRange,
    PartitionRequest,
    TraceSetup,
)
from nvdimmfs.formats.dimm_functions import ACTIVATION_FUNCTIONS, UPDATE_FUNCTIONS, IntelFunction
from nvdimmfs.formats.intel_dsm import FirmwareSend
from nvdimmfs.formats.ndctl import (
    BUS_FORMATS,
    CALL,
    DIMM_FORMATS,
    U32,
    UNKNOWN_SIZE,
    CommandFormat,
    Package,
    Variable,
)
from nvdimmfs.lab.asking import MEMORY_END, Call
from nvdimmfs.lab.ioctl_tables import functions_of, payload_of, requests_of
from nvdimmfs.lab.walker import DEVICES, SECTOR_SIZE, Walker
from nvdimmfs.units import PAGE_SIZE, U32_MASK, U64_MASK

#: The number of a command of a DIMM or a bus, without the command (_IOC_READ | _IOC_WRITE, ND_IOCTL).
_COMMAND_BASE = 0xC000_4E00

#: The bits of a request's number that are the size of its argument.
_SIZE_SHIFT, _SIZE_MASK = 16, 0x3FFF

#: Numbers of fields.
_NUMBERS = (0, 0, 1, 1, 2, 3, 4, 16, 128, 256, 4096)

#: Bytes of an argument, or of a payload, of an unknown layout: as many as all records of a function need.
_ROOM = 4352

#: Bytes of an argument at most; the kernel refuses most of those that have more.
_MOST = 2 * PAGE_SIZE

#: Bytes that follow the structure of a payload.
_TRAILING = (0, 0, 0, 0, 16, 64)

#: Families that no kernel knows, or no device has.
_OTHER_FAMILIES = (2, 5, 6, U64_MASK)

#: Seconds after which all has ended that a command of a bus or of firmware begins.
_REST = 30

#: The functions of a DIMM after which time matters.
_LASTING = UPDATE_FUNCTIONS | ACTIVATION_FUNCTIONS | {IntelFunction.OVERWRITE}

_FIELD = re.compile(r"(\d*)([A-Za-z])")

#: Requests of disks whose argument is the value itself.
_WITH_VALUE = (BlockRequest.BLKRASET, BlockRequest.BLKFRASET)

#: Requests of disks whose argument is a range.
_WITH_RANGE = (BlockRequest.BLKDISCARD, BlockRequest.BLKSECDISCARD, BlockRequest.BLKZEROOUT)


def control(walker: Walker) -> None:
    """Send a command to a bus or a DIMM, sometimes while no region uses its labels."""
    dimms = walker.devices("nmem")
    nodes = walker.names("class/nd") if not dimms or walker.happens(0.25) else dimms
    if not nodes:
        return
    node = walker.choose(nodes)
    if node.startswith("ndctl"):
        _rest(walker, node)  # a scrub may have begun when the bus was bound
        _send(walker, node)
        _rest(walker, node)
        return
    regions = walker.devices("region") if walker.happens(0.3) else []
    for region in regions:
        walker.drive("nd_region", "unbind", region)
    for _ in range(walker.number(1, 3)):
        _send(walker, node)
    if regions:
        walker.drive("nvdimm", "unbind", node)
        walker.drive("nvdimm", "bind", node)
    for region in regions:
        walker.drive("nd_region", "bind", region)


def _send(walker: Walker, node: str) -> None:
    """Send any command, or a function behind the CALL."""
    commands = [(command, None) for command in sorted(requests_of(node))]
    functions = [(CALL, function) for function in sorted(functions_of(node))]
    command, called = walker.choose([*commands, *functions, (walker.number(0, 255), None)])
    if command != CALL:
        formats = BUS_FORMATS if node.startswith("ndctl") else DIMM_FORMATS
        _make(walker, node, _COMMAND_BASE | command, _argument(walker, formats.get(command)))
        return
    family, function = called or _any_function(walker, node)
    _make(walker, node, _COMMAND_BASE | command, _package(walker, node, family, function))
    if function in _LASTING:
        _rest(walker, node)


def _rest(walker: Walker, node: str) -> None:
    """Wait until all has ended that a bus or a DIMM may do; a bus without a scrub does nothing."""
    if node.startswith("nmem") or walker.has_scrub(node.replace("ndctl", "ndbus")):
        walker.ask({"op": "sleep", "seconds": _REST})


def _any_function(walker: Walker, node: str) -> tuple[int, int]:
    """A family, and any function."""
    families = [*_OTHER_FAMILIES, *(family for family, _ in functions_of(node))]
    return walker.choose(families), walker.number(0, 40)


def _make(walker: Walker, node: str, request: int, memory: bytes) -> None:
    """Make an ioctl: sometimes on a device that is open for reading, or with memory that ends too soon."""
    if memory and walker.happens(0.05):
        memory = memory[: walker.number(0, len(memory) - 1)]
    call: Call = {"op": "ioctl", "dev": node, "request": request, "hex": memory.hex()}
    if walker.happens(0.1):
        call["open"] = "r"
    walker.ask(call)


def _package(walker: Walker, node: str, family: int, function: int) -> bytes:
    """The argument of a CALL.

    It has room for all that the test platform writes without looking at its size.
    """
    structure, inputs = payload_of(node, family, function) or (None, walker.choose((0, 4, 16)))
    payload = bytes(_ROOM) if structure is None else _filled(walker, structure.layout)
    if structure is FirmwareSend:  # the status is written after the data, `length` bytes
        data = _some_bytes(walker, walker.choose((0, 16, 128)))
        payload = payload[: -U32.size] + U32.pack(len(data)) + data + bytes(U32.size)
        inputs = len(payload) - U32.size
    payload += bytes(walker.choose(_TRAILING))
    if walker.happens(0.1):
        inputs = walker.number(0, len(payload))
    return Package(family, function, inputs, len(payload) - inputs).to_bytes() + payload


def _argument(walker: Walker, layout: CommandFormat | None) -> bytes:
    """The argument of a command, its fields with the sizes that it contains."""
    if layout is None:
        return _some_bytes(walker, 64)
    inputs, outputs = bytearray(), bytearray()
    for index, size in enumerate(layout.inputs):
        if isinstance(size, Variable):
            inputs += _some_bytes(walker, _limited(layout.input_size(index, inputs)))
        else:
            inputs += _number(walker, size)
    for index, size in enumerate(layout.outputs):
        if isinstance(size, Variable):
            outputs += bytes(_limited(layout.output_size(index, inputs, outputs)))
        else:
            outputs += _number(walker, size)
    return bytes(inputs + outputs)


def _limited(size: int) -> int:
    return 0 if size == UNKNOWN_SIZE else min(size, _MOST)


def _filled(walker: Walker, layout: struct.Struct) -> bytes:
    """A structure with any numbers and texts."""
    data = b""
    for count, letter in _FIELD.findall(layout.format):
        if letter in "sx":
            data += bytes([walker.choose((0, 0, 1, 2)) if letter == "s" else 0]) * int(count or 1)
        else:
            data += b"".join(_number(walker, struct.calcsize(f"<{letter}")) for _ in range(int(count or 1)))
    return data


def _number(walker: Walker, size: int) -> bytes:
    """A number of so many bytes; a long one may be an address of memory that is somewhere on DIMMs."""
    limit = 1 << 8 * size
    numbers = [*_NUMBERS, walker.number(0, 255), limit - 1]
    if size > U32.size:
        numbers += 2 * _addresses(walker)
    return (walker.choose(numbers) % limit).to_bytes(size, "little")


def _addresses(walker: Walker) -> list[int]:
    """Where regions of DIMMs begin.  Some of the test platform's are buffers, which are elsewhere in each guest."""
    regions = [f"{DEVICES}/{name}" for name in walker.devices("region")]
    on_dimms = [each for each in regions if walker.seen(f"{each}/mappings") not in ("", "0")]
    starts = [int(walker.seen(f"{each}/resource") or "0", 0) for each in on_dimms]
    return [start + offset for start in starts if 0 < start <= U64_MASK >> 1 for offset in (0, PAGE_SIZE)]


def _some_bytes(walker: Walker, length: int) -> bytes:
    """So many bytes: one over and over, or all kinds of them."""
    if walker.happens(0.5):
        return bytes([walker.choose((0, 0xFF, walker.number(0, 255)))]) * length
    return bytes(walker.number(0, 255) for _ in range(length))


def disk(walker: Walker) -> None:
    """Make a request to a disk or a partition, or to a dax device, which has none."""
    disks = walker.disks()
    nodes = disks if disks and walker.happens(0.95) else walker.names("bus/dax/devices")
    if not nodes:
        return
    node = walker.choose(nodes)
    requests = sorted(requests_of(node))
    if not requests or walker.happens(0.03):
        _make(walker, node, walker.choose((0x1268, 0x12FF, _COMMAND_BASE | 4)), bytes(64))
        return
    request = walker.choose(requests)
    if request in _WITH_VALUE or walker.happens(0.05):
        value = walker.choose((0, 1, 8, 255, 256, 4096)) if request in _WITH_VALUE else 0
        walker.ask({"op": "ioctl", "dev": node, "request": request, "hex": "", "value": value})
    else:
        _make(walker, node, request, _disk_argument(walker, node, request))


def _disk_argument(walker: Walker, node: str, request: int) -> bytes:
    size = walker.size_of(node)
    if request == BLKPG:
        return _partition(walker, size)
    if request in _WITH_RANGE:
        return BYTE_RANGE.pack(*_range(walker, size))
    if request == BLKROSET:
        return INTEGER.pack(walker.choose((0, 0, 0, 1)))
    if request == BlockRequest.BLKBSZSET:
        return INTEGER.pack(walker.choose((512, 1024, 4096, 0, 513, 8192, -1)))
    if request == BlockRequest.BLKTRACESETUP:
        size, count = walker.choose(((512, 2), (4096, 4), (65536, 1), (0, 4), (4096, 0)))
        return TraceSetup(b"", 0, b"", size, count, b"", 0, 0, 0, b"").to_bytes()
    return _some_bytes(walker, request >> _SIZE_SHIFT & _SIZE_MASK or 8)


def _range(walker: Walker, size: int) -> tuple[int, int]:
    """First byte and length of a range on a disk, or beyond."""
    starts = (0, SECTOR_SIZE, PAGE_SIZE, size // 2 // PAGE_SIZE * PAGE_SIZE, max(size - PAGE_SIZE, 0), size, 100)
    lengths = (SECTOR_SIZE, PAGE_SIZE, 4 * PAGE_SIZE, 0, 100, U64_MASK)
    return walker.choose(starts), walker.choose(lengths)


def _partition(walker: Walker, size: int) -> bytes:
    """The argument of BLKPG, followed by the range that it points to."""
    operation = walker.choose((BLKPG_ADD, BLKPG_ADD, BLKPG_DELETE, BLKPG_RESIZE, 0))
    start, length = _range(walker, size)
    length = walker.choose((length & U32_MASK, size // 4 // PAGE_SIZE * PAGE_SIZE, size - start))
    partition = PartitionRange(start, length, walker.choose((1, 1, 2, 3, 0, -1, 256))).to_bytes()
    return PartitionRequest(operation, MEMORY_END - len(partition)).to_bytes() + partition
