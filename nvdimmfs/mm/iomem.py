"""The text of /proc/iomem (r_show, kernel/resource.c, Linux 6.1)."""

from __future__ import annotations

from nvdimmfs.mm.resource import Resource

#: The largest indentation; deeper levels of the tree are shown at this one (MAX_IORES_LEVEL).
MAX_SHOWN_DEPTH = 5


def iomem_text(root: Resource, privileged: bool = True) -> str:
    """Return the content of /proc/iomem; a reader without CAP_SYS_ADMIN gets 0 for every address."""
    width = 4 if root.end < 0x10000 else 8
    lines = []
    for depth, resource in root.walk():
        start, end = (resource.start, resource.end) if privileged else (0, 0)
        indent = "  " * min(depth, MAX_SHOWN_DEPTH)
        lines.append(f"{indent}{start:0{width}x}-{end:0{width}x} : {resource.name}\n")
    return "".join(lines)
