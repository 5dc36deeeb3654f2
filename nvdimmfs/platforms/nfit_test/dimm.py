"""DIMMs of the kernel's test platform, and a device for each that injects failures (tools/testing/nvdimm/test, 6.1)."""

from __future__ import annotations

from typing import Self

import attrs

from nvdimmfs.core.attribute import AttributeGroup, attribute, write_only_attribute
from nvdimmfs.core.device import Class, Device
from nvdimmfs.core.parse import parse_signed
from nvdimmfs.platforms.dimm_firmware.intel import IntelFunctions
from nvdimmfs.platforms.dimm_firmware.security import EmulatedSecurity
from nvdimmfs.platforms.dimm_firmware.update import FirmwareUpdate
from nvdimmfs.platforms.nfit_test.failures import CommandFailures
from nvdimmfs.units import U64_MASK, as_signed

#: The handles of all DIMMs, by number.
HANDLES = (0x0, 0x1, 0x100, 0x101, 0x1000, 0x10000, 0x10001)

#: The number of them that have functions (NUM_DCR).
DIMMS_WITH_FUNCTIONS = 5


@attrs.define(eq=False)
class TestedDimm:
    """A DIMM in the test platform.

    Attributes:
        handle: its NFIT device handle.
        functions: what it executes.
        update, security: the state of its firmware and of its passphrases.
        failures: the functions that fail.
    """

    __test__ = False  # its name does not make it a test

    handle: int
    functions: IntelFunctions
    update: FirmwareUpdate
    security: EmulatedSecurity
    failures: CommandFailures


class TestDimm(Device):
    """The device that injects failures into a DIMM."""

    __test__ = False  # its name does not make it a test

    def __init__(self, device_class: Class, parent: Device, number: int, tested: TestedDimm) -> None:
        super().__init__(parent.system, f"test_dimm{number}", parent)
        self.device_class = device_class
        self.tested = tested

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (TEST_DIMM_GROUP,)


@attribute("fail_cmd")
def fail_cmd(dimm: TestDimm) -> str:
    """The functions that fail, a bit each, hexadecimal."""
    return f"{dimm.tested.failures.mask:#x}\n"


@fail_cmd.on_store
def _store_fail_cmd(dimm: TestDimm, data: bytes) -> None:
    """EINVAL for no number, ERANGE past 64 bits with a sign."""
    dimm.tested.failures.mask = parse_signed(data) & U64_MASK


@attribute("fail_cmd_code")
def fail_cmd_code(dimm: TestDimm) -> str:
    """The result of these functions, such as a negative errno; 0 stands for -EIO."""
    return f"{dimm.tested.failures.code}\n"


@fail_cmd_code.on_store
def _store_fail_cmd_code(dimm: TestDimm, data: bytes) -> None:
    """EINVAL for no number, ERANGE past 64 bits with a sign; the lower 32 bits count."""
    dimm.tested.failures.code = as_signed(parse_signed(data), bits=32)


@attribute("handle")
def handle(dimm: TestDimm) -> str:
    """The NFIT device handle."""
    return f"{dimm.tested.handle:#x}\n"


@write_only_attribute("lock_dimm")
def lock_dimm(dimm: TestDimm, _data: bytes) -> None:
    """Lock the DIMM, as after a reset with a passphrase.  Any value."""
    dimm.tested.security.lock()


TEST_DIMM_GROUP: AttributeGroup[TestDimm] = AttributeGroup((fail_cmd, fail_cmd_code, handle, lock_dimm))
