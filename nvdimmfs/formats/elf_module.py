"""Kernel modules as files: ELF objects that tell modprobe(8), modinfo(8) and depmod(8) what they are.

There is no code in them: no kernel could run them.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class ModuleInfo:
    """What a module's file says of itself.

    Attributes:
        name: as modprobe(8) knows it.
        depends: the modules that it needs, in the order in which its file names them.
        aliases: the modaliases that it is loaded for.
        parameters: names and types of its parameters.
        intree: built with the kernel, and not beside it.
        license: what MODULE_LICENSE says.
    """

    name: str
    depends: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    intree: bool = True
    license: str = "GPL v2"
