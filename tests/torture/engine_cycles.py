"""Cycles of making and removing in a machine in process: each leaves the machine as it was."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Callable

from ioctl_stories import UserMemory
from poke import ND, Hands
from replay import InProcess

from nvdimmfs.block.disk import Disk
from nvdimmfs.block.ioctl import block_ioctl
from nvdimmfs.core.uevent import Uevent
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Channel
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.nd.ioctl import ioctl_target, nd_ioctl
from nvdimmfs.units import GIB, MIB

Cycle = Callable[[], None]
Make = Callable[[contextlib.ExitStack], Cycle]

_UUIDS = (str(uuid.UUID(int=number)) for number in itertools.count(1))


def _legacy(stack: contextlib.ExitStack) -> Hands:
    hands = Hands.on("64M!4G", 4 * GIB)
    stack.callback(hands.machine.close)
    return hands


def _named(stack: contextlib.ExitStack, name: str) -> Hands:
    machine = Machine.described(load_machine(name), clock="steps")
    stack.callback(machine.close)
    return Hands(machine, InProcess.of(machine.system))


def namespace(stack: contextlib.ExitStack) -> Cycle:
    """Unbind and bind a namespace, reading what appears."""
    hands = _legacy(stack)

    def cycle() -> None:
        hands.write(f"{ND}/drivers/nd_pmem/unbind", "namespace0.0")
        hands.write(f"{ND}/drivers/nd_pmem/bind", "namespace0.0")
        hands.read("block/pmem0/size")

    return cycle


def personality(kind: str, **settings: object) -> Make:
    """Bring up a personality with a new uuid, and have it let go of its namespace."""

    def make(stack: contextlib.ExitStack) -> Cycle:
        hands = _legacy(stack)

        def cycle() -> None:
            device = hands.configure(0, kind, **settings)
            hands.write(f"{hands.device(device)}/uuid", next(_UUIDS))
            hands.bind(device)
            hands.unbind(device)
            hands.write(f"{hands.device(device)}/namespace", "\n")

        return cycle

    return make


def kmem(stack: contextlib.ExitStack) -> Cycle:
    """Turn a dax device into System RAM and back."""
    hands = Hands.on("512M!4G", 8 * GIB)
    stack.callback(hands.machine.close)
    hands.write("kernel/debug/nvdimmfs/modules", "load kmem")
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


def modules(stack: contextlib.ExitStack) -> Cycle:
    """Unload and load the test platform, whose DIMMs are new each time."""
    hands = _named(stack, "nfit_test")

    def cycle() -> None:
        hands.write("kernel/debug/nvdimmfs/modules", "load kmem")
        hands.write("kernel/debug/nvdimmfs/modules", "unload kmem")
        for number in range(16):
            if hands.driver_of(f"region{number}"):
                hands.unbind(f"region{number}")
        hands.write("kernel/debug/nvdimmfs/modules", "unload nfit_test")
        hands.write("kernel/debug/nvdimmfs/modules", "load nfit_test")

    return cycle


def sessions(stack: contextlib.ExitStack) -> Cycle:
    """Open a control session that watches, have it miss events, and close it."""
    hands = _legacy(stack)
    channel = hands.machine.system.sys.find("kernel/debug/nvdimmfs/control")
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
            ("kernel/debug/nvdimmfs/translate", "pfn x"),
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
    "modules": modules,
    "sessions": sessions,
    "listeners": listeners,
    "ioctls": ioctls,
    "partitions": partitions,
    "refusals": refusals,
}
