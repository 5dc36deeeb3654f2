"""The options that select the guest of `nvdimmfs lab`."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.machine import described
from nvdimmfs.cli.machine_options import offer_ranges
from nvdimmfs.lab.asking import SETTLE
from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.guest import TIMEOUT, GuestPlan
from nvdimmfs.lab.hardware import hardware_of
from nvdimmfs.lab.image import guest_image
from nvdimmfs.lab.kernels import DEFAULT_KERNEL, find_kernel
from nvdimmfs.lab.qemu import accelerators
from nvdimmfs.lab.qemu_machine import with_qemu_numbers
from nvdimmfs.machine_file.files import load_as_written
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine_file.selection import SelectionError, selected

#: How QEMU executes a guest.
AUTO = "auto"
_ACCELERATORS = (AUTO, "kvm", "tcg")


def offer_guest(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a guest."""
    offer_ranges(parser)
    parser.add_argument(
        "--kernel",
        metavar="RELEASE|PATH",
        default=DEFAULT_KERNEL,
        help="the kernel of the guest: a release of Debian's, which is downloaded once, a file vmlinuz-RELEASE, or a "
        "folder with boot/vmlinuz-RELEASE and lib/modules/RELEASE (default: %(default)s)",
    )
    parser.add_argument("--cpus", metavar="N", type=int, default=1, help="its processors (default: %(default)s)")
    parser.add_argument(
        "--accel",
        choices=_ACCELERATORS,
        default=AUTO,
        help="how QEMU executes it: on the host's processor, where /dev/kvm and nested virtualization permit it (kvm), "
        "or in software (tcg) (default: the first that works)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=TIMEOUT,
        help="how long its boot, and each request, may last (default: %(default)g)",
    )
    parser.add_argument(
        "--settle",
        metavar="SECONDS",
        type=float,
        default=SETTLE,
        help="how long to leave it alone after each write, so that asynchronous probes end (default: %(default)g)",
    )


def guest_machine(arguments: argparse.Namespace) -> MachineDescription:
    """The selected machine, completed, with the numbers that QEMU chooses."""
    named = None
    if arguments.machine is not None:
        named = with_qemu_numbers(described(arguments.machine, load_as_written))
    try:
        return selected(named, memmap=arguments.memmap, ram=arguments.ram)
    except SelectionError as error:
        raise CommandError(f"--{error}" if error.option else str(error), MISUSED) from None


def guest_plan(arguments: argparse.Namespace, machine: MachineDescription) -> GuestPlan:
    """What the guest of a machine is made of.  Its kernel and its image are made if there are none."""
    if arguments.cpus < 1:
        raise CommandError(f"--cpus {arguments.cpus}: a guest has at least one processor", MISUSED)
    with reported_errors():
        hardware = hardware_of(machine, arguments.cpus)
        kernel = find_kernel(arguments.kernel)
        return GuestPlan(kernel, guest_image(kernel), hardware, _accelerator(arguments.accel))


@contextlib.contextmanager
def reported_errors() -> Iterator[None]:
    """Report the errors of the lab in one line."""
    try:
        yield
    except LabError as error:
        raise CommandError(str(error)) from None


def _accelerator(wanted: str) -> str:
    there = accelerators()
    if wanted == AUTO:
        return there[0]
    if wanted not in there:
        raise CommandError(f"--accel {wanted}: this host has no /dev/kvm of a processor with VMX or SVM; use tcg")
    return wanted
