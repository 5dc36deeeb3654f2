"""All ioctls that the emulation knows: requests of disks, commands of DIMMs and buses, functions behind a CALL."""

from __future__ import annotations

import enum
import functools
import struct
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

import attrs

from nvdimmfs.block.ioctl import block_ioctl
from nvdimmfs.formats.block_requests import REQUEST_NAMES
from nvdimmfs.formats.dimm_functions import Hpe1Function, HyperVFunction, IntelFunction, MicrosoftFunction
from nvdimmfs.formats.intel_dsm import ActivateBus, ActivateBusInfo, BusFunction
from nvdimmfs.formats.ndctl import (
    BUS_FAMILY_INTEL,
    BUS_FAMILY_NFIT,
    BUS_FORMATS,
    CALL,
    DIMM_FAMILY_HPE1,
    DIMM_FAMILY_HYPERV,
    DIMM_FAMILY_INTEL,
    DIMM_FAMILY_MICROSOFT,
    DIMM_FORMATS,
    U32,
    BusCommand,
    DimmCommand,
)
from nvdimmfs.formats.nfit_dsm import Function, InjectClear, InjectSet, TranslateSpa
from nvdimmfs.formats.structure import Structure
from nvdimmfs.nd.ioctl import nd_ioctl
from nvdimmfs.platforms.dimm_firmware.intel import STRUCTURES

#: The family and the function, with which a package begins.
_CALLED = struct.Struct("<QQ")

#: Bytes of an address.
_ADDRESS_SIZE = 8

#: What is asked with any request; its errnos are those of the whole call.
ANY = "any request"


@attrs.frozen
class IoctlSubject:
    """An ioctl of a kind of device.

    Attributes:
        title: the kind of device, and the family of a function.
        name: the request, command or function; `ANY` for what is common to all of a kind of device.
        described: what is declared of its errors, as text.
        is_refused: no device that is emulated carries it out.
    """

    title: str
    name: str
    described: str = attrs.field(default="", eq=False)
    is_refused: bool = attrs.field(default=False, eq=False)


@attrs.frozen
class _Table:
    """What a kind of device can be asked.

    Attributes:
        title: the kind of device.
        requests: its requests, by what counts of the number.
        common: what is common to them.
        families: the functions behind its CALL, by family.
        payloads: what such functions take and return, and how many bytes of it they take, by family and function.
    """

    title: str
    requests: Mapping[int, IoctlSubject]
    common: IoctlSubject
    families: Mapping[int, Mapping[int, IoctlSubject]] = MappingProxyType({})
    payloads: Mapping[tuple[int, int], tuple[type[Structure], int]] = MappingProxyType({})

    def subjects(self) -> Iterator[IoctlSubject]:
        """All of them, the common one first."""
        yield self.common
        yield from self.requests.values()
        for functions in self.families.values():
            yield from functions.values()


def _table(title: str, names: Mapping[int, str], described: str | None) -> _Table:
    requests = {number: IoctlSubject(title, name, is_refused=_is_refused(name)) for number, name in names.items()}
    return _Table(title, requests, IoctlSubject(title, ANY, described or ""))


def _is_refused(name: str) -> bool:
    """Whether disks of persistent memory, or all firmware, refuse it: discards, zones and reservations.

    No DIMM of QEMU or of the kernel's test platform has the commands FLAGS and VENDOR.
    """
    return name in _REFUSED or name.startswith("IOC_PR_")


_REFUSED = frozenset(
    {
        *("BLKDISCARD", "BLKSECDISCARD"),
        *("BLKREPORTZONE", "BLKRESETZONE", "BLKOPENZONE", "BLKCLOSEZONE", "BLKFINISHZONE"),
        *("FLAGS", "VENDOR"),
    }
)


def _functions(title: str, functions: type[enum.IntEnum]) -> dict[int, IoctlSubject]:
    return {function.value: IoctlSubject(title, function.name) for function in functions}


_DISKS = _table("ioctl(2) on disks and partitions", REQUEST_NAMES, block_ioctl.__doc__)
_DIMMS = attrs.evolve(
    _table("ioctl(2) on DIMMs", {number: DimmCommand(number).name for number in DIMM_FORMATS}, nd_ioctl.__doc__),
    families={
        DIMM_FAMILY_INTEL: _functions("ioctl(2) on DIMMs of Intel's family", IntelFunction),
        DIMM_FAMILY_HPE1: _functions("ioctl(2) on DIMMs of HPE's first family", Hpe1Function),
        DIMM_FAMILY_MICROSOFT: _functions("ioctl(2) on DIMMs of Microsoft's family", MicrosoftFunction),
        DIMM_FAMILY_HYPERV: _functions("ioctl(2) on DIMMs of Hyper-V's family", HyperVFunction),
    },
    payloads={(DIMM_FAMILY_INTEL, function): payload for function, payload in STRUCTURES.items()},
)
_BUSES = attrs.evolve(
    _table("ioctl(2) on buses", {number: BusCommand(number).name for number in BUS_FORMATS}, nd_ioctl.__doc__),
    families={
        BUS_FAMILY_NFIT: _functions("ioctl(2) on buses, functions of an NFIT", Function),
        BUS_FAMILY_INTEL: _functions("ioctl(2) on buses, functions of Intel's family", BusFunction),
    },
    payloads={
        (BUS_FAMILY_NFIT, Function.TRANSLATE_SPA): (TranslateSpa, _ADDRESS_SIZE),
        (BUS_FAMILY_NFIT, Function.ARS_INJECT_SET): (InjectSet, InjectSet.size() - U32.size),
        (BUS_FAMILY_NFIT, Function.ARS_INJECT_CLEAR): (InjectClear, InjectClear.size() - U32.size),
        (BUS_FAMILY_INTEL, BusFunction.FW_ACTIVATE_BUS_INFO): (ActivateBusInfo, 0),
        (BUS_FAMILY_INTEL, BusFunction.FW_ACTIVATE): (ActivateBus, 1),
    },
)
_TABLES = (_DISKS, _DIMMS, _BUSES)

#: How the nodes of each kind begin.
_NODES = {"nmem": _DIMMS, "ndctl": _BUSES, "pmem": _DISKS}


@functools.cache
def ioctl_subjects() -> tuple[IoctlSubject, ...]:
    """Every ioctl, in the order of the reference."""
    return tuple(subject for table in _TABLES for subject in table.subjects())


def ioctls_of(node: str, request: int, memory: bytes = b"") -> Iterator[IoctlSubject]:
    """What a call asks: a request, what is common to all, and a function where the request is a CALL.

    Args:
        node: the name of the device's node in /dev.
        request: the number.
        memory: what the argument points to.
    """
    table = _table_of(node)
    if table is None:
        return
    yield table.common
    number = request if table is _DISKS else request & 0xFF
    if subject := table.requests.get(number):
        yield subject
    if table is not _DISKS and number == CALL and len(memory) >= _CALLED.size:
        family, function = _CALLED.unpack_from(memory)
        if called := table.families.get(family, {}).get(function):
            yield called


def ioctls_named(name: str, node: str = "") -> Iterator[IoctlSubject]:
    """What a call asks whose request is known by its name, such as GET_SIZE; a DIMM's without a node."""
    table = _table_of(node) if node else _DIMMS
    if table is None:
        return
    found = [subject for subject in table.requests.values() if subject.name.removeprefix("CMD_") == name]
    if found:
        yield table.common
        yield from found


def requests_of(node: str) -> Collection[int]:
    """The requests of the device of a node; of a DIMM or a bus, what counts of the number: its command."""
    table = _table_of(node)
    return table.requests.keys() if table else ()


def functions_of(node: str) -> Collection[tuple[int, int]]:
    """The functions behind the CALL of the device of a node, each with its family first."""
    table = _table_of(node)
    families = table.families if table else {}
    return [(family, function) for family, functions in families.items() for function in functions]


def payload_of(node: str, family: int, function: int) -> tuple[type[Structure], int] | None:
    """The payload of a function, and how many bytes of it go in; None where no structure is known."""
    table = _table_of(node)
    return table.payloads.get((family, function)) if table else None


def _table_of(node: str) -> _Table | None:
    return next((table for start, table in _NODES.items() if node.startswith(start)), None)
