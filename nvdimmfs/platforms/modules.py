"""Modules that can be loaded late and unloaded again, as modprobe(8) does."""

from __future__ import annotations

import errno
from collections.abc import Callable

import attrs

from nvdimmfs.core.driver import Driver
from nvdimmfs.core.module import Module
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError


@attrs.define(eq=False)
class LoadableModule:
    """A module with one driver, loaded or not.

    Attributes:
        name: as modprobe knows it.
        size: bytes of code and data.
        uses: the modules whose symbols it needs.
        make_driver: registers its driver, which looks at all devices that are there.
        driver: the driver; None while the module is not loaded.
    """

    system: System
    name: str
    size: int
    uses: tuple[Module, ...]
    make_driver: Callable[[Module], Driver]
    driver: Driver | None = None

    def load(self) -> None:
        """Load it.  EEXIST when it is loaded (init_module(2))."""
        if self.driver:
            raise KernelError(errno.EEXIST, f"{self.name} is loaded")
        self.driver = self.make_driver(Module(self.system, self.name, self.size, self.uses))
        self.system.settle()

    def unload(self) -> None:
        """Unload it.  ENOENT when it is not loaded, EAGAIN while it is in use (delete_module(2))."""
        if self.driver is None:
            raise KernelError(errno.ENOENT, f"{self.name} is not loaded")
        module = self.driver.module
        if module.reference_count:
            raise KernelError(errno.EAGAIN, f"{self.name} is in use")
        self.driver.unregister()
        module.unload()
        self.driver = None
        self.system.settle()

    @property
    def state(self) -> str:
        """`loaded` and the number of references, or `not loaded`."""
        return f"loaded {self.driver.module.reference_count}" if self.driver else "not loaded"
