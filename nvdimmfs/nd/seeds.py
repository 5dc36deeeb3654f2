"""Seeds: in every region, one unconfigured device of each kind for user space to configure next, and their numbers.

A namespace or a personality takes the lowest number that is free in its region (`RegionDevice.numbering`) when it is
made.  So the order in which devices are made decides the number of the next seed, and that order is decided here: when
a region is bound (`register_children`) and when a seed is replaced (`advance_seeds`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from attrs import frozen

from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.kernel import Kernel
from nvdimmfs.kernels.races import (
    BOTH_SEEDS_REPLACED,
    BOUND_AFTER_MAPPING,
    BOUND_REGION,
    FIRST_HAS_PAGES,
    FIRST_IS_BTT,
    FIRST_IS_BTT_WITH_METADATA,
    FIRST_OF_MORE_IS_DISK,
    FIRST_OF_TWO_IS_DISK,
    FOUND_ORDER,
    LATER_AFTER_BTT,
    LATER_AFTER_DISK,
    LATER_NAMESPACE,
    NEW_REGION,
    First,
    FirstLock,
    FirstNamespace,
    Found,
    Race,
)
from nvdimmfs.mm.memory import Memory
from nvdimmfs.nd.btt import BttDevice
from nvdimmfs.nd.claim import Personality
from nvdimmfs.nd.dax import DaxDevice
from nvdimmfs.nd.device import DeviceType, NdDevice
from nvdimmfs.nd.namespace import Claimant, NamespaceDevice
from nvdimmfs.nd.namespace_pmem import NamespacePmem
from nvdimmfs.nd.pfn import PageMapPersonality, PfnDevice
from nvdimmfs.nd.region import RegionDevice, SeedKind

#: In the order in which a region gets its first seeds (nd_region_probe, drivers/nvdimm/region.c, Linux 6.1).
PERSONALITIES_BEFORE_DAX: tuple[type[Personality], ...] = (BttDevice, PfnDevice)
PERSONALITIES: tuple[type[Personality], ...] = (*PERSONALITIES_BEFORE_DAX, DaxDevice)


def personalities(kernel: Kernel) -> tuple[type[Personality], ...]:
    """The personalities that a kernel has."""
    return PERSONALITIES if kernel.devices.has_dax else PERSONALITIES_BEFORE_DAX


@frozen
class _Bind:
    """The bind of a region.

    Attributes:
        writes: how many attributes had been written by then.
    """

    region: RegionDevice
    writes: int


class RegionBinds:
    """The binds of regions, as far as they decide the order in which the next region's devices are made.

    Attributes:
        probing_new: a new region is being probed, by the worker that registered it.
    """

    def __init__(self, system: System, memory: Memory) -> None:
        self.probing_new = False
        self._system = system
        self._memory = memory
        self._last: _Bind | None = None

    def bound(self, region: RegionDevice) -> None:
        """A region was bound."""
        self._last = _Bind(region, self._system.writes)

    def unbound(self) -> None:
        """A region was unbound."""
        self._last = None

    @property
    def race(self) -> Race[First]:
        """The race between the seeds and the worker of the region that is being probed."""
        if self.probing_new:
            return NEW_REGION
        return BOUND_AFTER_MAPPING if self._workers_lag else BOUND_REGION

    @property
    def _workers_lag(self) -> bool:
        """Whether the workers have mapped the pages of another region, whose bind was the write before this one."""
        if self._last is None or self._system.writes > self._last.writes + 1:
            return False
        return self._memory.maps_pages_in(self._last.region.start, self._last.region.end)


def register_children(region: RegionDevice, namespaces: Sequence[NamespaceDevice], race: Race[First]) -> None:
    """Register the namespaces and the first seeds of a region that is being bound (nd_region_probe, Linux 6.1).

    The kernel probes the namespaces in a worker while it makes the seeds.  A personality that the worker finds on media
    takes the lowest free number, as a seed does: `race` decides which of them comes first.  A namespace that becomes a
    plain disk takes no number; it is up after the region is bound, unless it can be up before it is declared the seed.
    """
    first, *others = namespaces
    system = region.system
    seeds_first = system.outcome(race) is First.SEEDS
    if seeds_first or not others:
        region.seeds[SeedKind.NAMESPACE] = first
    race_of_disks = FIRST_OF_TWO_IS_DISK if len(namespaces) == 2 else FIRST_OF_MORE_IS_DISK
    state_of_disk = system.outcome(race_of_disks) if others and not seeds_first else FirstNamespace.WAITING
    if seeds_first:
        for namespace in _as_found(system, namespaces):
            namespace.add_async()
    else:
        _find(system, namespaces, state_of_disk)
    if others and not seeds_first:
        _declare_namespace_seed(region, first, state_of_disk)
    for personality in personalities(system.kernel):
        create_seed(region, personality)
    for namespace in namespaces:
        if namespace.first_probe_deferred:
            system.queue_work(functools.partial(namespace.bus.probe_deferred, namespace))


def _as_found(system: System, namespaces: Sequence[NamespaceDevice]) -> Sequence[NamespaceDevice]:
    """The namespaces in the order in which workers look at them while the seeds are there already.

    Those that are found last (`FOUND_ORDER`) are found in the reverse order.
    """
    *earlier, last = namespaces
    in_order: list[NamespaceDevice] = []
    overtaken: list[NamespaceDevice] = []
    for namespace in earlier:
        (overtaken if system.outcome(FOUND_ORDER) is Found.LAST else in_order).append(namespace)
    return [*in_order, last, *reversed(overtaken)]


def _find(system: System, namespaces: Sequence[NamespaceDevice], state_of_disk: FirstNamespace) -> None:
    """Register the namespaces, whose worker looks at each before there are seeds, unless it is late."""
    last: NamespaceDevice | None = None
    for place, namespace in enumerate(namespaces):
        if last and not last.first_probe_deferred and system.outcome(_race_after(last.claim)) is First.SEEDS:
            for late in _as_found(system, namespaces[place:]):
                late.add_async()
            return
        if state_of_disk is FirstNamespace.WAITING and _becomes_disk(namespace):
            namespace.first_probe_deferred = True
        namespace.add()
        last = namespace


def _race_after(claim: Claimant | None) -> Race[First]:
    """The race between the seeds and the worker that goes on to the next namespace.

    Args:
        claim: what the worker has found on the last namespace; None for a plain disk.
    """
    if claim is None:
        return LATER_AFTER_DISK
    return LATER_NAMESPACE if isinstance(claim, PageMapPersonality) else LATER_AFTER_BTT


def _becomes_disk(namespace: NamespaceDevice) -> bool:
    """Whether a namespace has room for a plain disk, and no info block that counts.

    The kernel does not look twice.  So the look must not use up the hits of a fault rule: with one for reads, no
    namespace is taken for a disk in advance.
    """
    if not namespace.size or namespace.system.faults.media_reads:
        return False
    try:
        head = namespace.read_head()
        return not any(_stops(kind, namespace, head) for kind in personalities(namespace.system.kernel))
    except (KernelError, OSError):  # which the probe meets again, and reports
        return False


def _stops(kind: type[Personality], namespace: NamespaceDevice, head: bytes) -> bool:
    """Whether the info block of a kind keeps a namespace from being a disk, as a valid one does (`nd.probe.detect`)."""
    if not kind.may_adopt(namespace, head):
        return False
    candidate = kind(namespace.region)
    candidate.namespace = namespace  # not claimed: it only looks
    try:
        return candidate.adopts_valid()
    except KernelError:
        return True
    finally:
        candidate.namespace = None
        candidate.release()


def _declare_namespace_seed(region: RegionDevice, first: NamespaceDevice, state_of_disk: FirstNamespace) -> None:
    """Declare the first of several namespaces the seed, which is in a state if it is a plain disk.

    It stays the seed if it is up by then.  Otherwise a new seed replaces it once it is up.
    """

    def declare() -> None:
        if region.data:
            region.seeds[SeedKind.NAMESPACE] = first

    state = state_of_disk if first.claim is None else region.system.outcome(_race_of_claimed(first.claim))
    if state is FirstNamespace.UP:
        region.system.queue_work_last(declare)
    else:
        declare()


def _race_of_claimed(claim: Claimant) -> Race[FirstNamespace]:
    """The race between the worker of a region's first namespace and the probe that declares it the seed."""
    if not isinstance(claim, BttDevice):
        return FIRST_HAS_PAGES
    return FIRST_IS_BTT_WITH_METADATA if claim.has_metadata else FIRST_IS_BTT


def create_seed(region: RegionDevice, personality: type[Personality]) -> Personality:
    """Give the region a new seed of a kind; the previous one, if any, is an ordinary device from now on."""
    seed = personality(region)
    region.seeds[personality.kind] = seed
    seed.add_async()
    return seed


def advance_seeds(region: RegionDevice, device: NdDevice) -> None:
    """Replace a seed that was bound, and the namespace that it claims if that was a seed too.

    When both are replaced, both wait for the region's lock to be probed, see `kernels.races`.
    """
    namespace: NdDevice | None = device
    seed: Personality | None = None
    if isinstance(device, Personality):
        namespace = device.namespace
        if device.is_seed and device.kind in region.system.kernel.devices.advancing_seeds:
            seed = create_seed(region, type(device))
    if namespace and region.seeds[SeedKind.NAMESPACE] is namespace:
        _create_namespace_seed(region)
        if seed and region.system.outcome(BOTH_SEEDS_REPLACED) is FirstLock.NAMESPACE:
            region.system.queue_work(seed.move_to_tail)


def _create_namespace_seed(region: RegionDevice) -> None:
    """Give the region a new namespace seed.

    A region without labels never has a second namespace, so its namespace seed stays.
    """
    if region.nstype is not DeviceType.NAMESPACE_PMEM:
        return
    seed = NamespacePmem(region)
    region.seeds[SeedKind.NAMESPACE] = seed
    seed.add_async()
