"""The options that select the guest of `nvdimmfs lab`."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.machine import described
from nvdimmfs.cli.machine_options import offer_ranges
from nvdimmfs.cli.numbers import count, seconds
from nvdimmfs.kernels.kernel import EMULATED_KERNELS
from nvdimmfs.lab.asking import SETTLE, Call
from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.guest import TIMEOUT, GuestPlan
from nvdimmfs.lab.hardware import hardware_of
from nvdimmfs.lab.image import guest_image
from nvdimmfs.lab.kernels import DEFAULT_KERNEL, find_kernel
from nvdimmfs.lab.nfit_test import built_modules
from nvdimmfs.lab.qemu import accelerators
from nvdimmfs.lab.qemu_machine import with_qemu_numbers
from nvdimmfs.lab.questions import question
from nvdimmfs.lab.stories import USUAL_MEMORY
from nvdimmfs.machine_file import DEFAULT_MEMMAP
from nvdimmfs.machine_file.files import SUFFIX, is_name, load_as_written
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine_file.selection import SelectionError, selected

#: The name of stdin in place of a file.
STDIN = "-"

#: More than a guest runs; longer times do not fit into what poll(2) takes, milliseconds of 32 bits.
_MOST_SECONDS = 1_000_000

#: How QEMU executes a guest.
AUTO = "auto"
_ACCELERATORS = (AUTO, "kvm", "tcg")


def offer_guest(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a guest and its machine."""
    offer_ranges(parser)
    offer_execution(parser)
    parser.add_argument(
        "--settle",
        metavar="SECONDS",
        type=functools.partial(seconds, most=_MOST_SECONDS),
        default=SETTLE,
        help="how long to leave it alone after each write, so that asynchronous probes end (default: %(default)g)",
    )


def offer_execution(
    parser: argparse.ArgumentParser, kernel: str | None = DEFAULT_KERNEL, without_option: str = DEFAULT_KERNEL
) -> None:
    """Declare how a guest is executed.

    Args:
        parser: the parser.
        kernel: the kernel without the option.
        without_option: the same in words.
    """
    offer_kernel(parser, "the kernel of the guest", kernel, without_option)
    parser.add_argument("--cpus", metavar="N", type=count, default=1, help="its processors (default: %(default)s)")
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
        type=functools.partial(seconds, most=_MOST_SECONDS),
        default=TIMEOUT,
        help="how long its boot, and each request, may last (default: %(default)g)",
    )


def offer_kernel(
    parser: argparse.ArgumentParser,
    what: str,
    kernel: str | None = DEFAULT_KERNEL,
    without_option: str = DEFAULT_KERNEL,
) -> None:
    """Declare the option that selects a kernel; the arguments are those of `offer_execution`, and what it is for."""
    parser.add_argument(
        "--kernel",
        metavar="RELEASE|PATH",
        default=kernel,
        help=f"{what}: a release of Debian's, which is downloaded once, a file vmlinuz-RELEASE, or a "
        f"folder with boot/vmlinuz-RELEASE and lib/modules/RELEASE (default: {without_option})",
    )


def offer_workers(parser: argparse.ArgumentParser, jobs: str, work: str) -> None:
    """Declare the options that share out work, which `lab.executors.finished` takes.

    Args:
        parser: the parser.
        jobs: what --jobs counts.
        work: what the workers of a cluster do.
    """
    parser.add_argument("--jobs", metavar="N", type=count, default=1, help=f"{jobs} (default: 1)")
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help=f"have the workers of a Dask cluster {work}, for example tcp://HOST:8786",
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


def named_machine(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the machine as the header of a recording names it."""
    if arguments.machine is None:
        return {"memmap": arguments.memmap or DEFAULT_MEMMAP, "memory": arguments.ram or USUAL_MEMORY}
    if arguments.memmap is not None or arguments.ram is not None:
        raise CommandError("a recording names its machine by --machine, or by --memmap and --ram", MISUSED)
    if is_name(arguments.machine):
        return {"machine": arguments.machine}
    return {"machine": Path(arguments.machine).name.removesuffix(SUFFIX)}


def kernel_in_header(machine: MachineDescription, release: str) -> dict[str, str]:
    """Return what a header has beside `named_machine`: the emulated kernel that has to answer as a guest did.

    Nothing, if that is the machine's own kernel, or if none is emulated that has to.

    Args:
        machine: the machine.
        release: that of the guest, as `uname -r` prints it.
    """
    emulated = emulated_release(release)
    return {"kernel": emulated} if emulated in EMULATED_KERNELS and emulated != machine.kernel else {}


def emulated_release(release: str) -> str:
    """The name of the emulated kernel that answers as a release does, if there is one."""
    return ".".join(release.split(".")[:2])


def guest_plan(arguments: argparse.Namespace, machine: MachineDescription, kernel_name: str) -> GuestPlan:
    """What the guest of a machine is made of.

    Its kernel and its image are made if there are none; LabError when it needs modules that have not been built.
    """
    hardware = hardware_of(machine, arguments.cpus)
    kernel = find_kernel(kernel_name)
    replacing = built_modules(kernel, kernel_name) if hardware.has_test_platform else None
    return GuestPlan(kernel, guest_image(kernel, replacing), hardware, _accelerator(arguments.accel))


def questions(name: str) -> list[Call]:
    """The questions in a file, without answers.  CommandError for a line that is none."""
    data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    calls = []
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            try:
                calls.append(question(_json(line)))
            except ValueError as error:
                raise CommandError(f"{name}, line {number}: {error}", MISUSED) from None
    return calls


def _json(line: bytes) -> object:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None


def reporting(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Have a command report the errors of the lab in one line."""

    @functools.wraps(run)
    def reported(arguments: argparse.Namespace) -> int:
        try:
            return run(arguments)
        except LabError as error:
            raise CommandError(str(error)) from None

    return reported


def _accelerator(wanted: str) -> str:
    there = accelerators()
    if wanted == AUTO:
        return there[0]
    if wanted not in there:
        raise CommandError(f"--accel {wanted}: this host has no /dev/kvm of a processor with VMX or SVM; use tcg")
    return wanted
