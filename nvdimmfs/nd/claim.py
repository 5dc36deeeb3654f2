"""Personalities (btt, pfn, dax) and the namespaces that they claim."""

from __future__ import annotations

import errno
from typing import ClassVar

from nvdimmfs.core.attribute import attribute
from nvdimmfs.core.parse import WHITE_SPACE, c_string
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.info_block import INFO_BLOCK_SIZE
from nvdimmfs.nd.identity import UuidCounts, UuidHolder
from nvdimmfs.nd.namespace import Claimant, ClaimClass, NamespaceDevice
from nvdimmfs.nd.region import RegionDevice
from nvdimmfs.traces.effects import Claimed, Released

#: The smallest namespace that can be claimed, bytes (SZ_16M in nd_namespace_store, drivers/nvdimm/claim.c, Linux 6.1).
MIN_CLAIM_SIZE = 16 << 20


class Personality(UuidHolder, Claimant):
    """A device that presents a namespace in another form: btt, pfn or dax.

    Attributes:
        kind: btt, pfn or dax.
        signature: the first bytes of its info block.
        claim_classes: the holder classes that it may claim besides "none".
        region: the region that it belongs to.
        id: the number after the dot, lowest free first.
        namespace: the namespace it claims.
        uuid: the uuid in its info block, written or to be written.
    """

    signature: ClassVar[bytes]
    claim_classes: ClassVar[frozenset[ClaimClass]]
    parent: RegionDevice

    def __init__(self, region: RegionDevice) -> None:
        self.id = region.numbering[self.kind].allocate()
        super().__init__(region.system, f"{self.kind}{region.id}.{self.id}", region)
        self.bus = region.bus
        self.region = region
        self.numa_node = region.numa_node
        self.target_node = region.target_node
        self.namespace: NamespaceDevice | None = None

    @property
    def bus_uuids(self) -> UuidCounts:
        return self.region.parent.uuids

    @property
    def is_seed(self) -> bool:
        return self.region.seeds[self.kind] is self

    def attach(self, namespace: NamespaceDevice) -> None:
        """Claim a namespace.  EBUSY when another personality has it."""
        if namespace.claim:
            raise KernelError(errno.EBUSY, f"{namespace.name} is claimed by {namespace.claim.name}")
        namespace.claim = self
        self.namespace = namespace
        if (trace := self.system.trace) is not None:
            trace.report(Claimed(self.name, namespace.name))

    def detach(self) -> None:
        """Release the claim, if there is one."""
        if self.namespace:
            if (trace := self.system.trace) is not None:
                trace.report(Released(self.name, self.namespace.name))
            self.namespace.claim = None
            self.namespace = None

    @classmethod
    def info_offset(cls, namespace: NamespaceDevice) -> int:
        """The offset of the (first) info block in a namespace, bytes."""
        raise NotImplementedError

    @classmethod
    def is_signed(cls, namespace: NamespaceDevice, head: bytes) -> bool:
        """Whether a namespace has the signature of such an info block.

        Args:
            namespace: the namespace.
            head: its first bytes, as many as are reserved for info blocks.
        """
        offset = cls.info_offset(namespace)
        return len(head) >= offset + INFO_BLOCK_SIZE and head.startswith(cls.signature, offset)

    @classmethod
    def may_adopt(cls, namespace: NamespaceDevice, head: bytes) -> bool:
        """Whether such a personality looks at the info block of a namespace; the arguments are those of `is_signed`."""
        is_allowed = namespace.claim_class is ClaimClass.NONE or namespace.claim_class in cls.claim_classes
        return is_allowed and cls.is_signed(namespace, head)

    def adopt(self) -> None:
        """Take the configuration from the namespace's info block; a `KernelError` when there is no valid one."""
        raise NotImplementedError

    def adopts_valid(self) -> bool:
        """Take the configuration from the namespace's info block, if that is valid; whether it is.

        EOPNOTSUPP for one that is not, and that no other device may overwrite.
        """
        try:
            self.adopt()
        except KernelError as refusal:
            if refusal.errno == errno.EOPNOTSUPP:
                raise
            return False
        return True

    def reset(self) -> None:
        """Reset the configuration, after the claim was released."""
        self.uuid = None

    def release(self) -> None:
        self.detach()
        self.region.numbering[self.kind].free(self.id)

    def require_unbound(self) -> None:
        """EBUSY while a driver is bound: the configuration is in use."""
        if self.driver:
            raise KernelError(errno.EBUSY, f"{self.name} is bound to {self.driver.name}")


@attribute("uuid")
def uuid_attribute(personality: Personality) -> str:
    """The UUID of the info block; empty before it is set."""
    return f"{personality.uuid or ''}\n"


@uuid_attribute.on_store
def _store_uuid(personality: Personality, data: bytes) -> None:
    """EBUSY while bound, EINVAL for anything but a UUID."""
    personality.require_unbound()
    personality.uuid = personality.parse_uuid(data)


@attribute("namespace")
def namespace_attribute(personality: Personality) -> str:
    """The claimed namespace; empty for none."""
    return f"{personality.namespace.name if personality.namespace else ''}\n"


@namespace_attribute.on_store
def _store_namespace(personality: Personality, data: bytes) -> None:
    """Claim the named namespace; an empty line releases the claim.

    In this order (nd_namespace_store, drivers/nvdimm/claim.c, Linux 6.1): EBUSY while bound; EINVAL unless the name
    begins with "namespace"; EBUSY when the device already claims one; ENODEV when the region has no such namespace;
    EBUSY when its holder class is for another kind; ENXIO below 16 MiB; EBUSY when another personality has it.
    """
    personality.require_unbound()
    name = c_string(data).rstrip(WHITE_SPACE)
    if not name:
        _release_claim(personality)
        return
    if not name.startswith(b"namespace"):
        raise KernelError(errno.EINVAL, f"{name!r} names no namespace")
    if personality.namespace:
        raise KernelError(errno.EBUSY, f"{personality.name} claims {personality.namespace.name}")
    namespace = _find_namespace(personality.region, name.decode("latin-1"))
    if namespace.claim_class is not ClaimClass.NONE and namespace.claim_class not in personality.claim_classes:
        raise KernelError(errno.EBUSY, f"{namespace.name} is reserved for {namespace.claim_class.value}")
    if namespace.size < MIN_CLAIM_SIZE:
        raise KernelError(errno.ENXIO, f"{namespace.name} is smaller than 16 MiB")
    personality.attach(namespace)


def _release_claim(personality: Personality) -> None:
    """Release the claim.  A seed is reset, any other device is unregistered."""
    personality.detach()
    if personality.is_seed:
        personality.reset()
    else:
        personality.unregister_async()


def _find_namespace(region: RegionDevice, name: str) -> NamespaceDevice:
    device = region.bus.members.get(name)
    if isinstance(device, NamespaceDevice) and device.region is region:
        return device
    raise KernelError(errno.ENODEV, f"{region.name} has no {name}")
