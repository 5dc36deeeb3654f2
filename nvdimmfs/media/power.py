"""A power cut that the user orders: media that take so many more writes, and then none."""

from __future__ import annotations

import errno


class PowerSupply:
    """The power of a machine's media.

    Attributes:
        writes_left: the number of writes until it is cut; 0 when it has been cut, None without an order.
    """

    def __init__(self) -> None:
        self.writes_left: int | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the media take no more writes."""
        return self.writes_left == 0

    def spend(self) -> None:
        """Count a write.  EIO, as an OSError, once the power is cut."""
        if self.writes_left is None:
            return
        if self.is_cut:
            raise OSError(errno.EIO, "the power of the machine is cut")
        self.writes_left -= 1
