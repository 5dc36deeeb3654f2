"""Moves of a walk on the bus dax: device DAX, memory of it that becomes System RAM, and the modules of all drivers."""

from __future__ import annotations

from nvdimmfs.lab.guest_modules import MODULES_FILE
from nvdimmfs.lab.walker import ANY_VALUE, Walker
from nvdimmfs.units import MIB

_DEVICES = "bus/dax/devices"
_DRIVERS = "bus/dax/drivers"

#: The size of a block of memory that is online or offline as a whole, on machines with less than 64 GiB of RAM.
_BLOCK = 128 * MIB

_VALUES = {
    "size": ["0", "2097152", "16777216", "x"],
    "align": ["4096", "2097152", "1073741824", "0", "x"],
    "mapping": ["0x180000000-0x1801fffff", "0-0", "x"],
    "memmap_on_memory": ["0", "1", "x"],
}

_STATES = ("online_movable", "online_movable", "online_movable", "offline", "offline", "online", "x")

_MODULES = ("kmem", "kmem", "dax_pmem", "device_dax", "nd_pmem", "nd_btt", "nd_e820", "nfit", "libnvdimm")


def device(walker: Walker) -> None:
    """Write an attribute of a device of the bus dax, or bind it to another driver."""
    devices = walker.names(_DEVICES)
    if not devices:
        return
    name = walker.choose(devices)
    match walker.number(0, 3):
        case 0:
            if written := walker.written_files(f"{_DEVICES}/{name}"):
                path = f"{_DEVICES}/{name}/{walker.choose(written)}"
                walker.write(path, walker.pick_value(path, _VALUES.get(path.rpartition("/")[2], ANY_VALUE)))
        case 1:
            driver = walker.choose(walker.names(_DRIVERS) or ["device_dax"])
            walker.write(
                f"{_DRIVERS}/{driver}/{walker.choose(('new_id', 'remove_id'))}", walker.choose((name, "dax9.9"))
            )
        case 2:
            driver = walker.choose(walker.names(_DRIVERS) or ["device_dax"])
            walker.write(f"{_DRIVERS}/{driver}/{walker.choose(('bind', 'unbind'))}", name)
        case _:
            _to_system_ram(walker, name)


def _to_system_ram(walker: Walker, name: str) -> None:
    """Have a device become System RAM, as daxctl does."""
    if "kmem" not in walker.names(_DRIVERS):
        walker.write(MODULES_FILE, "load kmem")
    walker.write(f"{_DRIVERS}/device_dax/unbind", name)
    walker.write(f"{_DRIVERS}/kmem/new_id", name)
    walker.write(f"{_DRIVERS}/kmem/bind", name)
    if walker.happens(0.5):
        memory_block(walker)
    if walker.happens(0.4):
        walker.write(f"{_DRIVERS}/kmem/unbind", name)
        walker.write(f"{_DRIVERS}/kmem/remove_id", name)
        walker.write(f"{_DRIVERS}/device_dax/bind", name)


def memory_block(walker: Walker) -> None:
    """Take memory of dax devices online or offline, all blocks of it or one."""
    starts = [int(walker.seen(f"{_DEVICES}/{name}/resource") or "0", 16) for name in walker.names(_DEVICES)]
    sizes = [int(walker.seen(f"{_DEVICES}/{name}/size") or 0) for name in walker.names(_DEVICES)]
    numbers = [
        number
        for start, size in zip(starts, sizes, strict=True)
        for number in range(start // _BLOCK, (start + size) // _BLOCK + 1)
        if f"memory{number}" in walker.names("devices/system/memory")
    ]
    state = walker.choose(_STATES)
    for number in numbers if walker.happens(0.7) else numbers[:1]:
        walker.write(f"devices/system/memory/memory{number}/state", state)
    walker.ask({"op": "read", "path": "../proc/iomem"})


def module(walker: Walker) -> None:
    """Load a module or unload it; one that had been loaded is loaded again more often than not."""
    name = walker.choose(_MODULES)
    if name not in walker.names("module"):
        walker.write(MODULES_FILE, f"load {name}")
        return
    walker.write(MODULES_FILE, f"unload {name}")
    if walker.happens(0.8):
        walker.write(MODULES_FILE, f"load {name}")
    for bus in ("nd", "dax"):
        walker.ask({"op": "ls", "path": f"bus/{bus}/drivers"})
