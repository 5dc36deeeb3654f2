"""/sys/module: what is loaded, how large it is and who uses it."""

from __future__ import annotations

from nvdimmfs.core.attribute import (
    AttributeGroup,
    HasSystem,
    KernelAttribute,
    attribute,
    constant,
    write_only_attribute,
)
from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import parse_synthetic
from nvdimmfs.kernfs import Directory, Symlink


class Module:
    """A loaded kernel module.

    Attributes:
        name: as lsmod prints it.
        core_size: bytes of code and data, as the reference kernel prints them.
        uses: the modules whose symbols it needs; each shows it as a holder.
        pins: further references, such as one for every enabled region on the bus provider.
        directory: /sys/module/<name>.
    """

    def __init__(
        self,
        system: System,
        name: str,
        core_size: int,
        uses: tuple[Module, ...] = (),
        parameters: tuple[KernelAttribute[HasSystem], ...] = (),
    ) -> None:
        self.system = system
        self.name = name
        self.core_size = core_size
        self.uses = uses
        self.pins = 0
        self.directory = system.directory("module").add(Directory(name))
        self.holders = self.directory.add(Directory("holders"))
        MODULE_GROUP.create(self.directory, self)
        if any(parameter.exists_in(system.kernel) for parameter in parameters):
            AttributeGroup(parameters, name="parameters").create(self.directory, self)
        for used in uses:
            used.holders.add(Symlink(name, self.directory))

    @property
    def reference_count(self) -> int:
        """Modules that use this one plus its pins."""
        return len(self.holders.children) + self.pins

    def unload(self) -> None:
        """Take it away; nothing needs it, and its drivers are gone already."""
        assert not self.reference_count, f"{self.name} is in use"
        for used in self.uses:
            used.holders.remove(self.name)
        self.system.directory("module").remove(self.name)


@attribute("coresize")
def coresize(module: Module) -> str:
    """Bytes of the module's code and data."""
    return f"{module.core_size}\n"


@attribute("refcnt")
def refcnt(module: Module) -> str:
    """References that keep the module from being unloaded."""
    return f"{module.reference_count}\n"


@write_only_attribute("uevent")
def uevent(_module: Module, data: bytes) -> None:
    """Ask for a synthetic uevent; a module's has no listeners here.  EINVAL for an unknown action."""
    parse_synthetic(data)


MODULE_GROUP: AttributeGroup[Module] = AttributeGroup(
    (coresize, constant("initsize", "0\n"), constant("initstate", "live\n"), refcnt, constant("taint", "\n"), uevent)
)
