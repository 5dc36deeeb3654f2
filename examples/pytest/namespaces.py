"""The tool under test: lists namespaces, and has struct pages put on one so that it can be used with DAX.

usage: namespaces.py list | namespaces.py dax NAMESPACE
"""

import os
import sys
import uuid
from pathlib import Path


def listed(sysfs: Path) -> list[str]:
    """A line for each namespace in use: its name, its size, and the device that has claimed it."""
    lines = []
    for device in sorted((sysfs / "bus/nd/devices").glob("namespace*")):
        size = int((device / "size").read_text())
        if size:
            holder = (device / "holder").read_text().strip()
            lines.append(f"{device.name} {size >> 20} MiB {holder or '-'}")
    return lines


def use_with_dax(sysfs: Path, namespace: str) -> str:
    """Put struct pages on a namespace; the name of the device that has them."""
    nd = sysfs / "bus/nd"
    region = (nd / "devices" / namespace).resolve().parent
    device = (region / "pfn_seed").read_text().strip()
    bound = nd / "drivers/nd_pmem" / namespace
    if bound.exists():
        store(nd / "drivers/nd_pmem/unbind", namespace)
    for name, value in {"mode": "ram", "uuid": str(uuid.uuid4()), "namespace": namespace}.items():
        store(nd / "devices" / device / name, value)
    try:
        store(nd / "drivers/nd_pmem/bind", device)
    except OSError:
        store(nd / "devices" / device / "namespace", "\n")
        store(nd / "devices" / namespace / "force_raw", "1")  # whatever was written to it already
        store(nd / "drivers/nd_pmem/bind", namespace)
        raise
    return device


def store(attribute: Path, value: str) -> None:
    """Write a value once: Path.write_text would write it again after a refusal."""
    descriptor = os.open(attribute, os.O_WRONLY)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def main(arguments: list[str], sysfs: Path = Path("/sys")) -> int:
    """The command line."""
    try:
        match arguments:
            case ["list"]:
                print("\n".join(listed(sysfs)))
            case ["dax", namespace]:
                print(use_with_dax(sysfs, namespace))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except OSError as error:
        print(f"namespaces: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
