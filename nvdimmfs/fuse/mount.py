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
from nvdimmfs.kernfs import Tree

log = logging.getLogger(__name__)

#: What ends a mount.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Requests answered at a time.  As good as no bound: one that waits for the kernel to forget something must never keep
#: from being read the request whose answer it waits for.
_REQUESTS_AT_A_TIME = 1 << 30


#: So long after the last write to an attribute, or the mount, the system comes to rest, in seconds.  The kernel, asked
#: again after 0.3 s, had always finished what a write had left to the background, and after 0.05 s not always; what
#: takes it long, such as a scrub, took a second for each range; after ten it looks whether a DIMM is overwritten.
RESTS = (0.15, 1.0, 2.0, 4.0, 8.0, 16.0)


def serve(
    tree: Tree,
    mountpoint: Path,
    *,
    cache: bool = True,
    on_ready: Callable[[], None] = lambda: None,
    on_rest: Callable[[float], None] = lambda _seconds: None,
) -> None:
    """Mount a tree and answer for it until it is unmounted, or one of `STOP_SIGNALS` says to.

    Afterwards it is not mounted any more.  SIGUSR1 prints where every thread stands.  When NOTIFY_SOCKET is set,
    systemd hears that the mount is ready and that it stops (sd_notify(3)).

    Args:
        tree: what to show.
        mountpoint: an absolute path.
        cache: whether the kernel may keep names and attributes.
        on_ready: called once, when the mount answers.
        on_rest: called each time that attributes were written and then, for as many seconds as it is given, were not.

    Raises:
        MountError: the kernel or the helper refuses.
    """
    trio.run(_serve, tree, mountpoint, cache, on_ready, on_rest)


async def _serve(
    tree: Tree, mountpoint: Path, cache: bool, on_ready: Callable[[], None], on_rest: Callable[[float], None]
) -> None:
    started = trio.Event()
    operations = Operations(tree, cache=cache, started=started.set)
    async with contextlib.AsyncExitStack() as stack:
        signals = stack.enter_context(trio.open_signal_receiver(*STOP_SIGNALS))
        stack.enter_context(_stacks_on_sigusr1())
        stack.enter_context(_mounted(operations, mountpoint))
        stack.callback(_tell_systemd, "STOPPING=1")
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(_stop_on, signals, operations)
        nursery.start_soon(_announce, started, on_ready)
        for seconds in RESTS:
            nursery.start_soon(_rest, operations, seconds, on_rest)
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


async def _rest(operations: Operations, seconds: float, on_rest: Callable[[float], None]) -> None:
    operations.stored_at = trio.current_time()
    while True:
        while trio.current_time() < operations.stored_at + seconds:  # noqa: ASYNC110  # each write moves the goal
            await trio.sleep_until(operations.stored_at + seconds)
        rested_from = operations.stored_at
        try:
            on_rest(seconds)
        except Exception:
            log.exception("a bug in nvdimmfs: coming to rest")
        if operations.kernel_cache.outdated:
            await operations.kernel_cache.forget_outdated()
        if operations.stored_at == rested_from:
            await operations.stored.park()


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
