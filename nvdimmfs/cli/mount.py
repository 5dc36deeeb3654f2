"""`nvdimmfs mount`: build a machine and serve it on a mount point, from a daemon or in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from nvdimmfs.class_code import save_class_code
from nvdimmfs.cli import log as logs
from nvdimmfs.cli import machine_options
from nvdimmfs.cli.daemon import Daemon
from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.machine_options import TraceOutput
from nvdimmfs.cli.mount_table import absolute
from nvdimmfs.cli.mountpoint_lock import MountpointLock, locked_mountpoint
from nvdimmfs.fuse.requirements import MountError, require_fuse
from nvdimmfs.late_modules import loaded_late, without_versions
from nvdimmfs.units import div_round_up

if TYPE_CHECKING:  # loaded when a machine is described
    from nvdimmfs.machine.machine import Machine
    from nvdimmfs.machine.saved import SavedMachine
    from nvdimmfs.machine_file.model import MachineDescription
    from nvdimmfs.traces.event import TraceEvent

log = logging.getLogger(__name__)

#: How many more objects there are at a collection of garbage while modules are loaded, which make 60,000.
_NEW_OBJECTS = 5_000

#: More collections than there will be.
_NEVER = 1_000_000


@attrs.frozen
class MountRequest:
    """The machine to mount, where, and how; all paths are absolute.

    Attributes:
        durable: whether acknowledged writes of metadata to `media` survive a power failure of the host.
        saved: the saved machine whose bytes it has at first.
        trace: the file that its trace is appended to.
        is_private: whether only the mount namespace of a sandbox has the mount, which ends with that.
    """

    mountpoint: Path
    machine: MachineDescription
    media: Path | None
    blacklist: tuple[str, ...]
    cache: bool
    durable: bool
    saved: SavedMachine | None = None
    trace: TraceOutput | None = None
    is_private: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the machine depends on its description alone."""
        return not (self.media or self.blacklist or self.saved or self.trace)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("directory", metavar="DIR", help="an empty directory to mount on")
    machine_options.configure(parser)
    parser.add_argument(
        "--foreground", action="store_true", help="serve in this process instead of a daemon, and log to stderr"
    )
    configure_serving(parser)


def configure_serving(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `start` has as well."""
    parser.add_argument("--no-cache", action="store_true", help="keep the kernel from caching names and attributes")
    machine_options.offer_files(parser, log_default="warnings, to the system log")


def run(arguments: argparse.Namespace) -> int:
    """Mount.  Returns once the mount answers; in the foreground, once it has ended."""
    mountpoint = absolute(arguments.directory)
    read = requested(arguments, mountpoint)
    with locked_mountpoint(mountpoint) as lock, gc_disabled():
        require_mount()
        log_file = machine_options.opened_log(arguments)
        trace = machine_options.opened_trace(arguments)
        if arguments.foreground:
            _serve_in_foreground(read(trace), log_file, lock)
        else:
            _serve_in_background(read, log_file, trace, lock)
    return 0


def requested(arguments: argparse.Namespace, mountpoint: Path) -> Callable[[TraceOutput | None], MountRequest]:
    """What reads the machine file and returns the request.  CommandError when the other arguments contradict it."""
    media, *_ = (_uncovered(arguments, option, mountpoint) for option in ("media", "log", "trace"))
    blacklist, cache = tuple(arguments.blacklist), not arguments.no_cache
    durable = machine_options.is_durable(arguments)

    def read(trace: TraceOutput | None) -> MountRequest:
        saved = machine_options.saved_machine(arguments)
        machine = machine_options.machine(arguments, saved)
        return MountRequest(
            mountpoint, machine, media, blacklist, cache=cache, durable=durable, saved=saved, trace=trace
        )

    return read


def _uncovered(arguments: argparse.Namespace, option: str, mountpoint: Path) -> Path | None:
    """What an option names, as an absolute path.  CommandError when it lies in the folder that is mounted on."""
    name: str | None = getattr(arguments, option)
    path = None if name is None else absolute(name)
    if path is not None and path.is_relative_to(mountpoint):
        raise CommandError(f"--{option} {path}: the mount would cover it; choose another place", MISUSED)
    return path


def require_mount() -> None:
    """CommandError when this host cannot mount."""
    try:
        require_fuse()
    except MountError as error:
        raise CommandError(str(error)) from None


def _serve_in_foreground(request: MountRequest, log_file: int | None, lock: MountpointLock) -> None:
    def on_ready() -> None:
        lock.release()
        log.info("mounted on %s; Ctrl-C unmounts", request.mountpoint)

    if log_file is not None:
        os.dup2(log_file, 2)
    logs.log_to_stderr()
    warn_of_missing_memory(request)
    serve(request, on_ready)


def _serve_in_background(
    read: Callable[[TraceOutput | None], MountRequest],
    log_file: int | None,
    trace: TraceOutput | None,
    lock: MountpointLock,
) -> None:
    """Serve from a daemon.  The daemon holds the lock as well until the mount answers: this process may be killed.

    `read` reads the machine file while the daemon loads the modules that serve it.
    """

    def serve_in_daemon(request: MountRequest, report: Callable[[], None]) -> None:
        def on_ready() -> None:
            lock.release()
            report()

        serve(request, on_ready)

    log_of_daemon(log_file)
    keep = {lock.descriptor} if trace is None else {lock.descriptor, trace.file}
    with Daemon(preload_server, serve_in_daemon, stderr=log_file, keep=keep) as daemon:
        request = read(trace)
        daemon.serve(request)
    warn_of_missing_memory(request)


def log_of_daemon(log_file: int | None) -> None:
    """Log to stderr, which will be the file, or without one to the system log."""
    (logs.log_to_system if log_file is None else logs.log_to_stderr)()


def preload_server() -> None:
    """Import the modules that `serve` needs: half of the start-up time, during which the machine file can be read."""
    with young_collected():
        try:
            # trio's, for TLS, and of `ctypes.util`
            with loaded_late("ssl", "hashlib", "hmac", "idna", "tempfile"), without_versions():
                import nvdimmfs.fuse.mount
        except ImportError as error:
            raise CommandError(f"the FUSE library cannot be loaded: {error}") from None
        import nvdimmfs.machine.control
        import nvdimmfs.machine.first_boot
        import nvdimmfs.machine.machine
        import nvdimmfs.sandbox.keyring  # noqa: F401  # loaded, not used
    save_class_code()


def serve(
    request: MountRequest,
    on_ready: Callable[[], None],
    before_mount: Callable[[Machine], None] | None = None,
    booted: Machine | None = None,
) -> None:
    """Build the machine and serve its tree.

    Ten thousand namespaces are so many objects that garbage collection would cost a quarter of the boot, and each full
    collection afterwards would delay the readers of attributes.  The objects live as long as the mount, so they are
    exempted from collection.

    Args:
        request: the machine, and where it is mounted.
        on_ready: called once the mount answers.
        before_mount: called when the machine is built.
        booted: a machine that has booted as the request has it.
    """
    preload_server()
    from nvdimmfs.fuse.mount import serve as serve_tree
    from nvdimmfs.sandbox.keyring import UserKeyring

    machine = booted or _booted_before(request) or _booted(request)
    machine.system.keyring = UserKeyring()
    with contextlib.closing(machine):
        if before_mount is not None:
            before_mount(machine)
        try:
            serve_tree(
                machine.tree,
                request.mountpoint,
                clock=machine.system.clock,
                cache=request.cache,
                unmounts=not request.is_private,
                on_ready=on_ready,
            )
        except MountError as error:
            raise CommandError(str(error)) from None


#: Machines that have booted for the processes that this one forks: each of them has its own, by copy on write.
_BOOTED: dict[MachineDescription, Machine] = {}


def boot_default() -> None:
    """Boot the machine of a command without options, for the processes that this one forks."""
    from nvdimmfs.machine.control import listed
    from nvdimmfs.machine.machine import Machine
    from nvdimmfs.machine_file.selection import selected
    from nvdimmfs.sandbox.merged_sysfs import merged_directories

    description = selected(None)
    with gc_disabled():
        machine = _BOOTED[description] = Machine.described(description)
        listed(machine.system, merged_directories())  # what a sandbox asks first: the entries are made when it does


def default_machine() -> Machine | None:
    """The machine of a command without options, if it has booted and was not taken."""
    return next(iter(_BOOTED.values()), None)


def _booted_before(request: MountRequest) -> Machine | None:
    """The machine of a request, if one has booted that is like it.  It is taken once."""
    return _BOOTED.pop(request.machine, None) if _BOOTED and request.is_plain else None


def _booted(request: MountRequest) -> Machine:
    """Boot the machine of a request.  CommandError."""
    from nvdimmfs.machine.first_boot import NewMachineError
    from nvdimmfs.machine.machine import Machine
    from nvdimmfs.media.base import MediaError

    try:
        with gc_disabled():
            machine = Machine.described(
                request.machine,
                request.media,
                request.blacklist,
                durable=request.durable,
                saved=request.saved,
                traced=None if request.trace is None else _writer(request.trace),
            )
            gc.freeze()
    except (MediaError, NewMachineError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error.filename or request.media}: {error.strerror}") from None
    return machine


def _writer(output: TraceOutput) -> Callable[[TraceEvent], None]:
    """What appends events to the file of --trace."""
    from nvdimmfs.machine.trace_writer import TraceWriter
    from nvdimmfs.traces.forms import JSON, TEXT

    form = JSON if output.path.endswith(machine_options.JSON_SUFFIX) else TEXT
    return TraceWriter(output.file, output.path, form)


@contextlib.contextmanager
def young_collected() -> Iterator[None]:
    """Collect the garbage among new objects, for code that loads modules, and look at no object twice.

    attrs makes each class with slots twice.  The first is garbage, whose memory the next classes can have.
    """
    was_enabled, thresholds = gc.isenabled(), gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, _NEVER, _NEVER)
    gc.enable()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if not was_enabled:
            gc.disable()


@contextlib.contextmanager
def gc_disabled() -> Iterator[None]:
    """Turn garbage collection off for code whose objects all stay in use."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def warn_of_missing_memory(request: MountRequest) -> None:
    """Warn of each range that has no memory behind it, and name the options that would help."""
    from nvdimmfs.machine_file.ram import installed_ram
    from nvdimmfs.mm.pc_memory_map import memory_reaching, without_memory
    from nvdimmfs.units import GIB

    if request.media is not None:
        return
    for missing in without_memory(request.machine.memmap, installed_ram(request.machine)):
        needed = div_round_up(memory_reaching(missing.end), GIB)
        remedy = "add a [[ram_range]]" if request.machine.ram_ranges else f"use --ram {needed}G"
        print(
            f"nvdimmfs: warning: the machine has no memory at {missing}: reads return zeros and writes are lost;"
            f" {remedy} or --media FOLDER",
            file=sys.stderr,
        )
