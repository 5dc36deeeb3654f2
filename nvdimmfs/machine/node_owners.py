"""Which module a device node belongs to: while the node is open, mapped or mounted, the module is in use."""

from __future__ import annotations

import re

#: The module that owns the file operations of each kind of node, by the node's name (dax_driver and pmem_fops and
#: btt_fops below drivers/dax and drivers/nvdimm, nvdimm_bus_fops and nvdimm_fops in drivers/nvdimm/bus.c; Linux 6.1).
_OWNERS = (
    (re.compile(r"dax\d+\.\d+"), "device_dax"),
    (re.compile(r"pmem\d+(\.\d+)?s\d*"), "nd_btt"),
    (re.compile(r"pmem\d+(\.\d+)?(p\d+)?"), "nd_pmem"),
    (re.compile(r"(ndctl|nmem)\d+"), "libnvdimm"),
)


def owner_of_node(name: str) -> str | None:
    """The name of the module that a node with that name belongs to; None for a name that no device has."""
    return next((module for pattern, module in _OWNERS if pattern.fullmatch(name)), None)
