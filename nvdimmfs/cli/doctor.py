"""`nvdimmfs doctor`: what this host supports, and how to improve it."""

from __future__ import annotations

import argparse
import importlib
import json
import textwrap
from collections.abc import Callable, Iterator

from nvdimmfs.cli.errors import one_line
from nvdimmfs.cli.trial import Outcome, try_mount, try_run
from nvdimmfs.errors import FAILED
from nvdimmfs.lab.nfit_test import NFIT_TEST
from nvdimmfs.lab.qemu import accelerators
from nvdimmfs.lab.tools import BUILD_PACKAGES, missing_packages
from nvdimmfs.sandbox.host_support import Finding, Support, findings

#: Values of --for: the command that has to work.
MOUNT = "mount"
RUN = "run"
LAB = "lab"

_MARKS = {Support.FULL: "ok", Support.LIMITED: "--", Support.MISSING: "NO"}
_WIDTH = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--for",
        dest="purpose",
        choices=(MOUNT, RUN, LAB),
        help="try only this command; the status is 0 if it works, whatever else does not (default: "
        "mount and run have to work)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Try what was asked for, and print one finding per line."""
    missing = False
    found = []
    for finding in _findings(arguments.purpose):
        missing = missing or finding.support is Support.MISSING
        found.append(finding)
        if not arguments.json:
            print(_line(finding), flush=True)
    if arguments.json:
        print(json.dumps([_as_json(finding) for finding in found], indent=2))
    return FAILED if missing else 0


def _findings(purpose: str | None) -> Iterator[Finding]:
    library = _check_library()
    yield library
    if library.support is Support.MISSING:
        return
    if purpose in (None, MOUNT):
        yield _check_mount()
    if purpose in (None, RUN):
        yield from _check_run()
    if purpose in (None, LAB):
        yield _check_lab(Support.LIMITED if purpose is None else Support.MISSING)
        yield _check_build()


def _check_library() -> Finding:
    try:
        importlib.import_module("nvdimmfs.fuse.mount")
    except ImportError as failure:
        return Finding("FUSE library", Support.MISSING, str(failure), "scripts/setup installs it")
    return Finding("FUSE library", Support.FULL, "pyfuse3 can be loaded")


def _check_mount() -> Finding:
    outcome = _outcome(try_mount)
    if outcome.error:
        return Finding.missing(MOUNT, outcome.error)
    return Finding(MOUNT, Support.FULL, "a machine can be mounted, read and unmounted")


def _outcome(trial: Callable[[], Outcome]) -> Outcome:
    """The outcome of a trial, for which there may not even be a process."""
    try:
        return trial()
    except OSError as failure:
        return Outcome(one_line(failure))


def _check_run() -> Iterator[Finding]:
    outcome = _outcome(try_run)
    if outcome.error:
        yield Finding.missing(RUN, outcome.error)
        return
    yield Finding(RUN, Support.FULL, "a command finds a machine in its own /sys, /dev and /proc")
    yield from findings(has_block_device=outcome.has_block_device, warning=outcome.warning)


def _check_lab(without: Support) -> Finding:
    """Whether the programs of the lab are there.  `without`: what it counts as if they are not."""
    packages = missing_packages()
    if packages:
        meaning = "`nvdimmfs lab` lacks programs; only needed to ask real kernels"
        return Finding(LAB, without, meaning, f"apt-get install {' '.join(packages)}")
    speed = (
        "at the speed of this processor" if "kvm" in accelerators() else "in software, as there is no usable /dev/kvm"
    )
    return Finding(LAB, Support.FULL, f"real kernels can be asked, {speed}")


def _check_build() -> Finding:
    """Whether the programs are there that build modules; what they need besides depends on the kernel."""
    packages = missing_packages(BUILD_PACKAGES)
    if packages:
        meaning = f"`nvdimmfs lab build-nfit-test` lacks programs; only needed to ask real kernels about {NFIT_TEST}"
        return Finding(NFIT_TEST, Support.LIMITED, meaning, f"apt-get install {' '.join(packages)}")
    return Finding(NFIT_TEST, Support.FULL, "the modules of this machine can be built for real kernels")


def _line(finding: Finding) -> str:
    """The finding, and on a line of its own, which is not broken so that it can be copied, what would improve it."""
    first = f"{_MARKS[finding.support]}  {finding.feature:<14}"
    indent = " " * len(first)
    text = textwrap.fill(
        finding.meaning, _WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )
    return f"{text}\n{indent}to improve it: {finding.remedy}" if finding.remedy else text


def _as_json(finding: Finding) -> dict[str, str]:
    return {
        "feature": finding.feature,
        "support": finding.support.value,
        "meaning": finding.meaning,
        "remedy": finding.remedy,
    }
