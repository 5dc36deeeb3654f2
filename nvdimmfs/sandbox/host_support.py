"""What this host permits a sandbox to do, found by trying each step in a short-lived child process."""

from __future__ import annotations

import enum
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Self

from attrs import frozen

from nvdimmfs.sandbox import libc, namespaces, seccomp
from nvdimmfs.sandbox.calling_thread import shows_inode_numbers
from nvdimmfs.sandbox.errors import SandboxError, step


class Support(enum.Enum):
    """How far the host supports a feature."""

    FULL = "yes"
    LIMITED = "in part"
    MISSING = "no"


@frozen
class Finding:
    """The result of checking one feature of the host.

    Attributes:
        feature: the feature, in one or two words.
        support: how far the host supports it.
        meaning: the consequence for the user.
        remedy: one line that would improve it; empty when nothing has to be improved.
    """

    feature: str
    support: Support
    meaning: str
    remedy: str = ""

    @classmethod
    def missing(cls, feature: str, error: str) -> Self:
        """The feature is missing; the error gives the reason and, after a semicolon, the remedy."""
        meaning, _, remedy = error.partition("; ")
        return cls(feature, Support.MISSING, meaning, remedy)


def findings() -> Iterator[Finding]:
    """Check each feature of this host, the most important first."""
    yield _check_namespaces()
    yield _check_seccomp()
    yield _check_proc()
    yield _check_loop_devices()
    for tool in ("ndctl", "daxctl"):
        yield _check_tool(tool)


def _check_namespaces() -> Finding:
    error = _error_of(_enter)
    feature = "namespaces"
    if error:
        return Finding.missing(feature, error)
    how = "as root" if namespaces.is_privileged() else "as an ordinary user"
    return Finding(feature, Support.FULL, f"a command can have a private /sys, /dev and /proc, {how}")


def _check_seccomp() -> Finding:
    feature = "system calls"
    if not (seccomp.is_available() and shows_inode_numbers()):
        meaning = "this kernel has no seccomp notification or is too old, so nvdimmfs cannot answer ioctls"
        return Finding(feature, Support.MISSING, meaning, "use Linux 5.14 or newer, built with seccomp")

    def install() -> None:
        _enter()
        with step("install a seccomp filter", "leave the surrounding sandbox, or permit seccomp in the container"):
            os.close(seccomp.install_filter())

    error = _error_of(install)
    if error:
        return Finding.missing(feature, error)
    meaning = "nvdimmfs can answer ioctls on the machine's devices, and load and unload the machine's modules"
    return Finding(feature, Support.FULL, meaning)


def _check_proc() -> Finding:
    def mount_proc() -> None:
        _enter()
        namespaces.unshare_pid_namespace()
        child = os.fork()
        if child == 0:
            try:
                libc.mount("proc", "/proc", "proc")
                os._exit(0)
            finally:
                os._exit(1)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            raise SandboxError("cannot mount /proc")

    feature = "processes"
    if _error_of(mount_proc):
        meaning = "the command sees the host's processes as well as its own, because parts of /proc are masked"
        return Finding(feature, Support.LIMITED, meaning, "run nvdimmfs outside a container, or with an unmasked /proc")
    return Finding(feature, Support.FULL, "the command sees only its own processes")


def _check_loop_devices() -> Finding:
    feature = "block devices"
    if not namespaces.is_privileged():
        return Finding(feature, Support.LIMITED, "/dev/pmemN are regular files and cannot be mounted", "run it as root")
    try:
        os.close(os.open("/dev/loop-control", os.O_RDWR))
    except OSError as failure:
        meaning = f"/dev/pmemN are regular files: /dev/loop-control: {failure.strerror}"
        return Finding(feature, Support.LIMITED, meaning, "`modprobe loop`, or give the container loop devices")
    return Finding(feature, Support.FULL, "/dev/pmemN can be formatted and mounted")


def _check_tool(name: str) -> Finding:
    path = shutil.which(name)
    if path:
        return Finding(name, Support.FULL, path)
    return Finding(name, Support.LIMITED, "not installed; only needed if you call it", f"apt-get install {name}")


def _enter() -> None:
    namespaces.enter(private_network=True)


def _error_of(trial: Callable[[], None]) -> str:
    """The error message of a trial, made in a child process; empty when the trial succeeds."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            trial()
        except Exception as failure:  # any exception means that the feature does not work
            os.write(writer, (str(failure) or repr(failure)).encode(errors="replace"))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as message:
        error = message.read().decode()
    os.waitpid(child, 0)
    return error
