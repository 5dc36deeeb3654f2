"""Devices whose nodes processes have open, where the machine does not see that itself."""

from __future__ import annotations

import attrs


@attrs.frozen
class DeviceUses:
    """The names of devices that processes use without the machine's knowledge, as those of a sandbox do.

    Attributes:
        open: those whose nodes are open, mapped into memory, or mounted.
        claimed: those that a process or a mount has to itself, as with O_EXCL.
    """

    open: frozenset[str] = frozenset()
    claimed: frozenset[str] = frozenset()


#: The machine knows of all uses.
NO_USES = DeviceUses()
