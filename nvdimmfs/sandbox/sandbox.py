"""Building a sandbox: all its steps, in order, in the process that becomes the supervisor."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from attrs import field, frozen

from nvdimmfs.errors import KernelError
from nvdimmfs.formats import control
from nvdimmfs.formats.name_hash import by_hash
from nvdimmfs.sandbox import front, libc, namespaces, overmounts
from nvdimmfs.sandbox.closed_disks import ClosedDisks
from nvdimmfs.sandbox.command import prepare_init, start
from nvdimmfs.sandbox.control_client import CHANNEL, ControlClient
from nvdimmfs.sandbox.dev_directory import DevDirectory
from nvdimmfs.sandbox.errors import SandboxError, os_error, step
from nvdimmfs.sandbox.host_characters import HostCharacters
from nvdimmfs.sandbox.lib_modules import (
    make_lsmod,
    modules_of_machine,
    mount_lib_modules,
    prepare_lib_modules,
    write_lib_modules,
)
from nvdimmfs.sandbox.loop_devices import LoopDevices, raise_if_limited, why_files
from nvdimmfs.sandbox.loop_records import DIRECTORY, HostLoops, LoopRecords, is_added, sweep
from nvdimmfs.sandbox.machine_server import Built, MachineServer
from nvdimmfs.sandbox.merged_sysfs import (
    FILE_SYSTEMS,
    HostSysfs,
    is_merged,
    known_link,
    merged_directories,
)
from nvdimmfs.sandbox.merged_view import Kind, MergedView, pinned
from nvdimmfs.sandbox.mounted_disks import MountedDisks
from nvdimmfs.sandbox.overmounts import overmount
from nvdimmfs.sandbox.places import MACHINE, RUN_DIRECTORY, TERMINALS
from nvdimmfs.sandbox.reaper import prepare_reaper, running_reaper
from nvdimmfs.sandbox.seccomp import filter_program
from nvdimmfs.sandbox.signals import blocked_signals
from nvdimmfs.sandbox.supervisor import Supervisor
from nvdimmfs.sandbox.uevents import UeventSender

#: First letters of the names of nodes for persistent memory; the sandbox does not show the host's.
_PERSISTENT_MEMORY_NODES = ("pmem", "ndctl", "nmem", "dax")

#: The device that opens a new pseudoterminal (include/uapi/linux/major.h, drivers/tty/pty.c).
_PTMX = os.makedev(5, 2)

_DEV = Path("/dev")

#: Where the files of the machine's modules are before they are mounted.
_MODULES = RUN_DIRECTORY / "modules"

#: The umask with which /sys, /run and /lib/modules are made: their modes do not depend on that of the caller.
_UMASK = 0o022

#: libsystemd accepts only a real sysfs at /sys, unless this variable turns its check off (ENVIRONMENT.md of systemd).
ENVIRONMENT = {"SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}


@frozen
class RunRequest:
    """The command to run, and on which machine.

    Attributes:
        command: the command with its arguments.
        server: serves a machine that is built for this command, started early or not; None to use an existing machine.
        attach: the mount of the existing machine; None to build one.
        warn: prints one line about what the sandbox lacks.
        private_network: whether the command gets a network namespace of its own, which uevents need.
        waits_for_deletions: whether to return only when the kernel has deleted the sandbox's loop devices, for which it
            needs tens of milliseconds.
        waits_for_machine: whether a client of a warm server is answered only when the machine's process has ended:
            what the machine writes may be looked at then.
    """

    command: Sequence[str]
    server: MachineServer | None
    attach: Path | None
    warn: Callable[[str], None]
    private_network: bool = True
    waits_for_deletions: bool = True
    waits_for_machine: bool = True


def prepare() -> None:
    """Use what sets up a sandbox, in a process that will set one up, as its first use takes longer.

    Nothing of it has an effect but that the sandbox's network namespace and two of its processes are there.
    """
    # First: after a fork, the kernel copies what was used before it once more.
    filter_program()
    with contextlib.suppress(OSError, SandboxError):  # a limit of the host, which the sandbox then meets
        prepare_init()
        if namespaces.may_create_nodes():
            prepare_reaper()
    HostSysfs.read(Path("/sys"))
    HostCharacters.find()
    namespaces.prepare_network()
    if namespaces.may_create_nodes():
        is_kept = _kept_nodes((), has_ptmx=False)
        overmounts.prepare(_DEV, lambda name: is_kept(name) and not is_added(name))
        prepare_lib_modules()
    control.prepare()
    for directory in merged_directories():
        with contextlib.suppress(OSError):
            by_hash(os.listdir(f"/sys/{directory}"))  # noqa: PTH208  # names alone
    with contextlib.ExitStack() as stack:
        stack.enter_context(blocked_signals())
        stack.enter_context(pinned(Path("/sys")))
        thread = threading.Thread(target=gc.collect, daemon=True)
        thread.start()
        thread.join()


def run_sandbox(request: RunRequest) -> int:
    """Run a command in a sandbox and return its wait(2) status.

    This process becomes the sandbox's supervisor and never returns to its old namespaces.

    Raises:
        SandboxError: the host does not permit a step, the machine cannot be built, or the command cannot be started.
    """
    if RUN_DIRECTORY.exists():
        raise SandboxError("this is already inside a sandbox: run the command itself, without nvdimmfs run")
    directory = _working_directory()
    umask = os.umask(_UMASK)
    with contextlib.ExitStack() as stack:
        stack.callback(os.umask, umask)
        entered = _enter_namespaces(request, stack)
        disks = _Disks()
        supervisor = _set_up(request, entered, disks, stack)
        _set_environment()
        signals = stack.enter_context(blocked_signals())  # before the threads, which inherit that
        with step("start the supervisor's threads"):
            supervisor.start_threads()
            disks.closed.start_thread()
        # init sets up /proc and the filter while the nodes are made.
        starting = stack.enter_context(start(request.command, MACHINE, directory, umask, entered.kinds))
        supervisor.watch()
        supervisor.create_nodes()
        starting.wait_until_ready()
        disks.mounted.watch(entered.proc)
        command = starting.execute()
        server = None if request.server is None else request.server.process
        status = supervisor.run_until_exit(command, signals, server)
        command.wait_for_init()
        if not request.waits_for_machine:
            front.answer_early(status)
        return status


@frozen
class _Entered:
    """What this process has in the sandbox's namespaces.

    Attributes:
        kinds: the kinds of namespaces (`namespaces.kinds`).
        proc: the host's /proc, open.
        makes_nodes: whether this process may create device nodes.
        loop_devices: creates block devices; None where there can be none.
        sends_uevents: whether uevents can be sent in its network namespace.
    """

    kinds: int
    proc: int
    makes_nodes: bool
    loop_devices: LoopDevices | None
    sends_uevents: bool


@frozen
class _Disks:
    """What becomes of the disks that the command has open or mounted."""

    closed: ClosedDisks = field(factory=ClosedDisks)
    mounted: MountedDisks = field(factory=MountedDisks)


def _enter_namespaces(request: RunRequest, stack: contextlib.ExitStack) -> _Entered:
    """Enter the sandbox's namespaces, and have the machine's process join them.  SandboxError.

    Args:
        request: the command.
        stack: closes what this opens, and stops the machine's process.
    """
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, proc)
    makes_nodes = namespaces.may_create_nodes()
    loop_devices = stack.enter_context(_loop_devices(request)) if makes_nodes else None
    kinds = namespaces.kinds(private_network=request.private_network)
    network = namespaces.enter(private_network=request.private_network)
    if network is not None:
        stack.callback(network.close)
    attached = None if request.attach is None else stack.enter_context(_pinned_machine(request.attach))
    _make_run(attached)
    sends_uevents = network is not None and network.enter()
    if request.server is not None:
        stack.callback(request.server.stop)
        request.server.admit(kinds)
    return _Entered(kinds, proc, makes_nodes, loop_devices, sends_uevents)


def _set_up(request: RunRequest, entered: _Entered, disks: _Disks, stack: contextlib.ExitStack) -> Supervisor:
    """Set up /dev, /lib/modules and /sys, and make their supervisor.  SandboxError.

    Args:
        request: the command.
        entered: what this process has in the sandbox's namespaces.
        disks: follows the disks of /dev.
        stack: removes what this makes.
    """
    # What does not depend on the machine, while it boots.
    loop_devices = entered.loop_devices
    characters = HostCharacters.find() if entered.makes_nodes else None
    of_sandboxes = frozenset() if loop_devices is None else loop_devices.records.names_of_others()
    _make_dev(of_sandboxes, has_nodes=entered.makes_nodes)
    client, view = _make_view(request.server, stack)
    dev = DevDirectory(_DEV, MACHINE, TERMINALS, loop_devices, disks.closed, request.warn, characters)
    stack.callback(dev.remove_all)
    stack.callback(disks.closed.stop)
    stack.callback(lambda: disks.mounted.unmount(dev.disks))
    if request.server is not None:
        # If it is stopped, it cannot write what disks still hold.
        stack.callback(os.kill, request.server.process, signal.SIGCONT)
    uevents = stack.enter_context(_uevent_sender()) if entered.sends_uevents else None
    return stack.enter_context(contextlib.closing(Supervisor(client, dev, view, entered.proc, uevents)))


def _make_view(server: MachineServer | None, stack: contextlib.ExitStack) -> tuple[ControlClient, MergedView]:
    """Set up /lib/modules and /sys, while a new machine is built and mounted.  SandboxError.

    Args:
        server: serves the machine, and has been admitted; None for a machine that was mounted before.
        stack: closes the connection to the machine, which this returns.
    """
    with step("set up /sys"):
        host = HostSysfs.read(Path("/sys"))
    client: ControlClient | None = None
    if server is None:
        client = stack.enter_context(contextlib.closing(_connect()))
        built = _built_before(client)
    else:
        built = server.wait_until_built()
    with step("set up /lib/modules"):
        write_lib_modules(_MODULES, built.modules)
        mount_lib_modules(_MODULES)
    view = _make_sysfs(host, built.listed, (lambda: None) if server is None else server.wait_until_ready)
    return client or stack.enter_context(contextlib.closing(_connect())), view


def _built_before(client: ControlClient) -> Built:
    """What a machine has that was mounted before.  SandboxError."""
    with step("ask the machine what it has"):
        return Built(tuple(modules_of_machine(MACHINE)), client.list(merged_directories()))


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise SandboxError("the working directory has been removed") from None


def _set_environment() -> None:
    """Set the variables of the command, which inherits those of this process."""
    os.environ.update(ENVIRONMENT)
    commands = make_lsmod(MACHINE, RUN_DIRECTORY / "bin")
    if commands is not None:
        os.environ["PATH"] = f"{commands}:{os.environ.get('PATH', os.defpath)}"


@contextlib.contextmanager
def _loop_devices(request: RunRequest) -> Iterator[LoopDevices | None]:
    """What creates block devices; None where there can be none.  At the end, those that were created are deleted."""
    with contextlib.ExitStack() as stack:
        try:
            host = stack.enter_context(contextlib.closing(HostLoops.open()))
            sweep(host)
            records = stack.enter_context(contextlib.closing(LoopRecords.create(host)))
        except OSError as failure:
            raise_if_limited(failure)
            request.warn(why_files(failure))
            yield None
            return
        delete = stack.enter_context(running_reaper(records, waits=request.waits_for_deletions))
        yield LoopDevices(records, delete, lock=None if request.attach is None else MACHINE / Path(CHANNEL).parent)


def _make_run(attached: Path | None) -> None:
    """Set up a private /run, and the mount points in it.

    Args:
        attached: the mount of the machine; None when it is mounted later.
    """
    with step("set up /run"):
        overmount(Path("/run"), lambda name: name not in ("udev", DIRECTORY.name))
        MACHINE.mkdir(parents=True)
        TERMINALS.mkdir()
        # libudev listens for devices only where udev seems to run, and waits for a queue only where there is one.
        Path("/run/udev").mkdir()
        Path("/run/udev/control").touch()
        if attached is not None:
            libc.bind_mount(attached, MACHINE)


def _make_dev(of_sandboxes: Collection[str], *, has_nodes: bool) -> None:
    """Set up a private /dev, and the terminals that may be nodes in it.

    The loop devices of other sandboxes are left out: a disk of this one may get the number of one that they delete, and
    a tool that looks for a name of that number (pvs) would find it.

    Args:
        of_sandboxes: the names of loop devices that belong to other sandboxes.
        has_nodes: whether this process may create device nodes.
    """
    with step("set up /dev"):
        _overmount_dev(of_sandboxes, has_nodes=has_nodes)
        options = "newinstance,ptmxmode=0666,mode=600"
        libc.mount("devpts", TERMINALS, "devpts", libc.MS_NOSUID | libc.MS_NOEXEC, options)


def _overmount_dev(of_sandboxes: Collection[str], *, has_nodes: bool) -> None:
    """Mount a private /dev, with a ptmx that makes new terminals appear in its pts.

    The driver looks for `pts` beside ptmx, which a bind mount breaks.
    """
    has_link = not has_nodes and os.access(_DEV / "pts/ptmx", os.R_OK | os.W_OK)
    is_kept = _kept_nodes(of_sandboxes, has_ptmx=not (has_nodes or has_link))
    overmount(_DEV, is_kept, RUN_DIRECTORY / "dev")  # the machine's process opens /dev/fuse meanwhile
    ptmx = _DEV / "ptmx"
    if has_nodes:
        os.mknod(ptmx, stat.S_IFCHR, _PTMX)
        ptmx.chmod(0o666)
    elif has_link:
        ptmx.symlink_to(f"pts/{ptmx.name}")


def _kept_nodes(of_sandboxes: Collection[str], *, has_ptmx: bool) -> Callable[[str], bool]:
    """Accepts the names of those of the host's nodes that a sandbox has."""
    left_out = (*_PERSISTENT_MEMORY_NODES, *(() if has_ptmx else ("ptmx",)))
    return lambda name: not name.startswith(left_out) and name not in of_sandboxes


@contextlib.contextmanager
def _pinned_machine(mount: Path) -> Iterator[Path]:
    """A path to a machine's mount that stays valid when something is mounted over the mount's directory."""
    with step(f"attach to {mount}"), pinned(mount) as path:
        try:
            has_channel = (path / CHANNEL).exists()
        except PermissionError:  # the debug folder is its owner's
            raise SandboxError(f"cannot attach to {mount}: it belongs to another user") from None
        if not has_channel:
            raise SandboxError(
                f"cannot attach to {mount}: no machine is mounted there, or an older nvdimmfs mounted it"
            )
        yield path


def _uevent_sender() -> UeventSender:
    with step("send uevents"):
        try:
            return UeventSender()
        except KernelError as failure:
            raise os_error(failure.errno) from failure


def _connect() -> ControlClient:
    with step("open the machine's control channel"):
        return ControlClient(MACHINE)


def _make_sysfs(host: HostSysfs, listed: control.Listed, wait_for_machine: Callable[[], None]) -> MergedView:
    """Set up a private /sys.

    Args:
        host: what the host has there.
        listed: what the machine has there, in all directories that are not large.
        wait_for_machine: waits until its mount answers.
    """
    with step("set up /sys"), pinned(Path("/sys")) as root:
        libc.mount("none", "/sys", "tmpfs", options="mode=555")
        view = MergedView(
            root,
            MACHINE / "sys",
            Path("/sys"),
            is_merged,
            host.hidden,
            FILE_SYSTEMS,
            known_link=known_link,
            listed=_by_directory(listed),
            listed_of_host=host.listed,
            added=host.added,
            wait_for_machine=wait_for_machine,
        )
        view.build()
        return view


def _by_directory(listed: control.Listed) -> dict[str, dict[str, Kind]]:
    """The entries of each directory, by name."""
    entries: dict[str, dict[str, Kind]] = {directory: {} for directory in listed.directories}
    for path, kind in listed.entries:
        directory, _, name = path.rpartition("/")
        entries[directory][name] = Kind(kind)
    return entries
