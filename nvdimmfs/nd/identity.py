"""Devices that a uuid identifies, and the uuids that a bus has."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from uuid import UUID

from nvdimmfs.nd.device import NdDevice

if TYPE_CHECKING:
    from nvdimmfs.nd.region import RegionDevice


class Identified(NdDevice):
    """A namespace or a personality: while it is registered, its bus counts its uuid.

    Counted as it changes, since looking at ten thousand namespaces would make each one slower to configure.

    Attributes:
        claims_uuid: whether no namespace of the bus may have its uuid.
        region: the region it stands in.
    """

    claims_uuid: ClassVar[bool] = True
    region: RegionDevice
    _uuid: UUID | None = None
    _counted = False

    @property
    def uuid(self) -> UUID | None:
        """What it is recognised by; None before it is set."""
        return self._uuid

    @uuid.setter
    def uuid(self, identity: UUID | None) -> None:
        self._count(-1)
        self._uuid = identity
        self._count(1)

    def add(self) -> None:
        """Register; from now on the uuid counts."""
        self._counted = self.claims_uuid
        self._count(1)
        super().add()

    def unregister(self) -> None:
        """Take it away; then the uuid is free."""
        super().unregister()
        self._count(-1)
        self._counted = False

    def _count(self, sign: int) -> None:
        if not self._counted or self._uuid is None:
            return
        identities = self.region.parent.identities
        identities[self._uuid] += sign
        if not identities[self._uuid]:
            del identities[self._uuid]
