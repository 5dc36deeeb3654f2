"""Cycles of making and removing in a machine in process: each leaves the machine as it was."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Callable

from ioctl_stories import UserMemory
from poke import DEBUG, ND, Hands

from nvdimmfs.block.disk import Disk
from nvdimmfs.block.ioctl import block_ioctl
from nvdimmfs.core.uevent import Uevent
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Channel
from nvdimmfs.nd.ioctl import ioctl_target, nd_ioctl
from nvdimmfs.nd.region import RegionDevice
from nvdimmfs.units import GIB, MIB

Cycle = Callable[[], None]
Make = Callable[[contextlib.ExitStack], Cycle]

#: Bytes at the start of a namespace in which info blocks are.
INFO_BLOCKS = 16 << 10

_UUIDS = (str(uuid.UUID(int=number)) for number in itertools.count(1))


def _legacy(stack: contextlib.ExitStack) -> Hands:
    hands = Hands.on("64M!4G", 4 * GIB)
    stack.callback(hands.machine.close)
    return hands


def _named(stack: contextlib.ExitStack, name: str) -> Hands:
    hands = Hands.described(name)
    stack.callback(hands.machine.close)
    return hands


def namespace(stack: contextlib.ExitStack) -> Cycle:
    """Unbind and bind a namespace, reading what appears."""
    hands = _legacy(stack)

    def cycle() -> None:
        hands.write(f"{ND}/drivers/nd_pmem/unbind", "namespace0.0")
        hands.write(f"{ND}/drivers/nd_pmem/bind", "namespace0.0")
        hands.read("block/pmem0/size")

    return cycle


def personality(kind: str, **settings: object) -> Make:
    """Bring up a personality with a new uuid, have it let go of its namespace, and erase its info blocks."""

    def make(stack: contextlib.ExitStack) -> Cycle:
        hands = _legacy(stack)
        bus = hands.machine.nd_bus
        assert bus is not None
        region = bus.members["region0"]
        assert isinstance(region, RegionDevice)

        def cycle() -> None:
            device = hands.configure(0, kind, **settings)
            hands.write(f"{hands.device(device)}/uuid", next(_UUIDS))
            hands.bind(device)
            hands.unbind(device)
            hands.write(f"{hands.device(device)}/namespace", "\n")
            region.media.zero(0, INFO_BLOCKS)

        return cycle

    return make


def kmem(stack: contextlib.ExitStack) -> Cycle:
    """Turn a dax device into System RAM and back."""
    hands = Hands.on("512M!4G", 8 * GIB)
    stack.callback(hands.machine.close)
    hands.write(f"{DEBUG}/modules", "load kmem")
    hands.bring_up(0, "dax", mode="ram")

    def cycle() -> None:
        hands.write("bus/dax/drivers/device_dax/unbind", "dax0.0")
        hands.write("bus/dax/drivers/kmem/new_id", "dax0.0")
        with contextlib.suppress(KernelError):
            hands.write("bus/dax/drivers/kmem/bind", "dax0.0")
        with contextlib.suppress(KernelError):
            hands.write("bus/dax/drivers/kmem/unbind", "dax0.0")
        hands.write("bus/dax/drivers/kmem/remove_id", "dax0.0")
        hands.write("bus/dax/drivers/device_dax/bind", "dax0.0")

    return cycle


def region(stack: contextlib.ExitStack) -> Cycle:
    """Unbind and bind a region."""
    hands = _named(stack, "qemu-nfit-labelled")

    def cycle() -> None:
        hands.write(f"{ND}/drivers/nd_region/unbind", "region0")
        hands.write(f"{ND}/drivers/nd_region/bind", "region0")

    return cycle


def dimm(stack: contextlib.ExitStack) -> Cycle:
    """Unbind and bind a DIMM below an unbound region."""
    hands = _named(stack, "qemu-nfit-labelled")
    hands.unbind("region0")

    def cycle() -> None:
        hands.write(f"{ND}/drivers/nvdimm/unbind", "nmem0")
        hands.write(f"{ND}/drivers/nvdimm/bind", "nmem0")

    return cycle


def labelled(stack: contextlib.ExitStack) -> Cycle:
    """Create, rename and delete a namespace, with a new uuid each time."""
    hands = _named(stack, "one-dimm")

    def cycle() -> None:
        seed = hands.device(hands.read(f"{hands.device('region0')}/namespace_seed").strip())
        hands.write(f"{seed}/uuid", next(_UUIDS))
        hands.write(f"{seed}/size", str(64 * MIB))
        hands.write(f"{seed}/alt_name", next(_UUIDS))
        hands.write(f"{seed}/uuid", next(_UUIDS))
        hands.write(f"{seed}/size", "0")

    return cycle


def module(name: str, machine: str) -> Make:
    """Unload and load a platform, whose DIMMs and regions are new each time, and a module that nothing uses."""

    def make(stack: contextlib.ExitStack) -> Cycle:
        hands = _named(stack, machine)

        def cycle() -> None:
            hands.write(f"{DEBUG}/modules", "load kmem")
            hands.write(f"{DEBUG}/modules", "unload kmem")
            for region in hands.names("region"):
                hands.unbind(region)
            hands.write(f"{DEBUG}/modules", f"unload {name}")
            hands.write(f"{DEBUG}/modules", f"load {name}")

        return cycle

    return make


def sessions(stack: contextlib.ExitStack) -> Cycle:
    """Open a control session that watches, have it miss events, and close it."""
    hands = _legacy(stack)
    channel = hands.machine.system.sys.find(f"{DEBUG}/control")
    assert isinstance(channel, Channel)

    def cycle() -> None:
        session = channel.open_session(channel)
        session.write(b'{"Watch":{"directories":["","block"]}}')
        hands.write(f"{ND}/drivers/nd_pmem/unbind", "namespace0.0")
        hands.write(f"{ND}/drivers/nd_pmem/bind", "namespace0.0")
        session.close()

    return cycle


class _Deaf:
    def uevent(self, event: Uevent) -> None:
        """Keep nothing."""


def listeners(stack: contextlib.ExitStack) -> Cycle:
    """Listen to uevents for the time of one."""
    hands = _legacy(stack)

    def cycle() -> None:
        listener = _Deaf()
        hands.machine.system.listen(listener)
        hands.write("block/pmem0/uevent", "change")
        hands.machine.system.stop_listening(listener)

    return cycle


def ioctls(stack: contextlib.ExitStack) -> Cycle:
    """Read a DIMM's label size, and start and end a scrub."""
    hands = _named(stack, "nfit_test")
    targets = [target for each in hands.machine.system.numbered.values() if (target := ioctl_target(each))]

    def cycle() -> None:
        for target in targets:
            for command in (4, 1, 2, 3):
                with contextlib.suppress(KernelError):
                    UserMemory(bytearray(256)).run(nd_ioctl(target, command, writable=True))
        hands.machine.system.clock.advance(60_000_000_000)

    return cycle


def partitions(stack: contextlib.ExitStack) -> Cycle:
    """Read a partition table again, and add and delete a partition."""
    hands = _legacy(stack)

    def cycle() -> None:
        disk = next(each for each in hands.machine.system.numbered.values() if isinstance(each, Disk))
        disk.add_partition(1, 8, 64)
        disk.delete_partition(1)
        UserMemory(bytearray(16)).run(block_ioctl(disk, 0x125F, 0, privileged=True))

    return cycle


def refusals(stack: contextlib.ExitStack) -> Cycle:
    """Writes that are refused."""
    hands = _legacy(stack)

    def cycle() -> None:
        for path, text in (
            (f"{ND}/drivers/nd_pmem/bind", "namespace0.0"),
            (f"{ND}/drivers/nd_pmem/bind", "bogus"),
            (f"{ND}/drivers/nd_pmem/bind", "pfn0.0"),
            (f"{ND}/devices/btt0.0/uuid", "x"),
            (f"{ND}/devices/pfn0.0/align", "1"),
            (f"{DEBUG}/translate", "pfn x"),
        ):
            hands.refused(path, text)

    return cycle


KINDS: dict[str, Make] = {
    "namespace": namespace,
    "btt": personality("btt", sector_size=4096),
    "pfn": personality("pfn", mode="pmem"),
    "dax": personality("dax", mode="ram"),
    "kmem": kmem,
    "region": region,
    "dimm": dimm,
    "labelled namespace": labelled,
    "module nd_e820": module("nd_e820", "e820"),
    "module nfit": module("nfit", "one-dimm"),
    "module nfit_test": module("nfit_test", "nfit_test"),
    "sessions": sessions,
    "listeners": listeners,
    "ioctls": ioctls,
    "partitions": partitions,
    "refusals": refusals,
}
