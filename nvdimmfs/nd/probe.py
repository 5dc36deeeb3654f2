"""The first steps of a namespace driver's probe: check the namespace, look for personalities on media."""

from __future__ import annotations

import errno

from nvdimmfs.core.device import Device
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.kernel import INFO_BLOCK_RESERVE
from nvdimmfs.mm.buffers import DriverMemory
from nvdimmfs.nd.claim import Personality
from nvdimmfs.nd.namespace import NamespaceDevice
from nvdimmfs.nd.seeds import personalities


def common_probe(device: Device) -> NamespaceDevice:
    """The namespace behind a device, if it may be put into service now.

    In this order (nvdimm_namespace_common_probe, drivers/nvdimm/namespace_devs.c, Linux 6.1): for a personality,
    ENODEV without namespace and EBUSY while the namespace itself is bound; for a namespace, ENXIO while claimed;
    EACCES when one of its DIMMs is locked; ENODEV below a page; EOPNOTSUPP when it must be mapped with struct page
    and is not aligned to 2 MiB; ENODEV when it needs a uuid and has none.
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


def require_info_blocks(namespace: NamespaceDevice) -> None:
    """EBUSY when another resource occupies the start of the namespace, where info blocks are.

    The kernel reserves it while it reads and writes them, which takes no time here.
    """
    namespace.region.driver_memory.check_region(namespace.start, INFO_BLOCK_RESERVE, namespace.name)


def reserve(device: Device, namespace: NamespaceDevice, size: int) -> None:
    """Reserve the start of the namespace's addresses while the device is bound.  EBUSY."""
    memory = namespace.region.driver_memory
    owner = device if namespace.system.kernel.devices.memory_named_after_device else namespace
    memory.request_region(namespace.start, size, owner.name)
    device.manage(_release, memory, namespace.start, size)


def _release(memory: DriverMemory, start: int, size: int) -> None:
    memory.release_region(start, size)


def detect(namespace: NamespaceDevice) -> Personality | None:
    """Look for info blocks.  For a valid one, a personality is created and scheduled to be registered.

    EOPNOTSUPP for an info block that must not be overwritten.
    """
    if namespace.force_raw:
        return None
    head = namespace.read_head()
    for kind in personalities(namespace.system.kernel):
        if found := _adopted(kind, namespace, head):
            return found
    return None


def _adopted(kind: type[Personality], namespace: NamespaceDevice, head: bytes) -> Personality | None:
    """A personality configured from the namespace's info block of that kind, if there is one."""
    if not kind.may_adopt(namespace, head):
        return None
    candidate = kind(namespace.region)
    candidate.attach(namespace)
    try:
        is_valid = candidate.adopts_valid()
    except KernelError:
        candidate.release()
        raise
    if not is_valid:
        candidate.release()
        return None
    candidate.add_async()
    return candidate
