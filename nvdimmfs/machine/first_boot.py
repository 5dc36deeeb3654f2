"""The info blocks that a machine file defines, written to media before the machine is used for the first time."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from attrs import frozen

from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, Directory
from nvdimmfs.kernfs.path import resolve
from nvdimmfs.machine_file.model import PersonalityDescription
from nvdimmfs.machine_file.words import PersonalityKind


class NewMachineError(Exception):
    """The engine refuses a setting of a machine file; str() is the message for the user."""


@frozen
class SysfsWriter:
    """Reads and writes files in /sys like user space, before the machine is in use."""

    system: System

    def set_up(self, personalities: Iterable[PersonalityDescription]) -> None:
        """Write info blocks to media by binding devices.  NewMachineError."""
        for personality in personalities:
            try:
                self._set_up(personality)
            except KernelError as refusal:
                raise NewMachineError(
                    f"cannot create a {personality.kind.value} on {personality.namespace}: {refusal}"
                ) from None

    def _set_up(self, personality: PersonalityDescription) -> None:
        number, _, _ = personality.namespace.removeprefix("namespace").partition(".")
        region, kind = f"region{number}", personality.kind.value
        device = "bus/nd/devices"
        namespace = resolve(self.system.sys, f"{device}/{personality.namespace}/")
        if isinstance(namespace, Directory) and "driver" in namespace:
            self._write(f"{device}/{personality.namespace}/driver/unbind", personality.namespace)
        seed = self._read(f"{device}/{region}/{kind}_seed")
        for name, value in _settings(personality).items():
            self._write(f"{device}/{seed}/{name}", value)
        driver = "dax_pmem" if personality.kind is PersonalityKind.DAX else "nd_pmem"
        self._write(f"bus/nd/drivers/{driver}/bind", seed)

    def attribute(self, path: str) -> Attribute[object]:
        """Return the attribute at a path below /sys, following links.  ENOENT, ENOTDIR; EISDIR for other nodes."""
        node = resolve(self.system.sys, path)
        if not isinstance(node, Attribute):
            raise KernelError(errno.EISDIR, f"{path} is not an attribute")
        return node

    def _read(self, path: str) -> str:
        return self.attribute(path).show().decode().strip()

    def _write(self, path: str, text: str) -> None:
        self.attribute(path).store(f"{text}\n".encode())


def _settings(personality: PersonalityDescription) -> dict[str, str]:
    """The values to write to the seed's attributes, in order."""
    if personality.kind is PersonalityKind.BTT:
        own = {"sector_size": str(personality.sector_size)}
    else:
        own = {"mode": personality.memmap.value, "align": str(personality.align)}
    return own | {"uuid": personality.uuid, "namespace": personality.namespace}
