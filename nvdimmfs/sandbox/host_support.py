"""What a sandbox has on this host, as far as it can differ: found by trying it in a short-lived child process."""

from __future__ import annotations

import enum
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Self

from attrs import frozen

from nvdimmfs import host
from nvdimmfs.sandbox import libc, namespaces
from nvdimmfs.sandbox.errors import SandboxError


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


def findings(*, has_block_device: bool, warning: str) -> Iterator[Finding]:
    """Check the features of sandboxes, the most important first.

    Args:
        has_block_device: whether the disk of a sandbox was a block device.
        warning: what the sandbox gave as the reason why it was not, with a remedy after a semicolon; may be empty.
    """
    yield _check_proc()
    yield _check_uevents()
    yield _block_devices(has_block_device=has_block_device, warning=warning)
    for tool in ("ndctl", "daxctl"):
        yield _check_tool(tool)


def _check_proc() -> Finding:
    def mount_proc() -> None:
        namespaces.enter(private_network=False)
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
        remedy = (
            "start the container with `--security-opt systempaths=unconfined` (podman: `--security-opt unmask=ALL`)"
        )
        return Finding(feature, Support.LIMITED, meaning, remedy)
    return Finding(feature, Support.FULL, "the command sees only its own processes")


def _check_uevents() -> Finding:
    def enter_network() -> None:
        network = namespaces.enter(private_network=True)
        if network is None or not network.enter():
            raise SandboxError("uevents cannot be sent")

    feature = "uevents"
    if _error_of(enter_network):
        meaning = "the command receives no uevents, and its loopback interface is down"
        return Finding(feature, Support.LIMITED, meaning, host.how_to_get_capability("NET_ADMIN"))
    return Finding(feature, Support.FULL, "the command receives the machine's uevents")


def _block_devices(*, has_block_device: bool, warning: str) -> Finding:
    feature = "block devices"
    if has_block_device:
        return Finding(feature, Support.FULL, "/dev/pmemN can be formatted and mounted")
    if warning and namespaces.may_create_nodes():
        meaning, _, remedy = warning.partition("; ")
        return Finding(feature, Support.LIMITED, meaning, remedy)
    meaning = "disks are regular files, which cannot be mounted"
    if os.geteuid() != 0:
        remedy = "run it as root"
    elif host.has_all_users():
        remedy = host.how_to_get_capability("SYS_ADMIN")
    else:
        remedy = "run it as root outside any user namespace"
    return Finding(feature, Support.LIMITED, meaning, remedy)


def _check_tool(name: str) -> Finding:
    path = shutil.which(name)
    if path:
        return Finding(name, Support.FULL, path)
    return Finding(name, Support.LIMITED, "not installed; only needed if you call it", f"apt-get install {name}")


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
