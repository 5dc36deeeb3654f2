"""What the provider of a bus returns for a command (nvdimm_bus_descriptor.ndctl, include/linux/libnvdimm.h)."""

from __future__ import annotations

import attrs


@attrs.frozen
class Outcome:
    """The result of a command that the provider did not refuse.

    Attributes:
        result: the ioctl's return value: bytes of the argument that were left alone.
        status: the firmware's status as 0 or a negative errno.  The kernel's own commands fail with it; an ioctl
            returns the firmware's status in the argument instead.
    """

    result: int = 0
    status: int = 0
