"""Moves of a walk on the bus nd: namespaces that are brought up and destroyed, drivers, values of attributes."""

from __future__ import annotations

from nvdimmfs.lab.walker import ANY_VALUE, DEVICES, Walker
from nvdimmfs.units import MIB

#: The drivers of each kind of device, the likely one first.
_DRIVERS_OF = {
    "region": ("nd_region",),
    "nmem": ("nvdimm",),
    "namespace": ("nd_pmem", "nd_pmem", "dax_pmem"),
    "btt": ("nd_pmem",),
    "pfn": ("nd_pmem",),
    "dax": ("dax_pmem", "dax_pmem", "nd_pmem"),
}
_ALL_DRIVERS = ("nd_pmem", "nd_region", "dax_pmem", "nvdimm", "nd_bus")

UUIDS = [f"{number:08x}-1111-2222-3333-{number:012x}" for number in range(1, 9)]

#: Values of attributes, right and wrong; other attributes get `ANY_VALUE`, and what they have.
_VALUES = {
    "uuid": [*UUIDS, *UUIDS, "", "not-a-uuid", UUIDS[0].upper(), UUIDS[0][:-1]],
    "mode": ["none", "ram", "ram", "pmem", "pmem", "safe", "PMEM", "", " ram"],
    "align": ["4096", "2097152", "2097152", "1073741824", "0x200000", "0", "12345", "abc", "-1", "16777216"],
    "sector_size": ["512", "4096", "520", "528", "4104", "4160", "4224", "1024", "0", "x", "0x200"],
    "size": ["0", "4096", "16777216", "33554432", "67108864", "134217728", "0x1000000", "1", "999999999999", "abc"],
    "alt_name": ["hello", "", "a" * 63, "a" * 64, "b c"],
    "holder_class": ["btt", "btt2", "pfn", "dax", "", "xyz", "none"],
}

#: Sizes of namespaces, in MiB.
_SIZES = (0, 16, 16, 17, 32, 32, 64, 64, 128, 256)

#: The settings of personalities that make sense.
_SETTINGS = {
    "uuid": UUIDS,
    "mode": ["ram", "pmem"],
    "align": ["4096", "2097152", "2097152"],
    "sector_size": ["512", "4096", "4096", "520", "4160"],
}
_KINDS = ("pfn", "pfn", "btt", "btt", "dax", "dax", "raw", "raw")

#: Seconds after which a scrub of a few ranges has ended, and the kernel knows.
_SCRUB = 30

#: The first bytes of a namespace that have its info blocks, in pages.
_INFO_BLOCK, _PAGE = 4096, 4096


def bind(walker: Walker) -> None:
    """Bind or unbind a device, mostly the right driver; a region is bound again more often than not."""
    device = walker.pick(walker.devices(*_DRIVERS_OF))
    if not device:
        return
    kind = device.rstrip("0123456789.")
    if kind == "nmem":
        disable_dimm(walker, device)
        return
    driver = walker.choose(_DRIVERS_OF[kind])
    acts = ("unbind", "bind") if kind == "region" else (walker.choose(("bind", "unbind")),)
    for act in acts[: walker.choose((1, 2, 2, 2))]:
        walker.drive(driver, act, device + walker.choose(("", "\n")))


def disable_dimm(walker: Walker, dimm: str) -> None:
    """Bind a DIMM again, perhaps with the regions disabled meanwhile.

    It is never left without its driver: the kernel dereferences a null pointer when a process reads `dpa_extents` of a
    namespace on it (dpa_extents_show, drivers/nvdimm/namespace_devs.c, Linux 6.1 and 6.12).
    """
    regions = walker.devices("region") if walker.happens(0.6) else []
    for region in regions:
        walker.drive("nd_region", "unbind", region)
    walker.drive("nvdimm", "unbind", dimm)
    if regions and walker.happens(0.5):
        walker.ask({"op": "dump", "path": walker.real_path(f"{DEVICES}/{dimm}"), "depth": 1, "skip": ["/power"]})
        walker.drive("nd_region", "bind", walker.choose(regions))
    walker.drive("nvdimm", "bind", dimm)
    for region in regions:
        walker.drive("nd_region", "bind", region)


def poke(walker: Walker) -> None:
    """Write a value, right or wrong, to an attribute of a device."""
    device = walker.pick(walker.devices("region", "namespace", "namespace", "btt", "pfn", "dax", "nmem", "ndbus"))
    if device and (written := walker.written_files(f"{DEVICES}/{device}")):
        name = walker.choose(written)
        path = f"{DEVICES}/{device}/{name}"
        if name == "namespace":
            claimed = [*walker.devices("namespace"), "", "", "namespace9.9", "region0"]
            walker.write(path, walker.choose(claimed) + walker.choose(("\n", "\n", "")))
        else:
            walker.write(path, walker.pick_value(path, _VALUES.get(name, ANY_VALUE)))


def core_file(walker: Walker) -> None:
    """Write a file of the driver core: uevents, probes by name, drivers that do not fit."""
    device = walker.pick(walker.devices())
    if not device:
        return
    match walker.number(0, 4):
        case 0:
            walker.write(f"{DEVICES}/{device}/uevent", walker.choose(("add", "change\n", "remove", "bogus", "")))
        case 1:
            walker.write("bus/nd/drivers_probe", device)
        case 2 if not device.startswith("nmem"):
            driver = walker.choose(_ALL_DRIVERS)
            walker.drive(driver, walker.choose(("bind", "bind", "unbind")), device)
        case 3:
            walker.write("bus/nd/drivers_autoprobe", "0")
            bind(walker)
            walker.write("bus/nd/drivers_autoprobe", walker.choose(("1", "1", "1", "x", "")))
            walker.write("bus/nd/drivers_autoprobe", "1")
        case _:
            walker.ask({"op": "read", "path": f"{DEVICES}/ndbus0/wait_probe"})


def scrub(walker: Walker) -> None:
    """Have a bus look for errors once more, when it has ended looking, and read its state when it begins and ends."""
    buses = [name for name in walker.devices("ndbus") if walker.has_scrub(name)]
    if not buses:
        return
    path = f"{DEVICES}/{walker.choose(buses)}/nfit/scrub"
    walker.ask({"op": "sleep", "seconds": _SCRUB})
    walker.write(path, walker.choose(("1", "1\n", "0", "2", "x")))
    walker.ask({"op": "read", "path": path})
    walker.ask({"op": "sleep", "seconds": _SCRUB})
    walker.ask({"op": "read", "path": path})


def bring_up(walker: Walker) -> None:
    """Size a namespace, and put a btt, pfn or dax device on it; sometimes take it down again."""
    namespaces = walker.devices("namespace")
    if not namespaces:
        return
    free = [name for name in namespaces if not walker.seen(f"{DEVICES}/{name}/holder")]
    namespace = walker.choose(free if free and walker.happens(0.7) else namespaces)
    walker.drive("nd_pmem", "unbind", namespace)
    written = walker.written_files(f"{DEVICES}/{namespace}")
    if "uuid" in written:
        walker.write(f"{DEVICES}/{namespace}/uuid", walker.choose(UUIDS))
        for name in ("alt_name", "sector_size", "holder_class"):
            if walker.happens(0.15):
                walker.write(f"{DEVICES}/{namespace}/{name}", walker.choose(_VALUES[name]))
        walker.write(f"{DEVICES}/{namespace}/size", _size_of_new(walker, namespace))
    kind = walker.choose(_KINDS)
    if kind == "raw":
        if walker.happens(0.3):
            walker.write(f"{DEVICES}/{namespace}/force_raw", walker.choose(("0", "1")))
        walker.drive("nd_pmem", "bind", namespace)
    else:
        _claim(walker, kind, namespace)


def _region_of(namespace: str) -> str:
    return f"region{namespace.removeprefix('namespace').partition('.')[0]}"


def _size_of_new(walker: Walker, namespace: str) -> str:
    """Bytes for a namespace, sometimes all that its region has."""
    if walker.happens(0.1):
        name = walker.choose(("available_size", "max_available_extent"))
        return walker.seen(f"{DEVICES}/{_region_of(namespace)}/{name}")
    return str(walker.choose(_SIZES) * MIB)


def _claim(walker: Walker, kind: str, namespace: str) -> None:
    """Have the seed of a kind claim a namespace."""
    seed = walker.seen(f"{DEVICES}/{_region_of(namespace)}/{kind}_seed")
    if not seed:
        return
    for name in walker.written_files(f"{DEVICES}/{seed}"):
        if name in _SETTINGS:
            walker.write(f"{DEVICES}/{seed}/{name}", walker.choose(_SETTINGS[name]))
    walker.write(f"{DEVICES}/{seed}/namespace", namespace)
    driver = _DRIVERS_OF[kind][0]
    walker.drive(driver, "bind", seed)
    if walker.happens(0.4):
        walker.drive(driver, "unbind", seed)
        walker.write(f"{DEVICES}/{seed}/namespace", "\n")


def destroy(walker: Walker) -> None:
    """Destroy a namespace as ndctl does: release it, wipe its info block, and give its space back."""
    namespaces = walker.devices("namespace")
    if not namespaces:
        return
    namespace = walker.choose(namespaces)
    folder = f"{DEVICES}/{namespace}"
    if holder := walker.seen(f"{folder}/holder"):
        walker.drive(_DRIVERS_OF[holder.rstrip("0123456789.")][0], "unbind", holder)
        if walker.happens(0.7):
            walker.write(f"{DEVICES}/{holder}/namespace", walker.choose(("\n", "")))
    walker.drive("nd_pmem", "unbind", namespace)
    if walker.happens(0.6):
        _wipe(walker, namespace)
    if "size" in walker.written_files(folder):
        walker.write(f"{folder}/size", "0")
    else:
        walker.drive("nd_pmem", "bind", namespace)


def _wipe(walker: Walker, namespace: str) -> None:
    """Write zeros over the info block of a namespace, which is a raw disk meanwhile."""
    folder = f"{DEVICES}/{namespace}"
    walker.write(f"{folder}/force_raw", "1")
    walker.drive("nd_pmem", "bind", namespace)
    for disk in walker.names(f"{folder}/block"):
        walker.ask({"op": "pwrite", "dev": disk, "offset": _INFO_BLOCK, "hex": "00" * _PAGE})
    walker.drive("nd_pmem", "unbind", namespace)
    walker.write(f"{folder}/force_raw", "0")
