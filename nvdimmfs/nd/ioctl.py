"""ioctls on ndctlN and nmemN: the path of an argument from user memory to the provider and back (bus.c, Linux 6.1).

The kernel reads user memory in several steps, and may return an error between them.  So an ioctl is a generator: it
yields each access to memory in the kernel's order, and the process that has the caller's memory carries it out.

    steps = nd_ioctl(dimm, request, writable=True)
    step = next(steps)
    while True:
        match step:
            case CopyIn(offset, length): step = steps.send(memory[offset : offset + length])
            case CopyOut(offset, data): ...; step = steps.send(b"")
"""

from __future__ import annotations

import errno

from nvdimmfs.core.user_memory import CopyIn, CopyOut, IoctlSteps
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import (
    BUS_FORMATS,
    CALL,
    DIMM_FORMATS,
    MAX_BUS_FAMILY,
    MAX_DIMM_FAMILY,
    PACKAGE_SIZE,
    UNKNOWN_SIZE,
    BusCommand,
    ClearError,
    CommandFormat,
    DimmCommand,
    Package,
)
from nvdimmfs.kernels.durations import IOCTL
from nvdimmfs.nd.bus import NdctlDevice, NvdimmBus
from nvdimmfs.nd.claim import Personality
from nvdimmfs.nd.clear_error import account_cleared
from nvdimmfs.nd.device import NdDevice
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.namespace import NamespaceDevice
from nvdimmfs.nd.region import SeedKind
from nvdimmfs.units import U32_MASK, U64_MASK

#: The kernel finds the sizes of fields in so many bytes of the inputs, and of the outputs (ND_CMD_MAX_ENVELOPE).
MAX_ENVELOPE = 256

#: The longest argument, bytes (ND_IOCTL_MAX_BUFLEN, include/linux/libnvdimm.h).
MAX_ARGUMENT = 4 << 20

#: Commands for which a device must be open for writing.  The kernel compares numbers regardless of the kind of device,
#: so that a DIMM's GET_SIZE is one of them: it has the number of a bus's CLEAR_ERROR.
_WRITING = {DimmCommand.VENDOR, DimmCommand.SET_DATA, BusCommand.ARS_START, BusCommand.CLEAR_ERROR, CALL}


def ioctl_target(device: object) -> NvdimmBus | DimmDevice | None:
    """The bus (ndctlN) or the DIMM (nmemN) whose commands the ioctls on a device node are; None for other devices."""
    if isinstance(device, NdctlDevice):
        return device.parent
    return device if isinstance(device, DimmDevice) else None


def nd_ioctl(device: NvdimmBus | DimmDevice, request: int, writable: bool) -> IoctlSteps:
    """Execute an ioctl (nd_ioctl and __nd_ioctl, drivers/nvdimm/bus.c, Linux 6.1).

    ENXIO when the device is gone or the size of a field is unknown, EFAULT, EINVAL for a family of functions that the
    bus does not have and for arguments of more than 4 MiB, ENOTTY for a command that the device does not have, EPERM
    for one that needs a device open for writing, EBUSY for labels of a DIMM in use, ENOMEM, and the provider's errors.

    Args:
        device: the bus of an ndctlN, or the DIMM.
        request: the ioctl's number; only its low byte counts.
        writable: the device was opened for more than reading.

    Returns:
        The ioctl's result.
    """
    dimm = device if isinstance(device, DimmDevice) else None
    bus = device.parent if isinstance(device, DimmDevice) else device
    _require_registered(device)
    command = function = request & 0xFF
    if command == CALL:
        package = Package.from_bytes((yield CopyIn(0, PACKAGE_SIZE)))
        _check_family(bus, dimm, package.family)
        function = package.function & U32_MASK
    layout = (DIMM_FORMATS if dimm else BUS_FORMATS).get(command)
    if layout is None or not device.command_mask >> command & 1:
        raise KernelError(errno.ENOTTY, f"{device.name} has no command {command}")
    if command in _WRITING and not writable:
        raise KernelError(errno.EPERM, f"{device.name} is open read-only")
    length = yield from _measure(layout)
    argument = bytearray((yield CopyIn(0, length)))
    _require_registered(device)
    bus.system.clock.run_due()
    try:
        result = _send(bus, dimm, command, function, argument)
    finally:
        bus.system.settle()
        bus.system.clock.spend(IOCTL)
    yield CopyOut(0, bytes(argument), result)
    return result


def _require_registered(device: NvdimmBus | DimmDevice) -> None:
    """ENXIO when the device is gone.

    That may happen while the argument is copied, which takes as long as the caller's memory takes to arrive: other
    requests are executed meanwhile.  In the kernel, the removal of the bus waits for the caller (`ioctl_active`).
    """
    if not device.registered:
        raise KernelError(errno.ENXIO, f"{device.name} is gone")


def _check_family(bus: NvdimmBus, dimm: DimmDevice | None, family: int) -> None:
    families, largest = (bus.dimm_families, MAX_DIMM_FAMILY) if dimm else (bus.families, MAX_BUS_FAMILY)
    if family > largest or family not in families:
        raise KernelError(errno.EINVAL, f"{bus.name} has no functions of family {family}")


def _measure(layout: CommandFormat) -> IoctlSteps:
    """The size of the argument, bytes, from the first 256 bytes of its inputs and of its outputs."""
    inputs, outputs = bytearray(MAX_ENVELOPE), bytearray(MAX_ENVELOPE)
    in_length = out_length = 0
    for index in range(len(layout.inputs)):
        size = layout.input_size(index, inputs)
        if size == UNKNOWN_SIZE:
            raise KernelError(errno.ENXIO, f"no size for input {index}")
        copied = min(max(0, MAX_ENVELOPE - in_length), size)
        if copied:
            inputs[in_length : in_length + copied] = yield CopyIn(in_length, copied)
        in_length = (in_length + size) & U32_MASK
    for index in range(len(layout.outputs)):
        size = layout.output_size(index, inputs, outputs)
        if size == UNKNOWN_SIZE:
            raise KernelError(errno.EFAULT, f"no size for output {index}")
        copied = min(max(0, MAX_ENVELOPE - out_length), size)
        if copied:
            outputs[out_length : out_length + copied] = yield CopyIn(in_length + out_length, copied)
        out_length = (out_length + size) & U32_MASK
    length = in_length + out_length
    if length > MAX_ARGUMENT:
        raise KernelError(errno.EINVAL, f"an argument of {length} bytes")
    if not length:
        raise KernelError(errno.ENOMEM, "an empty argument")
    return length


def _send(bus: NvdimmBus, dimm: DimmDevice | None, command: int, function: int, argument: bytearray) -> int:
    """Send the command to the provider, unless it must be refused now."""
    _clear_to_send(bus, dimm, function, argument)
    with bus.system.transaction():
        outcome = bus.send(dimm, command, argument)
    if dimm is None and command == BusCommand.CLEAR_ERROR and outcome.status >= 0:
        account_cleared(bus, argument)
    return outcome.result


def _clear_to_send(bus: NvdimmBus, dimm: DimmDevice | None, function: int, argument: bytearray) -> None:
    """Refuse commands that cannot be executed now (nd_cmd_clear_to_send).

    Linux 6.1 compares the number of the function where a CALL carries one.  So it also refuses CALLs of functions that
    have the number of such a command.
    """
    bus.clear_to_send(dimm, function, argument)
    if dimm is None and function == BusCommand.CLEAR_ERROR:
        _refuse_behind_drivers(bus, argument)
    if dimm and function == DimmCommand.SET_DATA and dimm.busy:
        raise KernelError(errno.EBUSY, f"{dimm.name} is in use: its labels belong to the kernel")


def _refuse_behind_drivers(bus: NvdimmBus, argument: bytearray) -> None:
    """EBUSY when a bound namespace lies in the range: its disk clears errors (nd_ns_forget_poison_check).

    The length of the range is the argument's count of cleared bytes, an output that user space filled in.
    """
    command = ClearError.from_bytes(argument)
    last = (command.address + command.cleared - 1) & U64_MASK
    for region in bus.children:
        for device in region.children:
            namespace = _namespace_behind(device) if isinstance(device, NdDevice) else None
            if namespace and command.address <= namespace.start and namespace.start + namespace.size - 1 <= last:
                raise KernelError(errno.EBUSY, f"{namespace.name} is in use")


def _namespace_behind(device: NdDevice) -> NamespaceDevice | None:
    """The namespace of a bound device; None for dax devices, too."""
    if device.driver is None:
        return None
    if isinstance(device, Personality):
        return device.namespace if device.kind is not SeedKind.DAX else None
    return device if isinstance(device, NamespaceDevice) else None
