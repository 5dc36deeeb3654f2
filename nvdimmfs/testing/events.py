"""The uevents of a machine under test."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from nvdimmfs.testing.records import Records


@attrs.frozen
class Uevent:
    """One uevent, as the kernel sends it.

    Attributes:
        action: `add`, `remove`, `change`, `move`, `online`, `offline`, `bind` or `unbind`.
        devpath: the device's directory below /sys, with a leading slash.
        properties: all variables in the order in which they are sent, ACTION, DEVPATH and SEQNUM included.
    """

    action: str
    devpath: str
    properties: Mapping[str, str]

    @property
    def name(self) -> str:
        """The device's name: the last component of its path."""
        return self.devpath.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.action}@{self.devpath}"


class Events(Records[Uevent]):
    """The uevents that were sent since the machine booted, the oldest first, and a cursor.

    It grows while the machine is used.  Safe from threads.
    """
