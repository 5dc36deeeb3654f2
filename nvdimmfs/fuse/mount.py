"""The life of a mount: mounting, the event loop, unmounting."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import mmap
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pyfuse3
import trio

from nvdimmfs.errors import REMEDIES
from nvdimmfs.fuse.daemon_identity import SUBTYPE
from nvdimmfs.fuse.init_exchange import InitExchange, kernel_keeps_link_texts
from nvdimmfs.fuse.operations import Operations
from nvdimmfs.fuse.request_wait import waiting_without_trio
from nvdimmfs.fuse.requirements import MountError, refusal
from nvdimmfs.fuse.timekeeping import Clock
from nvdimmfs.host import why_no_thread
from nvdimmfs.kernfs import Tree

log = logging.getLogger(__name__)

#: Signals that end a mount.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Requests handled at a time.  In effect unlimited: a request that waits for an invalidation must never keep the event
#: loop from reading the request whose reply that invalidation waits for.
_REQUESTS_AT_A_TIME = 1 << 30

#: Bytes of libfuse's buffer for a request, of which each of pyfuse3's two workers has one (FUSE_MAX_MAX_PAGES and
#: FUSE_BUFFER_HEADER_SIZE, lib/fuse_i.h and lib/fuse_lowlevel.c, libfuse 3.14).
_BUFFER, _BUFFERS = (1 << 20) + 4096, 2


def serve(
    tree: Tree,
    mountpoint: Path,
    *,
    clock: Clock | None = None,
    cache: bool = True,
    unmounts: bool = True,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Mount a tree and serve it until it is unmounted, or until one of `STOP_SIGNALS` arrives; then unmount it.

    SIGUSR1 prints the stack of every thread.  When NOTIFY_SOCKET is set, systemd is notified when the mount is ready
    and when it stops (sd_notify(3)).

    Args:
        tree: the tree to show.
        mountpoint: an absolute path.
        clock: the machine's clock; None for a tree in which nothing is due later.
        cache: whether the kernel may cache names and attributes.
        unmounts: whether to unmount it at the end.  The end of a mount namespace unmounts it as well, and delays no
            process by the milliseconds that the kernel needs (synchronize_rcu in namespace_unlock, fs/namespace.c).
        on_ready: called once, when the mount answers.

    Raises:
        MountError: the kernel or the helper refuses the mount.
    """
    trio.run(_serve, tree, mountpoint, clock, cache, unmounts, on_ready)


def prepare() -> None:
    """Start an event loop and end it, in a process that will start another one: its first start takes longer."""

    async def end() -> None:
        with trio.open_signal_receiver(*STOP_SIGNALS):
            pass

    trio.run(end)


async def _serve(
    tree: Tree, mountpoint: Path, clock: Clock | None, cache: bool, unmounts: bool, on_ready: Callable[[], None]
) -> None:
    started = trio.Event()
    operations = Operations(tree, clock=clock, cache=cache, started=started.set)
    async with contextlib.AsyncExitStack() as stack:
        signals = stack.enter_context(trio.open_signal_receiver(*STOP_SIGNALS))
        stack.enter_context(_stacks_on_sigusr1())
        _start_thread(operations)
        _require_memory()
        stack.enter_context(_mounted(operations, mountpoint, unmounts=unmounts))
        stack.callback(_notify_systemd, "STOPPING=1")
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(_stop_on, signals, operations)
        nursery.start_soon(_announce, started, on_ready)
        nursery.start_soon(operations.timekeeper.keep)
        init = InitExchange(keeps_link_texts=cache and kernel_keeps_link_texts(os.uname().release))
        stack.enter_context(waiting_without_trio(lambda: operations.timekeeper.is_busy, init))
        await pyfuse3.main(max_tasks=_REQUESTS_AT_A_TIME)
        nursery.cancel_scope.cancel()


def _start_thread(operations: Operations) -> None:
    try:
        operations.kernel_cache.start()
    except RuntimeError:
        reason = why_no_thread()
        remedy = REMEDIES.get(reason.errno or 0, "")
        raise MountError(f"cannot start a thread: {reason.strerror}{f'; {remedy}' if remedy else ''}") from None


def _require_memory() -> None:
    """Raise OSError where libfuse could not allocate its buffers: it would print so itself, at the first request."""
    mmap.mmap(-1, _BUFFERS * _BUFFER).close()


@contextlib.contextmanager
def _mounted(operations: Operations, mountpoint: Path, *, unmounts: bool) -> Iterator[None]:
    messages: list[str] = []
    try:
        with _stderr_into(messages):
            pyfuse3.init(operations, str(mountpoint), _mount_options())
    except RuntimeError:
        raise refusal(mountpoint, messages) from None
    try:
        yield
    finally:
        pyfuse3.close(unmount=unmounts)


def _mount_options() -> set[str]:
    """The kernel checks permissions by mode; when root mounts, other users have access, as to /sys.

    No file can be executed (SB_I_NOEXEC in sysfs_get_tree, fs/sysfs/mount.c, Linux 6.1).
    """
    options = {f"fsname={SUBTYPE}", f"subtype={SUBTYPE}", "default_permissions", "noexec"}
    if os.geteuid() == 0:
        options.add("allow_other")
    return options


async def _stop_on(signals: AsyncIterator[int], operations: Operations) -> None:
    async for number in signals:
        log.info("%s: unmounting", signal.Signals(number).name)
        await operations.stop()
        pyfuse3.terminate()


async def _announce(started: trio.Event, on_ready: Callable[[], None]) -> None:
    await started.wait()
    on_ready()
    _notify_systemd("READY=1")


def _notify_systemd(state: str) -> None:
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
        log.warning("cannot send %s to NOTIFY_SOCKET: %s", state, failure)


@contextlib.contextmanager
def _stacks_on_sigusr1() -> Iterator[None]:
    faulthandler.register(signal.SIGUSR1, file=2)
    try:
        yield
    finally:
        faulthandler.unregister(signal.SIGUSR1)


@contextlib.contextmanager
def _stderr_into(messages: list[str]) -> Iterator[None]:
    """Collect the lines that libfuse and its helper print to stderr, the only place where they report a reason."""
    stderr = os.dup(2)
    captured = os.memfd_create("stderr")
    try:
        os.dup2(captured, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        messages += os.pread(captured, 65536, 0).decode(errors="replace").splitlines()
        os.close(stderr)
        os.close(captured)
