"""`nvdimmfs lab build-nfit-test`: build the modules of the machine nfit_test for a kernel."""

from __future__ import annotations

import argparse
import sys

from nvdimmfs.cli.lab_options import offer_kernel, reporting
from nvdimmfs.lab.kernels import find_kernel
from nvdimmfs.lab.nfit_test import build_modules


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    offer_kernel(parser, "the kernel to build them for")


@reporting
def run(arguments: argparse.Namespace) -> int:
    """Build them unless they have been built, and print the folder that they are in."""
    print(build_modules(find_kernel(arguments.kernel), _report))
    return 0


def _report(step: str) -> None:
    """Show on a terminal how far the work is."""
    if sys.stderr.isatty():
        print(step, file=sys.stderr, flush=True)
