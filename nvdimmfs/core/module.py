"""/sys/module: the loaded modules, their sizes and their users."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterable, Sequence

import attrs

from nvdimmfs.core.attribute import (
    AttributeGroup,
    KernelAttribute,
    attribute,
    constant,
    truth_value,
    write_only_attribute,
)
from nvdimmfs.core.kobject import KernelObject
from nvdimmfs.core.module_folders import ModuleFolders, ModuleImage, free_address
from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import synthesize
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Directory
from nvdimmfs.traces.effects import ModuleLoaded, ModuleUnloaded
from nvdimmfs.units import PAGE_SIZE


class Module:
    """A loaded kernel module.

    Attributes:
        name: as lsmod prints it.
        core_size: bytes of code and data, as the reference kernel prints them.
        uses: the modules whose symbols it needs; each shows it as a holder.
        users: the names of the modules that use this one, the last loaded first.
        taint: a letter for each way in which it taints the kernel: `O` out of tree, `E` unsigned.
        pins: further references, such as one for every enabled region on the bus provider.
        switched: the parameters that were written, with their values.
        address: where its memory begins.
        span: bytes from there to the end of its memory, with pages between its parts that are not mapped.
        directory: /sys/module/<name>.
    """

    def __init__(
        self,
        system: System,
        name: str,
        core_size: int,
        uses: tuple[Module, ...] = (),
        parameters: tuple[KernelAttribute[Module], ...] = (),
        taint: str = "",
        address: int = 0,
        span: int = 0,
    ) -> None:
        self.system = system
        self.name = name
        self.address = address
        self.core_size = core_size
        self.span = span or core_size
        self.uses = uses
        self.taint = taint
        self.pins = 0
        self.switched: dict[str, bool] = {}
        self.directory = system.directory("module").add(Directory(name))
        self.kobject = KernelObject(system, self.directory, "module")
        self.holders = self.directory.add(Directory("holders"))
        self.users: list[str] = []
        self._undo: list[Callable[[], None]] = []
        MODULE_GROUP.create(self.directory, self)
        if any(parameter.exists_in(system.kernel) for parameter in parameters):
            _parameter_group(parameters).create(self.directory, self)
        for used in uses:
            used.holders.link(name, self.directory)
            used.users.insert(0, name)

    @property
    def reference_count(self) -> int:
        """Modules that use this one plus its pins."""
        return len(self.users) + self.pins

    def at_exit(self, undo: Callable[[], None]) -> None:
        """Run `undo` when the module is unloaded."""
        self._undo.append(undo)

    def unload(self) -> None:
        """Run the undo functions, last first, and remove the module, which nothing may refer to."""
        assert not self.reference_count, f"{self.name} is in use"
        while self._undo:
            self._undo.pop()()
        for used in self.uses:
            used.holders.remove(self.name)
            used.users.remove(self.name)
        self.kobject.announce_remove()
        self.system.directory("module").remove(self.name)


def boolean_parameter(name: str, value: bool) -> KernelAttribute[Module]:
    """A parameter that can be switched while the module is loaded; `value` is the default."""

    def show(module: Module) -> str:
        """Y or N."""
        return f"{'Y' if module.switched.get(name, value) else 'N'}\n"

    def store(module: Module, data: bytes) -> None:
        """EINVAL for anything but a truth value."""
        module.switched[name] = truth_value(module, data)

    return KernelAttribute(name, 0o644, show, store)


@functools.cache
def _parameter_group(parameters: tuple[KernelAttribute[Module], ...]) -> AttributeGroup[Module]:
    """The group of a module's parameters: one for all times that it is loaded, as tables of files are kept by group."""
    return AttributeGroup(parameters, name="parameters")


@attribute("coresize")
def coresize(module: Module) -> str:
    """Bytes of the module's code and data."""
    return f"{module.core_size}\n"


@attribute("refcnt")
def refcnt(module: Module) -> str:
    """References, which prevent the module from being unloaded."""
    return f"{module.reference_count}\n"


@attribute("taint")
def taint(module: Module) -> str:
    """A letter for each taint: `O` out of tree, `E` unsigned.  Usually empty."""
    return f"{module.taint}\n"


@write_only_attribute("uevent")
def uevent(module: Module, data: bytes) -> None:
    """Send a synthetic uevent.  EINVAL for an unknown action, ENOMEM when it is too large."""
    synthesize(module.kobject, data)


MODULE_GROUP: AttributeGroup[Module] = AttributeGroup(
    (coresize, constant("initsize", "0\n"), constant("initstate", "live\n"), refcnt, taint, uevent)
)


@attrs.frozen
class ModuleDescription:
    """A module that the kernel could load.

    Attributes:
        name: as modprobe(8) knows it.
        size: bytes of code and data.
        init: called when it is loaded; it passes undo functions to `Module.at_exit`.
        uses: the modules whose symbols it needs.
        parameters: the files of its folder parameters/.
        taint: as `Module.taint`.
        image: returns what a loaded one shows of its file; None for a module without one.
        memories: the parts that its memory has.
    """

    name: str
    size: int
    init: Callable[[Module], None]
    uses: tuple[str, ...] = ()
    parameters: tuple[KernelAttribute[Module], ...] = ()
    taint: str = ""
    image: Callable[[], ModuleImage] | None = None
    memories: int = 1

    @property
    def span(self) -> int:
        """Bytes of its memory, with a page between two parts that is not mapped, and what parts are rounded up by."""
        return self.size + 2 * (self.memories - 1) * PAGE_SIZE


class Modules:
    """All modules of a machine, loaded or not.

    Attributes:
        system: the machine.
        known: the modules that can be loaded, by name.
        loaded: the loaded modules, by name, in the order of loading.
    """

    def __init__(self, system: System, known: Iterable[ModuleDescription]) -> None:
        self.system = system
        self.known = {description.name: description for description in known}
        self.loaded: dict[str, Module] = {}
        MODULES_GROUP.create(system.directory("module"), self)

    def load(self, name: str) -> None:
        """Load one module, as init_module(2) does (kernel/module/main.c, Linux 6.1).

        ENOENT for an unknown module, and when a module that it uses is not loaded ("unknown symbol"); EEXIST when it is
        already loaded; else the error of its `init`.
        """
        description = self.known.get(name)
        if description is None:
            raise KernelError(errno.ENOENT, f"there is no module {name}")
        if name in self.loaded:
            raise KernelError(errno.EEXIST, f"{name} is loaded")
        for used in description.uses:
            if used not in self.loaded:
                raise KernelError(errno.ENOENT, f"{name} needs {used}, which is not loaded")
        self.system.begin_write()
        try:
            module = self._laid_out(description)
            try:
                description.init(module)
            except (KernelError, OSError):  # a refusal, or a medium of the host that fails
                module.unload()
                raise
            self.loaded[name] = module
            if (trace := self.system.trace) is not None:
                trace.report(ModuleLoaded(name))
            module.kobject.announce_add()
        finally:  # what the init has queued before it failed happens all the same
            self.system.end_write()

    def _laid_out(self, description: ModuleDescription) -> Module:
        """The module in memory and in /sys/module, before its init is called."""
        module = Module(
            self.system,
            description.name,
            description.size,
            uses=tuple(self.loaded[used] for used in description.uses),
            parameters=description.parameters,
            taint=description.taint,
            address=free_address(self.loaded.values(), description.span),
            span=description.span,
        )
        if description.image is not None:
            # The memory that is needed while it is loaded is allocated after the other.
            init_address = free_address((*self.loaded.values(), module), PAGE_SIZE)
            module.directory.populate_lazily(ModuleFolders(description.image, module.address, init_address))
        return module

    def unload(self, name: str, open_nodes: Sequence[str] = ()) -> None:
        """Unload one module, as delete_module(2) does with O_NONBLOCK.

        ENOENT when it is not loaded, EAGAIN while something refers to it, such as a device node of its that is open.
        """
        module = self.loaded.get(name)
        if module is None:
            raise KernelError(errno.ENOENT, f"{name} is not loaded")
        if module.reference_count:
            raise KernelError(errno.EAGAIN, f"{name} is in use")
        if open_nodes:
            raise KernelError(errno.EAGAIN, f"{name} is in use: {open_nodes[0]} is open")
        self.system.begin_write()
        try:
            with self.system.transaction():
                module.unload()
                del self.loaded[name]
            if (trace := self.system.trace) is not None:
                trace.report(ModuleUnloaded(name))
        finally:  # the host may refuse the end of the transaction; the module is gone all the same
            self.system.end_write()

    def probe(self, name: str) -> None:
        """Load a module and first those that it needs, unless it is loaded, as modprobe(8) does.  ENOENT as `load`."""
        if name in self.loaded:
            return
        for used in self.known[name].uses if name in self.known else ():
            self.probe(used)
        self.load(name)

    def proc_text(self) -> str:
        """/proc/modules, the last loaded first (m_show, kernel/module/procfs.c, Linux 6.1).

        The address of a module reads as 0, as it does for users other than root.
        """
        return "".join(_proc_line(module) for module in reversed(self.loaded.values()))


def _proc_line(module: Module) -> str:
    users = "".join(f"{user}," for user in module.users) or "-"
    tainted = f" ({module.taint})" if module.taint else ""
    return f"{module.name} {module.core_size} {module.reference_count} {users} Live 0x{0:016x}{tainted}\n"


@attribute("compression", since="6.12")
def compression(_modules: Modules) -> str:
    """Always `xz`: how files of modules may be compressed that finit_module(2) loads.

    Debian's kernels have it since 6.12 (CONFIG_MODULE_DECOMPRESS, there since 5.17).
    """
    return "xz\n"


MODULES_GROUP: AttributeGroup[Modules] = AttributeGroup((compression,))
