"""Devices that a uuid identifies, and the uuids that a bus has."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar
from uuid import UUID

from nvdimmfs.nd.device import NdDevice


class UuidCounts:
    """The uuids of a bus's registered devices.

    Counted as they change, since a search through ten thousand namespaces would slow down each configuration.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Counter[UUID] = Counter()

    def __contains__(self, identity: UUID) -> bool:
        """Whether a registered device has the uuid (is_uuid_busy, drivers/nvdimm/namespace_devs.c, Linux 6.1)."""
        return identity in self._counts

    def add(self, identity: UUID) -> None:
        """One more device has the uuid."""
        self._counts[identity] += 1

    def remove(self, identity: UUID) -> None:
        """One device less has the uuid."""
        if self._counts[identity] == 1:
            del self._counts[identity]
        else:
            self._counts[identity] -= 1


class UuidHolder(NdDevice):
    """A namespace or a personality: while it is registered, its bus counts its uuid.

    Attributes:
        claims_uuid: whether no namespace of the bus may have its uuid.
    """

    claims_uuid: ClassVar[bool] = True
    _uuid: UUID | None = None
    _counted = False

    @property
    def bus_uuids(self) -> UuidCounts:
        """The uuids of its bus."""
        raise NotImplementedError

    @property
    def uuid(self) -> UUID | None:
        """The uuid that identifies it; None before it is set."""
        return self._uuid

    @uuid.setter
    def uuid(self, identity: UUID | None) -> None:
        if self._counted:
            if self._uuid is not None:
                self.bus_uuids.remove(self._uuid)
            if identity is not None:
                self.bus_uuids.add(identity)
        self._uuid = identity

    def add(self) -> None:
        """Register; from now on the uuid counts."""
        self._counted = self.claims_uuid
        if self._counted and self._uuid is not None:
            self.bus_uuids.add(self._uuid)
        super().add()

    def unregister(self) -> None:
        """Unregister; then the uuid is free."""
        super().unregister()
        if self._counted and self._uuid is not None:
            self.bus_uuids.remove(self._uuid)
        self._counted = False
