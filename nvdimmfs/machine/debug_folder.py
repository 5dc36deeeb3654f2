"""The debug folder, sys/kernel/debug/nvdimmfs: the engine's internal state, and fault injection.

A real kernel has no such folder.  No other file depends on it, and reading it has no side effects.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from nvdimmfs.core.clock import Clock
from nvdimmfs.core.debugfs import debugfs
from nvdimmfs.core.module import Modules
from nvdimmfs.core.parse import c_string, line, parse_bool
from nvdimmfs.core.system import System
from nvdimmfs.dumps.dump import dump_of_machine
from nvdimmfs.errors import KERNEL_ERRNO_NAMES, KernelError
from nvdimmfs.faults.rule import RuleError
from nvdimmfs.kernels.durations import MICROSECOND, MILLISECOND, MINUTE, SECOND, duration_text
from nvdimmfs.kernfs import Attribute, Channel
from nvdimmfs.machine.checkpoint import CheckpointError, Checkpoints
from nvdimmfs.machine.fault_control import FaultControl
from nvdimmfs.machine.layout import layout_json
from nvdimmfs.machine.persistent_memory import PersistentMemory
from nvdimmfs.machine.trace_file import create_trace_files
from nvdimmfs.machine_file.errors import MachineFileError
from nvdimmfs.media.base import MediaError
from nvdimmfs.mm import describe
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.translate import PageQuery, translation_text

if TYPE_CHECKING:  # loaded when the channel is opened
    from nvdimmfs.machine.control import ControlSession

#: Written to `fail_registration` or `power_cut` to disarm it, and its content when nothing is armed.
NOT_ARMED = "none"

_PLUG_USAGE = "write `dimm size=1G label=128K`, or [[bus.dimm]] and [[bus.range]] as in a machine file\n"

_TRANSLATE_USAGE = "query: none; write pfn N, phys N, virt N or page N (a bare number is an address), then read\n"

#: The text that advances the clock, and the largest step: a year.
_ADVANCE = re.compile(r"advance\s+([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*(us|ms|s|min)")
_TIME_UNITS = {"us": MICROSECOND, "ms": MILLISECOND, "s": SECOND, "min": MINUTE}
_LONGEST_ADVANCE = 365 * 24 * 60 * MINUTE

#: A number of writes to media.
_COUNT = re.compile("[0-9]{1,9}")

#: The name of a checkpoint.
_CHECKPOINT_NAME = re.compile(r"[\w.:-]{1,64}")


@attrs.define(eq=False)
class Debugger:
    """The subject of the folder's files.

    Attributes:
        system: its devices.
        memory: the machine's physical memory.
        persistent_memory: its modules and the objects that they have created.
        clock: the machine's clock.
        checkpoints: its last checkpoint.
        plug: plugs in DIMMs and ranges.
        faults: its fault rules.
        query: the last query written to `translate`.
    """

    system: System
    memory: Memory
    persistent_memory: PersistentMemory
    clock: Clock
    checkpoints: Checkpoints
    plug: Callable[[str], None]
    faults: FaultControl
    query: PageQuery | None = None


@attrs.frozen
class DebugFile:
    """A file of the folder.  Unlike sysfs attributes it does not count as a look at the machine: no time passes."""

    text: Callable[[Debugger], str]
    write: Callable[[Debugger, bytes], None] | None = None

    @property
    def permissions(self) -> int:
        return 0o644 if self.write else 0o444

    def show(self, debugger: Debugger) -> bytes:
        debugger.clock.run_due()
        return self.text(debugger).encode()

    def store(self, debugger: Debugger, data: bytes) -> None:
        """EIO for a read-only file."""
        if self.write is None:
            raise KernelError(errno.EIO, "the file is read-only")
        debugger.clock.run_due()
        self.write(debugger, data)


def create_debug_files(
    system: System,
    memory: Memory,
    persistent_memory: PersistentMemory,
    checkpoints: Checkpoints,
    plug: Callable[[str], None],
    faults: FaultControl,
) -> None:
    """Create the folder."""
    folder = debugfs(system).directory("nvdimmfs")
    debugger = Debugger(system, memory, persistent_memory, system.clock, checkpoints, plug, faults)
    for name, file in DEBUG_FILES.items():
        folder.add(Attribute(name, file.permissions, file, debugger))
    modules = persistent_memory.modules
    create_trace_files(system, folder)
    folder.add(Channel("control", 0o600, lambda channel: _control_session(system, channel, modules)))


def _control_session(system: System, channel: Channel, modules: Modules) -> ControlSession:
    from nvdimmfs.machine.control import ControlSession  # which a machine within a test has no need of

    return ControlSession(system, channel, modules)


def _show_translate(debugger: Debugger) -> str:
    """The current facts about the page of the last query."""
    if debugger.query is None:
        return _TRANSLATE_USAGE
    return translation_text(debugger.memory, debugger.query)


def _store_translate(debugger: Debugger, data: bytes) -> None:
    """Set the query, see `mm.translate`.  EINVAL for any other text, ENXIO when there can be no such page.

    A refused query leaves the last one in place.
    """
    memory = debugger.memory
    query = PageQuery.parse(line(data), memory.space)
    query.pfn(memory.pages)
    debugger.query = query


def _show_fail_registration(debugger: Debugger) -> str:
    """The name of the errno with which the next registration fails."""
    number = debugger.faults.next_registration
    return f"{NOT_ARMED if number is None else KERNEL_ERRNO_NAMES[number]}\n"


def _store_fail_registration(debugger: Debugger, data: bytes) -> None:
    """Arm it with an errno, by name or number, or disarm it with `none` or 0.  EINVAL for anything else."""
    debugger.faults.next_registration = _parse_errno(line(data).strip())


def _show_fail_altmap(debugger: Debugger) -> str:
    """Whether the next allocation from an altmap fails."""
    return f"{int(debugger.faults.fails_altmap)}\n"


def _store_fail_altmap(debugger: Debugger, data: bytes) -> None:
    """Arm or disarm it.  EINVAL for anything but a truth value."""
    debugger.faults.fails_altmap = parse_bool(data)


def _show_faults(debugger: Debugger) -> str:
    """One line for each rule, as it can be written, with its number and its hits after a #."""
    return debugger.faults.text


def _store_faults(debugger: Debugger, data: bytes) -> None:
    """Carry out orders, a line each; errors as `FaultControl.carry_out`."""
    debugger.faults.carry_out(_text(c_string(data)))


def _show_modules(debugger: Debugger) -> str:
    """One line for each module: its name, whether it is loaded, and its reference count."""
    modules = debugger.persistent_memory.modules
    loaded = {name: f"loaded {module.reference_count}" for name, module in modules.loaded.items()}
    return "".join(f"{name}: {loaded.get(name, 'not loaded')}\n" for name in modules.known)


def _store_modules(debugger: Debugger, data: bytes) -> None:
    """`load NAME` or `unload NAME`.  EINVAL for any other text; also errors of `Modules.load` and `unload`."""
    order = line(data).strip()
    verb, _, name = order.partition(" ")
    modules = debugger.persistent_memory.modules
    if verb == "load" and name:
        modules.load(name)
    elif verb == "unload" and name:
        modules.unload(name)
    else:
        raise KernelError(errno.EINVAL, f"{order!r} is not load or unload and the name of a module")


def _show_power_cut(debugger: Debugger) -> str:
    """The number of writes that the media still take, 0 when the power is cut; `none` without an order."""
    left = debugger.faults.writes_left
    return f"{NOT_ARMED if left is None else left}\n"


def _store_power_cut(debugger: Debugger, data: bytes) -> None:
    """Order a power cut after a number of writes to media, or revoke the order with `none`.

    EINVAL for anything else, EOPNOTSUPP without media that outlive the machine, EBUSY when the power is cut.
    """
    text = line(data).strip()
    if debugger.persistent_memory.tables.storage.journal is None:
        raise KernelError(errno.EOPNOTSUPP, "a machine without --media keeps nothing when its power is cut")
    if text != NOT_ARMED and not _COUNT.fullmatch(text):
        raise KernelError(errno.EINVAL, f"{text!r} is not a number of writes")
    debugger.faults.order_power_cut(None if text == NOT_ARMED else int(text))


def _show_clock(debugger: Debugger) -> str:
    """The clock's mode, the time since boot, and one line for each pending event."""
    clock = debugger.clock
    due = "".join(f"due {_seconds(event.due)}: {event.what}\n" for event in clock.pending)
    return f"mode: {clock.mode.value}\nnow: {_seconds(clock.now)}\n{due}"


def _store_clock(debugger: Debugger, data: bytes) -> None:
    """`advance NUMBER UNIT` advances the clock; the unit is us, ms, s or min.  EINVAL for any other text."""
    text = line(data).strip()
    match = _ADVANCE.fullmatch(text)
    if match is None:
        raise KernelError(errno.EINVAL, f"{text!r} is not `advance 30s`, with a unit of {', '.join(_TIME_UNITS)}")
    from decimal import Decimal  # which few machines need

    nanoseconds = round(Decimal(match[1]) * _TIME_UNITS[match[2]])
    if nanoseconds > _LONGEST_ADVANCE:
        raise KernelError(errno.EINVAL, f"{text!r} is more than {duration_text(_LONGEST_ADVANCE)}")
    debugger.clock.advance(nanoseconds)


def _show_plug(_debugger: Debugger) -> str:
    """How to write to it."""
    return _PLUG_USAGE


def _store_plug(debugger: Debugger, data: bytes) -> None:
    """Plug in what the text describes.  EINVAL for one with mistakes; also the errors of `Machine.plug`."""
    try:
        debugger.plug(_text(data))
    except MachineFileError as error:
        raise KernelError(errno.EINVAL, "; ".join(error.lines)) from None
    except MediaError as error:
        raise KernelError(errno.EINVAL, str(error)) from None


def _show_checkpoint(debugger: Debugger) -> str:
    """Whether there is a checkpoint, and one line for each that has a name."""
    names = "".join(f"{name}\n" for name in debugger.checkpoints.names)
    return f"{'none' if debugger.checkpoints.last is None else 'taken'}\n{names}"


def _store_checkpoint(debugger: Debugger, data: bytes) -> None:
    """`take` saves the machine's state, `reset` goes back to it; with a name, they mean the checkpoint of that name.

    `forget NAME` drops one.  EINVAL for any other text, and for a checkpoint that does not exist; EOPNOTSUPP for a
    machine with --media.
    """
    order, _, name = line(data).strip().partition(" ")
    if (name or order == "forget") and not _CHECKPOINT_NAME.fullmatch(name):
        raise KernelError(errno.EINVAL, f"{name!r} is not the name of a checkpoint")
    checkpoints = debugger.checkpoints
    try:
        if order == "take":
            checkpoints.take(name)
        elif order == "reset":
            checkpoints.reset(name)
        elif order == "forget":
            checkpoints.forget(name)
        else:
            raise KernelError(errno.EINVAL, f"{order!r} is none of take, reset and forget")
    except CheckpointError as refusal:
        raise KernelError(errno.EOPNOTSUPP if order == "take" else errno.EINVAL, str(refusal)) from None


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds // SECOND}.{nanoseconds % SECOND:09} s"


def _text(data: bytes) -> str:
    """The text that was written.  EINVAL for bytes that are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise KernelError(errno.EINVAL, f"not UTF-8 text: byte {error.start} is {data[error.start]:#04x}") from None


def _parse_errno(text: str) -> int | None:
    """Parse the name or number of an errno; None for `none` and 0.  EINVAL."""
    if text == NOT_ARMED:
        return None
    from nvdimmfs.faults.parse import parse_errno  # loaded when an errno is written

    try:
        return parse_errno(text) or None
    except RuleError as error:
        raise KernelError(errno.EINVAL, str(error)) from None


DEBUG_FILES = {
    "zones": DebugFile(lambda debugger: describe.zones_text(debugger.memory)),
    "sections": DebugFile(lambda debugger: describe.sections_text(debugger.memory)),
    "memmap": DebugFile(lambda debugger: describe.memmap_text(debugger.memory)),
    "resources": DebugFile(lambda debugger: describe.resources_text(debugger.memory)),
    "ram": DebugFile(lambda debugger: describe.ram_text(debugger.memory)),
    "layout": DebugFile(lambda debugger: layout_json(debugger.memory, debugger.persistent_memory.nd_bus)),
    "dump": DebugFile(lambda debugger: dump_of_machine(debugger.system)),
    "translate": DebugFile(_show_translate, _store_translate),
    "fail_registration": DebugFile(_show_fail_registration, _store_fail_registration),
    "clock": DebugFile(_show_clock, _store_clock),
    "plug": DebugFile(_show_plug, _store_plug),
    "checkpoint": DebugFile(_show_checkpoint, _store_checkpoint),
    "modules": DebugFile(_show_modules, _store_modules),
    "power_cut": DebugFile(_show_power_cut, _store_power_cut),
    "fail_altmap": DebugFile(_show_fail_altmap, _store_fail_altmap),
    "faults": DebugFile(_show_faults, _store_faults),
}
