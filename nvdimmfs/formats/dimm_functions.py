"""The numbers of the firmware functions of DIMMs, by command family.

Sources: for Intel's, drivers/acpi/nfit/nfit.h and tools/testing/nvdimm/test/nfit_test.h (Linux 6.1); for the others,
ndctl/lib/hpe1.h, msft.h and hyperv.h (ndctl 76.1).
"""

from __future__ import annotations

import enum


class IntelFunction(enum.IntEnum):
    """A function of a DIMM of Intel's family (NVDIMM_INTEL_..., ND_INTEL_...)."""

    SMART = 1
    SMART_THRESHOLD = 2
    ENABLE_LSS_STATUS = 10
    FW_GET_INFO = 12
    FW_START_UPDATE = 13
    FW_SEND_DATA = 14
    FW_FINISH_UPDATE = 15
    FW_FINISH_QUERY = 16
    SMART_SET_THRESHOLD = 17
    SMART_INJECT = 18
    GET_SECURITY_STATE = 19
    SET_PASSPHRASE = 20
    DISABLE_PASSPHRASE = 21
    UNLOCK_UNIT = 22
    FREEZE_LOCK = 23
    SECURE_ERASE = 24
    OVERWRITE = 25
    QUERY_OVERWRITE = 26
    SET_MASTER_PASSPHRASE = 27
    MASTER_SECURE_ERASE = 28
    FW_ACTIVATE_DIMM_INFO = 29
    FW_ACTIVATE_ARM = 30


#: The functions of security, of firmware updates, and of their activation.
SECURITY_FUNCTIONS = frozenset(range(IntelFunction.GET_SECURITY_STATE, IntelFunction.MASTER_SECURE_ERASE + 1))
UPDATE_FUNCTIONS = frozenset(range(IntelFunction.FW_GET_INFO, IntelFunction.FW_FINISH_QUERY + 1))
ACTIVATION_FUNCTIONS = frozenset({IntelFunction.FW_ACTIVATE_DIMM_INFO, IntelFunction.FW_ACTIVATE_ARM})
HEALTH_FUNCTIONS = frozenset(
    {
        IntelFunction.SMART,
        IntelFunction.SMART_THRESHOLD,
        IntelFunction.ENABLE_LSS_STATUS,
        IntelFunction.SMART_SET_THRESHOLD,
        IntelFunction.SMART_INJECT,
    }
)


class Hpe1Function(enum.IntEnum):
    """A function of a DIMM of HPE's first family (NDN_HPE1_CMD_...)."""

    SMART = 1
    SMART_THRESHOLD = 2


class MicrosoftFunction(enum.IntEnum):
    """A function of a DIMM of Microsoft's family (NDN_MSFT_CMD_...)."""

    NVDIMM_HEALTH = 11


class HyperVFunction(enum.IntEnum):
    """A function of a DIMM of Hyper-V's family (ND_HYPERV_CMD_...)."""

    HEALTH = 1
    SHUTDOWN_COUNT = 2
