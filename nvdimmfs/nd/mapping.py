"""A region's part of one DIMM."""

from __future__ import annotations

import attrs

from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.label import MappingLabels


@attrs.define(eq=False)
class Mapping:
    """A region's part of one DIMM (struct nd_mapping).

    Attributes:
        dimm: the DIMM.
        start: first address on the DIMM, bytes.
        size: bytes.
        position: the DIMM's place in the interleave set.
        labels: the labels that the region tracks while it is bound; None while it is unbound, or without a label area.
    """

    dimm: DimmDevice
    start: int
    size: int
    position: int
    labels: MappingLabels | None = None

    @property
    def end(self) -> int:
        """Last address on the DIMM."""
        return self.start + self.size - 1

    def claim(self) -> None:
        """Mark the DIMM as used and track its labels, while the region is bound."""
        assert self.dimm.data is not None, "only a DIMM that was read can be claimed"
        self.dimm.busy += 1
        self.labels = MappingLabels(self.dimm.data.labels)

    def release(self) -> None:
        """End the use of the DIMM: the region is unbound."""
        self.dimm.busy -= 1
        self.labels = None
