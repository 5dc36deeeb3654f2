"""Making a sandbox: the order in which everything is put in its place."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from attrs import frozen

from nvdimmfs.sandbox import namespaces, syscalls
from nvdimmfs.sandbox.command import start
from nvdimmfs.sandbox.errors import SandboxError, step
from nvdimmfs.sandbox.link import CHANNEL, MachineLink
from nvdimmfs.sandbox.loops import LoopDevices
from nvdimmfs.sandbox.modules import show_list, show_modules
from nvdimmfs.sandbox.nodes import Nodes
from nvdimmfs.sandbox.supervisor import Supervisor, caught_signals
from nvdimmfs.sandbox.sysfs import FILE_SYSTEMS, hosts_own, is_merged
from nvdimmfs.sandbox.uevents import UeventSender
from nvdimmfs.sandbox.views import MergedView, hide, kept, replace_folder

#: Where the machine's mount is inside the sandbox, and the terminals that stand for its character devices.
OWN_FOLDER = Path("/run/nvdimmfs")
MACHINE = OWN_FOLDER / "machine"
TERMINALS = OWN_FOLDER / "nodes"

#: Nodes of the host's own persistent memory, by how their names begin.
_NODES_OF_PERSISTENT_MEMORY = ("pmem", "ndctl", "nmem", "dax")

#: What makes terminals (include/uapi/linux/major.h, drivers/tty/pty.c).
_PTMX = os.makedev(5, 2)

#: libsystemd takes only a real sysfs for one, unless it is told not to look (ENVIRONMENT.md of systemd).
ENVIRONMENT = {"SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}

#: Mounts a machine at a path and serves it until SIGTERM; calls its second argument when it answers.
Serve = Callable[[Path, Callable[[], None]], None]


@frozen
class Wish:
    """What is to be run.

    Attributes:
        command: with its arguments.
        serve: serves a machine that is made for this command; None when there is one already.
        attach: the mount of the machine that is there already; None when one is made.
        own_network: whether the command gets a network of its own, in which uevents can be sent.
    """

    command: Sequence[str]
    serve: Serve | None
    attach: Path | None
    own_network: bool = True


def run_sandbox(wish: Wish) -> int:
    """Run a command in a sandbox and return how it ended, as wait(2) tells.

    This process becomes the sandbox's supervisor: it leaves its namespaces for good.

    Raises:
        SandboxError: something is not allowed, the machine cannot be made, or the command cannot be started.
    """
    if OWN_FOLDER.exists():
        raise SandboxError("this is a sandbox already: call the command as it is")
    try:
        directory = Path.cwd()
    except FileNotFoundError:
        raise SandboxError("the working directory is not there any more") from None
    with contextlib.ExitStack() as stack:
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, proc)
        loops = LoopDevices.of_host() if namespaces.is_privileged() and wish.serve else None
        hidden = hosts_own(Path("/sys"))
        namespaces.enter(own_network=wish.own_network)
        _make_folders(None if wish.attach is None else stack.enter_context(_kept_machine(wish.attach)))
        if wish.serve is not None:
            stack.enter_context(_served(wish.serve))
        link = stack.enter_context(contextlib.closing(_linked()))
        with step("make /lib/modules anew"):
            show_modules(MACHINE, OWN_FOLDER / "modules")
        view = _make_sysfs(hidden)
        nodes = Nodes(Path("/dev"), MACHINE, TERMINALS, loops)
        stack.callback(nodes.remove_all)
        uevents = stack.enter_context(UeventSender()) if wish.own_network else None
        supervisor = Supervisor(link, nodes, view, proc, uevents)
        supervisor.watch()
        supervisor.make_nodes(MACHINE / "sys")
        os.environ.update(ENVIRONMENT)
        commands = show_list(MACHINE, OWN_FOLDER / "bin")
        if commands is not None:
            os.environ["PATH"] = f"{commands}:{os.environ.get('PATH', os.defpath)}"
        namespaces.unshare_process_ids()
        signals = stack.enter_context(caught_signals())
        command = start(wish.command, MACHINE, directory)
        ending = supervisor.keep(command, signals)
        os.waitpid(command.init, 0)
        return ending


def _make_folders(attached: Path | None) -> None:
    """A /run and a /dev of one's own, and the places in them."""
    with step("make /run and /dev anew"):
        replace_folder(Path("/run"), lambda name: name != "udev")
        MACHINE.mkdir(parents=True)
        TERMINALS.mkdir()
        # libudev hears of devices only where udev seems to run, and waits for nothing unless there is a queue.
        Path("/run/udev").mkdir()
        Path("/run/udev/control").touch()
        if attached is not None:
            syscalls.bind(attached, MACHINE)
        replace_folder(Path("/dev"), lambda name: not name.startswith(_NODES_OF_PERSISTENT_MEMORY))
        _make_ptmx(Path("/dev/ptmx"))
        options = "newinstance,ptmxmode=0666,mode=600"
        syscalls.mount("devpts", TERMINALS, "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, options)


def _make_ptmx(place: Path) -> None:
    """Let new terminals appear in /dev/pts: ptmx looks for them beside itself, which a mount of it is not."""
    if namespaces.may_make_nodes():
        hide(place)
        os.mknod(place, stat.S_IFCHR, _PTMX)
        place.chmod(0o666)
    elif os.access(place.with_name("pts") / place.name, os.R_OK | os.W_OK):
        hide(place)
        place.symlink_to(f"pts/{place.name}")


@contextlib.contextmanager
def _kept_machine(mount: Path) -> Iterator[Path]:
    """A way to a machine's mount that stays when something is mounted on it."""
    with step(f"attach to {mount}"), kept(mount) as way:
        if not (way / CHANNEL).exists():
            raise SandboxError(f"cannot attach to {mount}: no machine is mounted there, or not yours, or an older one")
        yield way


def _linked() -> MachineLink:
    with step("reach the machine"):
        return MachineLink(MACHINE)


def _make_sysfs(hidden: frozenset[str]) -> MergedView:
    """A /sys of one's own."""
    with step("make /sys anew"), kept(Path("/sys")) as host:
        syscalls.mount("none", "/sys", "tmpfs", options="mode=555")
        view = MergedView(host, MACHINE / "sys", Path("/sys"), is_merged, hidden, FILE_SYSTEMS)
        view.build()
        return view


@contextlib.contextmanager
def _served(serve: Serve) -> Iterator[None]:
    """A machine that runs in a process of its own, until the end."""
    reports, report = os.pipe()
    supervisor = os.pidfd_open(os.getpid())
    server = os.fork()
    if server == 0:
        _be_server(serve, report, supervisor)
    os.close(supervisor)
    os.close(report)
    try:
        with os.fdopen(reports, "rb") as lines:
            complaint = lines.read()
        if complaint != b"+":
            raise SandboxError(complaint.decode(errors="replace") or "the machine's process was killed")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGTERM)
        os.waitpid(server, 0)


def _be_server(serve: Serve, report: int, supervisor: int) -> NoReturn:
    """In the machine's process: say on the pipe that it serves, or why not."""
    try:
        os.setsid()  # the terminal's signals are for the command
        syscalls.die_with_parent(signal.SIGTERM, supervisor)

        def serves() -> None:
            os.write(report, b"+")
            os.close(report)

        serve(MACHINE, serves)
    except BaseException as failure:  # whatever it is, it has to be told
        with contextlib.suppress(OSError):
            os.write(report, str(failure).encode(errors="replace") or repr(failure).encode())
        os._exit(1)
    os._exit(0)
