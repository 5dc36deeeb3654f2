"""Machines that a template serves: a process that has loaded everything forks one for each."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path

from nvdimmfs.cli.errors import CommandError, one_line
from nvdimmfs.cli.mount import MountRequest, preload_server, serve
from nvdimmfs.cli.mount_table import DaemonState, daemon_state, is_ours, mount_at
from nvdimmfs.cli.umount import detach
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
            _shared[:] = [Template.start(preload)]
            atexit.register(_shared[0].close)
        return _shared[0]


def _renew_lock() -> None:
    """In a process that was forked while another thread held the lock."""
    global _starting
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def preload() -> None:
    """Import what `mount` needs."""
    preload_server()
    import nvdimmfs.machine_file.selection  # noqa: F401  # loaded, not used


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
    process = template.call(serve_forked, request, files=files, clean=clean)
    try:
        process.wait_until_ready()
    except BaseException:
        process.close()
        raise
    process.hang_up()
    return process


def serve_forked(request: MountRequest, on_ready: Callable[[], None]) -> None:
    """In the forked process: serve the machine."""
    try:
        serve(request, on_ready)
    except Exception as error:
        raise CommandError(one_line(error)) from error


def unmount_stale(mountpoint: Path) -> None:
    """Unmount what a killed process has left on a directory."""
    mount = mount_at(mountpoint)
    if mount is not None and is_ours(mount) and daemon_state(mount) is DaemonState.KILLED:
        with contextlib.suppress(CommandError):
            detach(mountpoint)
