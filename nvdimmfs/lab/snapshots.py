"""Guests that are saved right after their boot, and resumed for each question.

The memory of a saved guest stays in its files, which QEMU does not copy to its state (x-ignore-shared).  A resumed
guest maps them privately: it reads what it needs, and what it writes is lost when it ends.  So many guests can be
resumed from the same files at the same time, and each costs the host only the memory that it writes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import attrs

from nvdimmfs.lab import tools
from nvdimmfs.lab.cache import cache_folder, made_once, temporary
from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.first_contents import make_backends
from nvdimmfs.lab.frames import Message
from nvdimmfs.lab.guest import TIMEOUT, Guest, GuestPlan
from nvdimmfs.lab.hardware import Hardware
from nvdimmfs.lab.qemu import USUAL_SPEED, Qemu
from nvdimmfs.lab.reboots import finish_boot

_SNAPSHOTS = "guests"
_STATE = "state"

#: Saved guests that are kept, each with a few hundred MiB, and the seconds after which one of more is unused.
_KEPT = 8
_UNUSED = 600.0

#: Seconds between two looks at how far QEMU is.
_INTERVAL = 0.01


@contextlib.contextmanager
def resumed(plan: GuestPlan, timeout: float = TIMEOUT) -> Iterator[Guest]:
    """A guest that has just booted, from its snapshot, which is made if there is none, at the usual speed.

    One with virtio devices boots each time: QEMU 7.2 does not complete the first flush that a resumed one asks for.
    """
    if plan.hardware.waits_for_host:
        with booted(plan, timeout) as guest:
            yield guest
        return
    usual = attrs.evolve(plan, speed=USUAL_SPEED)
    snapshot = made_once(_place(usual), functools.partial(_make, usual, timeout))
    os.utime(snapshot)
    with temporary() as folder:
        arguments = [*plan.arguments(snapshot, shared=False), "-S", "-incoming", "defer"]
        with Guest(Qemu(arguments, folder), timeout) as guest:
            _load(guest.monitor, snapshot / _STATE)
            yield guest


@contextlib.contextmanager
def booted(plan: GuestPlan, timeout: float = TIMEOUT, media: Path | None = None) -> Iterator[Guest]:
    """A guest that boots.

    Args:
        plan: the guest.
        timeout: the seconds that it has for its boot, and for each request.
        media: the folder of media that keeps its persistent memory; None for a new machine, whose memory is lost.
    """
    with temporary() as folder, _memory(plan.hardware, folder, media), _booted(plan, folder, timeout) as guest:
        yield guest


@contextlib.contextmanager
def _memory(hardware: Hardware, folder: Path, media: Path | None) -> Iterator[None]:
    """Make the files of a guest's memory in a folder."""
    if media is None:
        make_backends(hardware, folder)
        yield
        return
    from nvdimmfs.lab.kept_memory import kept_memory  # which loads the emulated machine

    with kept_memory(hardware, media, folder):
        yield


@contextlib.contextmanager
def _booted(plan: GuestPlan, folder: Path, timeout: float) -> Iterator[Guest]:
    """A guest that boots, whose memory is in files of a folder."""
    with Guest(Qemu(plan.arguments(folder, shared=True), folder), timeout) as guest:
        finish_boot(guest, plan.hardware)
        yield guest


def _make(plan: GuestPlan, timeout: float, folder: Path) -> None:
    make_backends(plan.hardware, folder)
    with _booted(plan, folder, timeout) as guest:
        _save(guest.monitor, folder / _STATE)
    _remove_unused()


def _save(qemu: Qemu, state: Path) -> None:
    _leave_memory_in_files(qemu)
    qemu.execute("stop")
    with state.open("wb") as file:
        qemu.pass_file(_STATE, file.fileno())
        qemu.execute("migrate", uri=f"fd:{_STATE}")
        _wait_for_migration(qemu)


def _load(qemu: Qemu, state: Path) -> None:
    _leave_memory_in_files(qemu)
    with state.open("rb") as file:
        qemu.pass_file(_STATE, file.fileno())
        qemu.execute("migrate-incoming", uri=f"fd:{_STATE}")
        _wait_for_migration(qemu)
    qemu.execute("cont")


def _leave_memory_in_files(qemu: Qemu) -> None:
    qemu.execute("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])


def _wait_for_migration(qemu: Qemu) -> None:
    while True:
        progress = cast("Message", qemu.execute("query-migrate"))
        if progress.get("status") == "completed":
            return
        if progress.get("status") == "failed":
            raise LabError(f"QEMU cannot save or resume a guest: {progress.get('error-desc', 'no reason given')}")
        time.sleep(_INTERVAL)


def _place(plan: GuestPlan) -> Path:
    """The folder of a snapshot, named after everything that it depends on."""
    qemu = tools.require("qemu-system-x86_64")
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in (qemu, plan.kernel.image)]
    identity = repr((plan, plan.arguments(Path(), shared=True), files))
    return cache_folder() / _SNAPSHOTS / hashlib.sha256(identity.encode()).hexdigest()[:24]


def _remove_unused() -> None:
    """Remove the guests that were used the longest ago, but none that a process may just be resuming."""
    states = (cache_folder() / _SNAPSHOTS).glob(f"*/{_STATE}")
    used = {state.parent: state.parent.stat().st_mtime for state in states}
    latest = max(used.values(), default=0.0)
    for folder in sorted(used, key=lambda folder: used[folder])[:-_KEPT]:
        if latest - used[folder] > _UNUSED:
            shutil.rmtree(folder, ignore_errors=True)
