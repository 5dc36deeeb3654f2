"""ioctl(2) on the nodes of a machine's devices, and loads of modules: subject to fault rules, recorded in the trace."""

from __future__ import annotations

import errno
import fnmatch
from contextlib import AbstractContextManager, nullcontext

from nvdimmfs.block.disk import Disk
from nvdimmfs.block.ioctl import block_ioctl
from nvdimmfs.block.partition import Partition
from nvdimmfs.core.device_number import DeviceNumber, Numbered
from nvdimmfs.core.device_uses import NO_USES, DeviceUses
from nvdimmfs.core.system import System
from nvdimmfs.core.user_memory import IoctlSteps
from nvdimmfs.errors import KernelError
from nvdimmfs.faults.faults import Caller, Faults
from nvdimmfs.faults.rule import Operation
from nvdimmfs.formats.block_requests import REQUEST_NAMES
from nvdimmfs.formats.ndctl import BusCommand, DimmCommand
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.ioctl import ioctl_target, nd_ioctl
from nvdimmfs.traces.event import Op


def device_named(system: System, name: str) -> tuple[DeviceNumber, Numbered] | None:
    """The device whose node in /dev has a name, and its number; None when there is none."""
    return next(((number, device) for number, device in system.numbered.items() if device.name == name), None)


def traced_module_call(system: System, op: Op, module: str, thread: int) -> AbstractContextManager[object]:
    """A context in which a thread loads or unloads a module; the call is recorded in the trace if there is one."""
    if (trace := system.trace) is None:
        return nullcontext()
    return trace.module_call(op, f"/sys/module/{module}", thread)


def traced_ioctl(
    system: System,
    number: DeviceNumber,
    request: int,
    argument: int,
    *,
    thread: int,
    writable: bool,
    privileged: bool,
    caller: Caller,
    uses: DeviceUses = NO_USES,
) -> IoctlSteps:
    """As `device_ioctl` on the device with a number, recorded in the trace if there is one.  ENODEV without a device.

    Args:
        system: the device's system.
        number: the device's number.
        request: as for `device_ioctl`, as are the next ones.
        argument: as there.
        writable: as there.
        privileged: as there.
        thread: the id of the calling thread.
        caller: the process, for fault rules.
        uses: as for `device_ioctl`.
    """
    device = system.numbered.get(number)

    def start() -> IoctlSteps:
        if device is None:
            raise KernelError(errno.ENODEV, f"no {number.kind} device {number}")
        if system.faults.ioctls:
            refuse_ioctl(system.faults, device, caller)
        return device_ioctl(device, request, argument, writable=writable, privileged=privileged, uses=uses)

    if (trace := system.trace) is None:
        return start()
    path = f"/dev/{device.name if device else f'{number.kind}/{number}'}"
    return trace.ioctl(path, thread, _request_text(device, request), start)


def _request_text(device: Numbered | None, request: int) -> str:
    """The number of an ioctl, with its name where it has one."""
    target = ioctl_target(device)
    if target is None:
        name = REQUEST_NAMES.get(request)
    else:
        commands = DimmCommand if isinstance(target, DimmDevice) else BusCommand
        name = next((command.name for command in commands if command == request & 0xFF), None)
    return f"{name} ({request:#x})" if name else f"{request:#x}"


def ioctl_delay(faults: Faults, device: Numbered, caller: Caller) -> int:
    """How long an ioctl must wait, by the rules, in nanoseconds of the host's time.  Ask once for each ioctl."""
    path = f"dev/{device.name}"
    return faults.delay(Operation.IOCTL, lambda pattern: fnmatch.fnmatchcase(path, pattern), path, caller)


def refuse_ioctl(faults: Faults, device: Numbered, caller: Caller) -> None:
    """Fail with the errno of the rule that applies to an ioctl.  KernelError."""
    faults.refuse(faults.ioctls, f"dev/{device.name}", caller)


def device_ioctl(
    device: Numbered, request: int, argument: int, *, writable: bool, privileged: bool, uses: DeviceUses = NO_USES
) -> IoctlSteps:
    """Start an ioctl on a device.  ENOTTY for a device that supports none, and the errors of the ioctl.

    Args:
        device: the device behind the node.
        request: the ioctl's number.
        argument: the address passed to ioctl(2).
        writable: whether the node was opened for more than reading.
        privileged: whether the caller has CAP_SYS_ADMIN.
        uses: nodes that processes use without the machine's knowledge.
    """
    if isinstance(device, Disk | Partition):
        return block_ioctl(device, request, argument, writable=writable, privileged=privileged, uses=uses)
    target = ioctl_target(device)
    if target is None:
        raise KernelError(errno.ENOTTY, f"{device.name} supports no ioctl")
    return nd_ioctl(target, request, writable)
