"""Machines that a template serves: a process that has loaded everything forks one for each."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import os
import pickle
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import attrs

from nvdimmfs.cli.errors import CommandError, one_line
from nvdimmfs.cli.mount import MountRequest, gc_disabled, preload_server, serve
from nvdimmfs.cli.mount_table import DaemonState, daemon_state, is_ours, mount_at
from nvdimmfs.cli.run import warn
from nvdimmfs.cli.umount import detach
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine.pool import InheritedMachines, can_be_kept
from nvdimmfs.machine_file import DEFAULT_MEMMAP
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.sandbox.errors import SandboxError
from nvdimmfs.sandbox.lib_modules import preload_module_folders
from nvdimmfs.sandbox.sandbox import RunRequest, run_sandbox
from nvdimmfs.sandbox.sandbox import prepare as prepare_sandbox
from nvdimmfs.warm.call import Spare
from nvdimmfs.warm.template import ForkedProcess, Template

#: The template of this process, and of the process that it was forked from.
_shared: list[Template] = []
_starting = threading.Lock()


def shared_template() -> Template:
    """The template of this process, started when there is none, or when it has ended.  TemplateError.

    A process that forks shares no template with its children.
    """
    with _starting:
        if not (_shared and _shared[0].is_usable):
            _shared[:] = [Template.start(preload, SPARES)]
            atexit.register(_shared[0].close)
        return _shared[0]


def _renew_lock() -> None:
    """In a process that was forked while another thread held the lock."""
    global _starting
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def preload() -> None:
    """Import what machines and commands need, and compute what all of them have; this module has imported the rest."""
    preload_server()
    preload_module_folders()
    import nvdimmfs.machine_file.selection
    import nvdimmfs.platforms.nfit.driver
    import nvdimmfs.platforms.nfit.platform
    import nvdimmfs.platforms.nfit_test.driver
    import nvdimmfs.platforms.nfit_test.platform  # noqa: F401  # loaded, not used


#: The machines that the template has booted for the processes that it forks.
_INHERITED = InheritedMachines()


def learn_machine(pickled: bytes) -> None:
    """In the template: a machine was asked for, and the next ones may be alike."""
    _INHERITED.learn(pickled)


def prepare_machine() -> None:
    """Start an event loop in a process that may serve a machine next, and boot a machine that is not used.

    Where the template has booted machines, the next call is likely to be for one of them, which needs no boot.
    """
    from nvdimmfs.fuse.mount import prepare as prepare_loop

    with gc_disabled():
        if not _INHERITED:
            Machine.described(completed(MachineDescription(memmap=DEFAULT_MEMMAP))).close()
        prepare_loop()
    gc.collect()


def prepare_command() -> None:
    """Begin the session of a command that may run next, as those of its processes do that are forked now."""
    _begin_session()
    prepare_sandbox()


def _begin_session() -> None:
    """A command that signals its process group must not reach the template."""
    if os.getsid(0) != os.getpid():
        os.setsid()


#: The kinds of calls.
MACHINE_CALL = "machine"
COMMAND_CALL = "command"

SPARES = {
    MACHINE_CALL: Spare(prepare_machine, at_once=True, learn=learn_machine),
    COMMAND_CALL: Spare(prepare_command),
}


def mount(template: Template, request: MountRequest, *, log: int | None = None) -> ForkedProcess:
    """Mount a machine, and return the process that serves it, once it answers.

    SIGTERM unmounts it and ends the process.  If the process is killed, the template unmounts it.

    Args:
        template: forks the process.
        request: the machine, and an empty directory to mount it on.
        log: the descriptor of the file for its stderr.

    Raises:
        CallError: the machine cannot be built or mounted.
        TemplateError: as `Template.call`.
    """
    files = () if log is None else (log, log, log)
    clean = functools.partial(unmount_stale, request.mountpoint)
    call = _MachineCall.of(request)
    subject = call.machine if request.is_plain and can_be_kept(request.machine) else None
    process = template.call(serve_forked, call, kind=MACHINE_CALL, subject=subject, files=files, clean=clean)
    try:
        process.wait_until_ready()
    except BaseException:
        process.close()
        raise
    process.hang_up()
    return process


@attrs.frozen
class _MachineCall:
    """A request to mount a machine, for a process that may have inherited the machine.

    Attributes:
        request: the request, but for its machine.
        machine: the machine's description, pickled.
    """

    request: MountRequest
    machine: bytes

    @classmethod
    def of(cls, request: MountRequest) -> Self:
        return cls(attrs.evolve(request, machine=_NO_MACHINE), _pickled(request.machine))


#: Stands for a description that is pickled.
_NO_MACHINE = MachineDescription()


@functools.lru_cache(maxsize=16)
def _pickled(description: MachineDescription) -> bytes:
    """A description, pickled once: a test suite has few machines."""
    return pickle.dumps(description)


def serve_forked(call: _MachineCall, on_ready: Callable[[], None]) -> None:
    """In the forked process: serve the machine."""
    try:
        booted = _INHERITED.take(call.machine) if call.request.is_plain else None
        description = pickle.loads(call.machine) if booted is None else booted.description  # noqa: S301  # the owner's
        serve(attrs.evolve(call.request, machine=description), on_ready, booted=booted)
    except Exception as error:
        raise CommandError(one_line(error)) from error


@attrs.frozen
class Command:
    """A command to run on a mounted machine.

    Attributes:
        words: the command with its arguments.
        mountpoint: where the machine is mounted.
        directory: the working directory; that of this process when None, which the sandbox may hide.
        environment: the environment.
    """

    words: Sequence[str]
    mountpoint: Path
    directory: Path
    environment: Mapping[str, str]
    private_network: bool = True


def run(template: Template, command: Command, files: tuple[int, int, int]) -> ForkedProcess:
    """Start a command in a sandbox on a mounted machine; `status` of the result waits for it.

    Signals to the process are passed on to the command; SIGKILL ends the command and all its children.

    Args:
        template: forks the process.
        command: the command.
        files: the descriptors of its standard input, output and error.

    Raises:
        TemplateError: as `Template.call`.
    """
    return template.call(run_forked, command, kind=COMMAND_CALL, files=files, end_by=signal.SIGKILL)


def run_forked(command: Command, _on_ready: Callable[[], None]) -> int:
    """In the forked process: run the command, and return its wait(2) status."""
    _begin_session()
    try:
        os.chdir(command.directory)
        os.environ.clear()
        os.environ.update(command.environment)
        return run_sandbox(
            RunRequest(
                command.words,
                server=None,
                attach=command.mountpoint,
                warn=warn,
                private_network=command.private_network,
                waits_for_deletions=False,
            )
        )
    except SandboxError as failure:
        raise CommandError(str(failure)) from failure
    except Exception as failure:
        raise CommandError(one_line(failure)) from failure


def unmount_stale(mountpoint: Path) -> None:
    """Unmount what a killed process has left on a directory."""
    mount = mount_at(mountpoint)
    if mount is not None and is_ours(mount) and daemon_state(mount) is DaemonState.KILLED:
        with contextlib.suppress(CommandError):
            detach(mountpoint)
