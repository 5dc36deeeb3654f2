"""Firmware functions of the ACPI NFIT root device, and the statuses of its commands (ACPI 6.4, section 9.20.7).

The numbers of drivers/acpi/nfit/nfit.h; for functions that only user space calls, those of
tools/testing/nvdimm/test/nfit_test.h (Linux 6.1).  ARS and CLEAR_ERROR have the numbers and the structures of the
commands in `nvdimmfs.formats.ndctl`.
"""

from __future__ import annotations

import enum
import struct
from typing import ClassVar

import attrs

from nvdimmfs.formats.structure import Structure

#: The lower half of a status is the status itself, the upper half extends it (ARS_STATUS_MASK).
STATUS_MASK = 0xFFFF

#: The status of every function that succeeded.
SUCCESS = 0

#: Status of ARS_CAP: no memory to scrub in the range (NFIT_ARS_CAP_NONE).
ARS_CAP_NONE = 1
#: Extended status of ARS_CAP: volatile and persistent memory can be scrubbed (ND_ARS_VOLATILE, ND_ARS_PERSISTENT).
ARS_SCRUBS = 3 << 16
#: Status of ARS_START: another scrub runs (NFIT_ARS_START_BUSY).
ARS_START_BUSY = 6
#: Statuses of ARS_STATUS: done, running, none since boot, interrupted (NFIT_ARS_STATUS_...).
ARS_DONE = 0
ARS_BUSY = 1 << 16
ARS_NONE = 2 << 16
ARS_INTERRUPTED = 3 << 16
#: Flag of ARS_STATUS: there were more records than fit (NFIT_ARS_F_OVERFLOW).
ARS_OVERFLOW = 1

#: Status of the methods _LSR and _LSW of a locked DIMM (ACPI_LABELS_LOCKED).
LABELS_LOCKED = 3

#: Statuses of QEMU's firmware: no such function, arguments that make no sense (hw/acpi/nvdimm.c).
UNSUPPORTED = 1
INVALID = 3


class Function(enum.IntEnum):
    """A function of the root device beside the commands (NFIT_CMD_...)."""

    TRANSLATE_SPA = 5
    ARS_INJECT_SET = 7
    ARS_INJECT_CLEAR = 8
    ARS_INJECT_GET = 9


@attrs.frozen
class TranslateSpa(Structure):
    """TRANSLATE_SPA: from a physical address to a DIMM (struct nd_cmd_translate_spa and its first device).

    Attributes:
        spa: the physical address.
        status: see `NOT_TRANSLATED`.
        flags, reserved, device_reserved: left alone.
        length: bytes of the whole answer.
        dimm_count: how many DIMMs hold the address.
        handle: of the first DIMM.
        dpa: the address within that DIMM.
    """

    layout: ClassVar = struct.Struct("<QIB3sQIIIQ")

    spa: int
    status: int
    flags: int
    reserved: bytes
    length: int
    dimm_count: int
    handle: int
    device_reserved: int
    dpa: int


#: Status of TRANSLATE_SPA: no persistent memory at the address (ND_TRANSLATE_SPA_STATUS_INVALID_SPA).
NOT_TRANSLATED = 2


@attrs.frozen
class InjectSet(Structure):
    """ARS_INJECT_SET: make memory bad (struct nd_cmd_ars_err_inj).

    Attributes:
        address, length: the range, in bytes.
        options: see `INJECT_NOTIFY`.
        status: of the firmware.
    """

    layout: ClassVar = struct.Struct("<QQBI")

    address: int
    length: int
    options: int
    status: int


#: Option of ARS_INJECT_SET: notify the kernel of the error (bit ND_ARS_ERR_INJ_OPT_NOTIFY).
INJECT_NOTIFY = 1


@attrs.frozen
class InjectClear(Structure):
    """ARS_INJECT_CLEAR: make memory good again (struct nd_cmd_ars_err_inj_clr).

    Attributes:
        address, length: the range, in bytes.
        status: of the firmware.
    """

    layout: ClassVar = struct.Struct("<QQI")

    address: int
    length: int
    status: int


@attrs.frozen
class InjectStatus(Structure):
    """The head of ARS_INJECT_GET (struct nd_cmd_ars_err_inj_stat); `InjectRecord`s follow."""

    layout: ClassVar = struct.Struct("<II")

    status: int
    record_count: int


@attrs.frozen
class InjectRecord(Structure):
    """A range that was made bad (struct nd_error_stat_query_record), in bytes."""

    layout: ClassVar = struct.Struct("<QQ")

    address: int
    length: int
