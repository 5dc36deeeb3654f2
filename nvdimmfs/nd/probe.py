"""What the drivers of namespaces do first: check the namespace, and look for personalities on media."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from nvdimmfs.core.device import Device
from nvdimmfs.errors import KernelError
from nvdimmfs.mm.kernel import INFO_BLOCK_RESERVE
from nvdimmfs.nd.claim import Personality
from nvdimmfs.nd.namespace import ClaimClass, NamespaceDevice


def common_probe(device: Device) -> NamespaceDevice:
    """The namespace behind a device, when it may be put into service now.

    In this order (nvdimm_namespace_common_probe, drivers/nvdimm/namespace_devs.c, Linux 6.1): for a personality,
    ENODEV without namespace and EBUSY while the namespace itself is bound; for a namespace, ENXIO while claimed;
    EACCES when one of its DIMMs is locked; ENODEV below a page; EOPNOTSUPP when it is to be mapped with struct page
    and is not aligned to 2 MiB; ENODEV when it should have a uuid and has none.
    """
    if isinstance(device, Personality):
        namespace = _claimed_namespace(device)
    else:
        assert isinstance(device, NamespaceDevice)
        namespace = device
        if namespace.claim:
            raise KernelError(errno.ENXIO, f"{namespace.name} is claimed by {namespace.claim.name}")
    if any(mapping.dimm.locked for mapping in namespace.region.mappings):
        raise KernelError(errno.EACCES, f"a DIMM of {namespace.name} is locked")
    rules = namespace.system.kernel.devices
    if namespace.size < rules.minimum_namespace_size:
        raise KernelError(errno.ENODEV, f"{namespace.name} is too small")
    if device is namespace and namespace.page_mapped and (namespace.start | (namespace.end + 1)) % rules.raw_alignment:
        raise KernelError(errno.EOPNOTSUPP, f"{namespace.name} is not aligned to 2 MiB")
    namespace.require_ready()
    return namespace


def _claimed_namespace(personality: Personality) -> NamespaceDevice:
    namespace = personality.namespace
    if namespace is None:
        raise KernelError(errno.ENODEV, f"{personality.name} has no namespace")
    if namespace.driver:
        raise KernelError(errno.EBUSY, f"{namespace.name} is bound to {namespace.driver.name}")
    return namespace


@contextmanager
def reserved(namespace: NamespaceDevice, size: int = INFO_BLOCK_RESERVE) -> Iterator[None]:
    """Own the start of the namespace's addresses while its info blocks are read and written.  EBUSY."""
    memory = namespace.region.memory
    memory.request_region(namespace.start, size, namespace.name)
    try:
        yield
    finally:
        memory.release_region(namespace.start, size)


def reserve(device: Device, namespace: NamespaceDevice, size: int) -> None:
    """Own the start of the namespace's addresses as long as the device is bound.  EBUSY."""
    memory = namespace.region.memory
    owner = device if namespace.system.kernel.devices.memory_named_after_device else namespace
    memory.request_region(namespace.start, size, owner.name)
    device.manage(lambda: memory.release_region(namespace.start, size))


def detect(personality: type[Personality], namespace: NamespaceDevice) -> bool:
    """Look for this kind of info block; when there is a good one, a device for it is on its way.

    EOPNOTSUPP when there is one that must not be touched.
    """
    if namespace.force_raw:
        return False
    if namespace.claim_class is not ClaimClass.NONE and namespace.claim_class not in personality.claim_classes:
        return False
    if not personality.is_signed(namespace):
        return False
    candidate = personality(namespace.region)
    candidate.attach(namespace)
    try:
        candidate.adopt()
    except KernelError as refusal:
        candidate.release()
        if refusal.errno == errno.EOPNOTSUPP:
            raise
        return False
    candidate.schedule_add()
    return True
