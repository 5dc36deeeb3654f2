"""A mount from its first system call to its last."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pyfuse3
import trio

from nvdimmfs.fuse.identity import SUBTYPE
from nvdimmfs.fuse.operations import Operations
from nvdimmfs.fuse.requirements import MountError
from nvdimmfs.fuse.timekeeping import Clock
from nvdimmfs.kernfs import Tree

log = logging.getLogger(__name__)

#: What ends a mount.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Requests answered at a time.  As good as no bound: one that waits for the kernel to forget something must never keep
#: from being read the request whose answer it waits for.
_REQUESTS_AT_A_TIME = 1 << 30


def serve(
    tree: Tree,
    mountpoint: Path,
    *,
    clock: Clock | None = None,
    cache: bool = True,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Mount a tree and answer for it until it is unmounted, or one of `STOP_SIGNALS` says to.

    Afterwards it is not mounted any more.  SIGUSR1 prints where every thread stands.  When NOTIFY_SOCKET is set,
    systemd hears that the mount is ready and that it stops (sd_notify(3)).

    Args:
        tree: what to show.
        mountpoint: an absolute path.
        clock: the machine's clock; None for a tree in which nothing happens later.
        cache: whether the kernel may keep names and attributes.
        on_ready: called once, when the mount answers.

    Raises:
        MountError: the kernel or the helper refuses.
    """
    trio.run(_serve, tree, mountpoint, clock, cache, on_ready)


async def _serve(tree: Tree, mountpoint: Path, clock: Clock | None, cache: bool, on_ready: Callable[[], None]) -> None:
    started = trio.Event()
    operations = Operations(tree, clock=clock, cache=cache, started=started.set)
    async with contextlib.AsyncExitStack() as stack:
        signals = stack.enter_context(trio.open_signal_receiver(*STOP_SIGNALS))
        stack.enter_context(_stacks_on_sigusr1())
        stack.enter_context(_mounted(operations, mountpoint))
        stack.callback(_tell_systemd, "STOPPING=1")
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(_stop_on, signals, operations)
        nursery.start_soon(_announce, started, on_ready)
        nursery.start_soon(operations.timekeeper.keep)
        await pyfuse3.main(max_tasks=_REQUESTS_AT_A_TIME)
        nursery.cancel_scope.cancel()


@contextlib.contextmanager
def _mounted(operations: Operations, mountpoint: Path) -> Iterator[None]:
    words: list[str] = []
    try:
        with _stderr_into(words):
            pyfuse3.init(operations, str(mountpoint), _mount_options())
    except RuntimeError as failure:
        raise MountError(f"cannot mount on {mountpoint}: {_in_one_line(words) or failure}") from None
    try:
        yield
    finally:
        pyfuse3.close(unmount=True)


def _mount_options() -> set[str]:
    """The kernel checks permissions by mode; when root mounts, everybody may look, as at /sys.

    Nothing can be executed (SB_I_NOEXEC in sysfs_get_tree, fs/sysfs/mount.c, Linux 6.1).
    """
    options = {f"fsname={SUBTYPE}", f"subtype={SUBTYPE}", "default_permissions", "noexec"}
    if os.geteuid() == 0:
        options.add("allow_other")
    return options


async def _stop_on(signals: AsyncIterator[int], operations: Operations) -> None:
    async for number in signals:
        log.info("%s: unmounting", signal.Signals(number).name)
        await operations.kernel_cache.stop()
        pyfuse3.terminate()


async def _announce(started: trio.Event, on_ready: Callable[[], None]) -> None:
    await started.wait()
    on_ready()
    _tell_systemd("READY=1")


def _tell_systemd(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = f"{state}\nMAINPID={os.getpid()}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(message.encode(), address)
    except OSError as failure:
        log.warning("NOTIFY_SOCKET does not take %s: %s", state, failure)


@contextlib.contextmanager
def _stacks_on_sigusr1() -> Iterator[None]:
    faulthandler.register(signal.SIGUSR1, file=2)
    try:
        yield
    finally:
        faulthandler.unregister(signal.SIGUSR1)


@contextlib.contextmanager
def _stderr_into(words: list[str]) -> Iterator[None]:
    """Collect what libfuse and its helper print to stderr, which is all they say of why they fail."""
    stderr = os.dup(2)
    kept = os.memfd_create("stderr")
    try:
        os.dup2(kept, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        words += os.pread(kept, 65536, 0).decode(errors="replace").splitlines()
        os.close(stderr)
        os.close(kept)


def _in_one_line(words: list[str]) -> str:
    """What libfuse and its helper say, without their names."""
    return "; ".join(re.sub(r"^(fuse|fusermount3): ", "", line.strip()) for line in words if line.strip())
