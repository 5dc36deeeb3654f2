"""What this host allows a sandbox, found out by trying, in processes that end at once."""

from __future__ import annotations

import enum
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Self

from attrs import frozen

from nvdimmfs.sandbox import namespaces, seccomp, syscalls
from nvdimmfs.sandbox.errors import SandboxError, step


class State(enum.Enum):
    """How much of something there is."""

    GOOD = "yes"
    LIMITED = "in part"
    MISSING = "no"


@frozen
class Finding:
    """What was found out about one thing that the host may allow.

    Attributes:
        what: the thing.
        state: how much of it there is.
        words: what that means.
        remedy: the one line that would improve it; empty when nothing has to be.
    """

    what: str
    state: State
    words: str
    remedy: str = ""

    @classmethod
    def missing(cls, what: str, complaint: str) -> Self:
        """There is none; the complaint says why and, behind a semicolon, what would help."""
        words, _, remedy = complaint.partition("; ")
        return cls(what, State.MISSING, words, remedy)


def findings() -> Iterator[Finding]:
    """All there is to say of this host, the most needed first."""
    yield _namespaces()
    yield _system_calls()
    yield _processes()
    yield _block_devices()
    for tool in ("ndctl", "daxctl"):
        yield _tool(tool)


def _namespaces() -> Finding:
    complaint = _complaint_of(_enter)
    what = "namespaces"
    if complaint:
        return Finding.missing(what, complaint)
    how = "as root" if namespaces.is_privileged() else "as an ordinary user"
    return Finding(what, State.GOOD, f"a command can have a /sys, /dev and /proc of its own, {how}")


def _system_calls() -> Finding:
    what = "system calls"
    if not seccomp.is_available():
        return Finding(what, State.MISSING, "this kernel cannot hand them over", "Linux 5.0 or newer with seccomp can")

    def install() -> None:
        _enter()
        with step("install a filter", "leave the sandbox that this runs in, or allow seccomp in the container"):
            os.close(seccomp.install_filter())

    complaint = _complaint_of(install)
    if complaint:
        return Finding.missing(what, complaint)
    return Finding(what, State.GOOD, "ioctls on the machine's devices, and changes of modules, can be answered")


def _processes() -> Finding:
    def mount() -> None:
        _enter()
        namespaces.unshare_process_ids()
        child = os.fork()
        if child == 0:
            try:
                syscalls.mount("proc", "/proc", "proc")
                os._exit(0)
            finally:
                os._exit(1)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            raise SandboxError("no")

    what = "processes"
    if _complaint_of(mount):
        words = "the command sees the host's processes beside its own, since parts of /proc are covered"
        return Finding(what, State.LIMITED, words, "run it outside of a container, or with an unmasked /proc")
    return Finding(what, State.GOOD, "the command sees its own alone")


def _block_devices() -> Finding:
    what = "block devices"
    if not namespaces.is_privileged():
        return Finding(what, State.LIMITED, "/dev/pmemN are files, which cannot be mounted", "run it as root")
    try:
        os.close(os.open("/dev/loop-control", os.O_RDWR))
    except OSError as failure:
        words = f"/dev/pmemN are files: /dev/loop-control: {failure.strerror}"
        return Finding(what, State.LIMITED, words, "`modprobe loop`, or a container with loop devices")
    return Finding(what, State.GOOD, "/dev/pmemN can be formatted and mounted")


def _tool(name: str) -> Finding:
    place = shutil.which(name)
    if place:
        return Finding(name, State.GOOD, place)
    return Finding(name, State.LIMITED, "not installed, and not needed unless you call it", f"apt-get install {name}")


def _enter() -> None:
    namespaces.enter(own_network=True)


def _complaint_of(trial: Callable[[], None]) -> str:
    """What is said when something is tried, in a process of its own; empty when it works."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            trial()
        except Exception as failure:  # whatever it is, it does not work
            os.write(writer, (str(failure) or repr(failure)).encode(errors="replace"))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        complaint = answer.read().decode()
    os.waitpid(child, 0)
    return complaint
