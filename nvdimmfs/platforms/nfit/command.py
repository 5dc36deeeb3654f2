"""Translation of the kernel's commands to _DSM functions and back (acpi_nfit_ctl, drivers/acpi/nfit/core.c, 6.1)."""

from __future__ import annotations

import errno
from typing import Protocol

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import (
    BUS_FORMATS,
    CALL,
    CONFIG_LOCKED,
    DIMM_FAMILY_INTEL,
    DIMM_FORMATS,
    FIRMWARE_SIZE_OFFSET,
    LABEL_COMMANDS,
    PACKAGE_SIZE,
    U32,
    ArsStatus,
    BusCommand,
    ClearError,
    CommandFormat,
    DimmCommand,
    Package,
    u32,
)
from nvdimmfs.formats.nfit_dsm import (
    ARS_BUSY,
    ARS_CAP_NONE,
    ARS_DONE,
    ARS_INTERRUPTED,
    ARS_NONE,
    ARS_OVERFLOW,
    ARS_SCRUBS,
    ARS_START_BUSY,
    LABELS_LOCKED,
    STATUS_MASK,
)
from nvdimmfs.nd.bus import NvdimmBus
from nvdimmfs.nd.command import Outcome
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.units import U32_MASK

#: The largest function that the kernel allows (NVDIMM_CMD_MAX, drivers/acpi/nfit/nfit.h).
MAX_FUNCTION = 31

#: Stands for a family where labels are accessed by methods of their own.
LABEL_METHODS = -1

_SIGN = 1 << 31

#: The kernel takes an ARS status of at least so many bytes to contain flags.
_ARS_WITH_FLAGS = 40


class DsmEvaluator(Protocol):
    """Evaluates the _DSM functions of one device: a DIMM or the root device."""

    def evaluate(self, family: int, function: int, payload: bytes) -> bytes | None:
        """Execute a function (_DSM, or _LSI, _LSR and _LSW, whose arguments are the same).

        Args:
            family: the family of the function; `LABEL_METHODS` for a method.
            function: its number.
            payload: its arguments.

        Returns:
            Its outputs, status first; None when the evaluation fails.
        """


@attrs.frozen
class FailingFirmware:
    """Executes no function.

    Attributes:
        status: the status that it reports.
    """

    status: int

    def evaluate(self, family: int, function: int, payload: bytes) -> bytes | None:  # noqa: ARG002
        """The status, and no other output."""
        return U32.pack(self.status)


@attrs.frozen
class CommandTarget:
    """The target of a command, a DIMM or the bus, and the commands that it supports.

    Attributes:
        evaluator: evaluates functions; None without an ACPI device.
        is_dimm: whether it is a DIMM.
        commands: its commands, a bit each.
        family: the family of a DIMM's functions; negative for none.
        functions: for each family, the functions that the kernel allows in a CALL, a bit each.
        named_methods: labels are accessed by the methods _LSI, _LSR and _LSW, not by functions of the family.
    """

    evaluator: DsmEvaluator | None
    is_dimm: bool
    commands: int
    family: int
    functions: dict[int, int]
    named_methods: bool = False

    @property
    def formats(self) -> dict[int, CommandFormat]:
        return DIMM_FORMATS if self.is_dimm else BUS_FORMATS


def acpi_nfit_ctl(target: CommandTarget, command: int, argument: bytearray) -> Outcome:
    """Execute a command by evaluating a function.

    EINVAL when the evaluation fails or the argument is invalid, ENOTTY for commands and functions that the target does
    not have, ENXIO when the output does not fit.
    """
    if command == CALL and len(argument) < PACKAGE_SIZE:
        raise KernelError(errno.EINVAL, "too short for a package")
    package = Package.from_bytes(argument) if command == CALL else None
    function = _function(target, command, package)
    if target.evaluator is None:
        raise KernelError(errno.ENOTTY, "no device in the ACPI namespace")
    layout = target.formats.get(command)
    if layout is None or not target.commands >> command & 1:
        raise KernelError(errno.ENOTTY, f"no command {command}")
    if package:
        return _call(target, target.evaluator, package, function, argument)
    length = sum(layout.input_size(index, argument) for index in range(len(layout.inputs))) & U32_MASK
    by_method = target.named_methods and command in LABEL_COMMANDS
    family = LABEL_METHODS if by_method else max(target.family, DIMM_FAMILY_INTEL)
    answer = target.evaluator.evaluate(family, command, bytes(argument[:length]))
    if answer is None:
        raise KernelError(errno.EINVAL, f"the firmware does not execute command {command}")
    return _take_answer(target, command, layout, argument, length, answer)


def call(bus: NvdimmBus, dimm: DimmDevice | None, package: Package, payload: bytes) -> bytes:
    """Send a CALL as the kernel's own code does; errors as `NvdimmBus.control`.

    Args:
        bus: the bus.
        dimm: the DIMM whose function it is; None for one of the bus.
        package: identifies the function.
        payload: the initial content of the payload; zeros follow it.

    Returns:
        The payload after the function, inputs included.
    """
    argument = package.argument(payload)
    bus.send(dimm, CALL, argument)
    return bytes(argument[PACKAGE_SIZE:])


def clear_to_send(is_dimm: bool, function: int, argument: bytearray, *, scrubbing: bool) -> None:
    """EBUSY to scrub while the kernel scrubs, EOPNOTSUPP for functions of a bus's other families.

    The kernel is meant to reserve security and firmware activation for itself, too.  But the number that it compares
    with CALL is that of the function, so that it only refuses functions that happen to have the number of CALL
    (acpi_nfit_clear_to_send).
    """
    if is_dimm:
        return
    if function == CALL and len(argument) >= PACKAGE_SIZE and Package.from_bytes(argument).family:
        raise KernelError(errno.EOPNOTSUPP, "the function is reserved for the kernel")
    if function == BusCommand.ARS_START and scrubbing:
        raise KernelError(errno.EBUSY, "the kernel is scrubbing")


def _function(target: CommandTarget, command: int, package: Package | None) -> int:
    """The number of the function.  That in a package is signed, and if negative, an errno (cmd_to_func)."""
    if package is None:
        return command
    if target.is_dimm and package.family != target.family:
        raise KernelError(errno.ENOTTY, f"no functions of family {package.family}")
    if any(package.reserved):
        raise KernelError(errno.EINVAL, "a reserved field is not zero")
    function = package.function & U32_MASK
    if function & _SIGN:
        raise KernelError(2 * _SIGN - function, "a negative function")
    return function


def _call(
    target: CommandTarget, evaluator: DsmEvaluator, package: Package, function: int, argument: bytearray
) -> Outcome:
    functions = target.functions.get(package.family, 0)
    if function > MAX_FUNCTION or not functions >> function & 1:
        raise KernelError(errno.ENOTTY, f"no function {function}")
    outputs = PACKAGE_SIZE + package.size_in
    if outputs > len(argument):
        raise KernelError(errno.EINVAL, "the payload is longer than the argument")
    answer = evaluator.evaluate(package.family, function, bytes(argument[PACKAGE_SIZE:outputs]))
    if answer is None:
        raise KernelError(errno.EINVAL, f"the firmware does not execute function {function}")
    U32.pack_into(argument, FIRMWARE_SIZE_OFFSET, len(answer))
    returned = min(len(answer), package.size_out)
    argument[outputs : outputs + returned] = answer[:returned]
    return Outcome()


def _take_answer(
    target: CommandTarget, command: int, layout: CommandFormat, argument: bytearray, inputs: int, answer: bytes
) -> Outcome:
    """Copy the output to the bytes after the inputs, field by field, as far as it goes."""
    taken = 0
    for index in range(len(layout.outputs)):
        size = layout.output_size(index, argument, answer, len(answer) - taken)
        if taken + size > len(answer):
            break
        if inputs + taken + size > len(argument):
            raise KernelError(errno.ENXIO, f"field {index} of the output does not fit")
        argument[inputs + taken : inputs + taken + size] = answer[taken : taken + size]
        taken += size
    if not taken:
        raise KernelError(errno.ENXIO, "no output")
    translate = _translate_dimm_status if target.is_dimm else _translate_bus_status
    return Outcome(len(argument) - inputs - taken, translate(target, command, u32(answer), argument))


def _translate_dimm_status(target: CommandTarget, command: int, status: int, _argument: bytearray) -> int:
    """Translate a DIMM's status to 0 or a negative errno (xlat_nvdimm_status)."""
    if command == DimmCommand.GET_SIZE and not target.named_methods and status & CONFIG_LOCKED:
        return -errno.EACCES
    labels = command in (DimmCommand.GET_DATA, DimmCommand.SET_DATA)
    if labels and target.named_methods and status == LABELS_LOCKED:
        return -errno.EACCES
    return -errno.EIO if status else 0


def _translate_bus_status(_target: CommandTarget, command: int, status: int, argument: bytearray) -> int:
    """Translate a bus's status (xlat_bus_status): 0, a negative errno, or the number of bytes that were cleared."""
    failed = status & STATUS_MASK
    match command:
        case BusCommand.ARS_CAP:
            if failed == ARS_CAP_NONE:
                return -errno.ENOTTY
            if failed:
                return -errno.EIO
            return 0 if status & ARS_SCRUBS else -errno.ENOTTY
        case BusCommand.ARS_START:
            if failed == ARS_START_BUSY:
                return -errno.EBUSY
            return -errno.EIO if failed else 0
        case BusCommand.ARS_STATUS:
            return _translate_ars_status(status, argument)
        case BusCommand.CLEAR_ERROR:
            clear = ClearError.from_bytes(argument)
            if failed or not clear.cleared:
                return -errno.EIO
            return clear.cleared if clear.length > clear.cleared else 0
    return -errno.EIO if status else 0


def _translate_ars_status(status: int, argument: bytearray) -> int:
    if status & STATUS_MASK:
        return -errno.EIO
    if status == ARS_INTERRUPTED:
        head = ArsStatus.from_bytes(argument.ljust(ArsStatus.size(), b"\0"))
        return -errno.ENOSPC if head.out_length >= _ARS_WITH_FLAGS and head.flags & ARS_OVERFLOW else 0
    known = {ARS_DONE: 0, ARS_BUSY: -errno.EBUSY, ARS_NONE: -errno.EAGAIN}
    return known.get(status, -errno.EIO)
