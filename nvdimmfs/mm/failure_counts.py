"""What became of the failed pages of a node (struct memory_failure_stats, include/linux/mmzone.h, Linux 6.12)."""

from __future__ import annotations

import attrs


@attrs.define
class FailureCounts:
    """How many pages of a node failed, by what became of them (update_per_node_mf_stats).

    Attributes:
        ignored: pages that the kernel uses.
        failed: pages of device memory that no process maps.
        recovered: pages that were free.
    """

    ignored: int = 0
    failed: int = 0
    recovered: int = 0

    @property
    def total(self) -> int:
        """All pages that failed.  None is ever delayed: no process has them mapped."""
        return self.ignored + self.failed + self.recovered
