"""Values that make sense for attributes, by name, and the drivers that fit devices, by the beginning of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Legacy ranges: of odd sizes, side by side, soft reserved, and one that RAM does not reach.
MEMMAPS = (
    "512M!4G",
    "512M!4G,256M!6G",
    "64M!4G,64M!4160M,96M!4224M,256M!5G,130M!5400M,2G!8G",
    "16M!4G,17M!5G,6T!1T",
    "1G%5G-1+0xefffffff,512M!8G",
    "256M!4G,1G%5G-1+0xefffffff",
)

#: UUIDs that tests recognise; few, so that some are written twice.
UUIDS = tuple(f"0000000{number}-1111-2222-3333-444444444444" for number in range(8))

#: The driver of each kind of device of the bus nd.
ND_DRIVERS: Mapping[str, str] = {
    "ndbus": "nd_bus",
    "nmem": "nvdimm",
    "region": "nd_region",
    "namespace": "nd_pmem",
    "btt": "nd_pmem",
    "pfn": "nd_pmem",
    "dax": "dax_pmem",
}

#: Values by the name of the attribute.
SENSIBLE: Mapping[str, Sequence[str]] = {
    "mode": ("none", "pmem", "ram"),
    "align": ("4096", "2097152", "1073741824", "16777216"),
    "alt_name": ("", "data", "log"),
    "deep_flush": ("0", "1"),
    "force_raw": ("0", "1"),
    "sector_size": ("512", "520", "528", "4096", "4104", "4160", "4224"),
    "holder_class": ("btt", "pfn", "dax", ""),
    "read_only": ("0", "1"),
    "state": ("online", "online_movable", "online_kernel", "offline"),
    "online": ("0", "1"),
    "uevent": ("add", "change", "remove", f"add {UUIDS[0]} A=1"),
    "security": ("freeze", "disable 1", "update 0 1", "erase 1", "overwrite 1", "master_update 0 1"),
    "scrub": ("1",),
    "badblocks": ("8 1", "0 100", "1 1"),
    "mapping": ("0x140000000-0x14fffffff",),
}


def fitting_driver(device: str) -> str:
    """The driver of a device of the bus nd, by the device's name; empty for an unknown kind."""
    return next((driver for prefix, driver in ND_DRIVERS.items() if device.startswith(prefix)), "")
