"""`nvdimmfs doctor`: what this host supports, and how to improve it."""

from __future__ import annotations

import argparse
import importlib
import textwrap

from nvdimmfs.cli.errors import FAILED
from nvdimmfs.fuse.requirements import MountError, require_fuse
from nvdimmfs.sandbox.host_support import Finding, Support, findings

_MARKS = {Support.FULL: "ok", Support.LIMITED: "--", Support.MISSING: "NO"}
_WIDTH = 100


def configure(_parser: argparse.ArgumentParser) -> None:
    """Declare no arguments."""


def run(_arguments: argparse.Namespace) -> int:
    """Print one finding per line."""
    missing = False
    for finding in (_check_library(), _check_fuse(), *findings()):
        print(_line(finding))
        missing = missing or finding.support is Support.MISSING
    return FAILED if missing else 0


def _check_library() -> Finding:
    try:
        importlib.import_module("nvdimmfs.fuse.mount")
    except ImportError as failure:
        return Finding("FUSE library", Support.MISSING, str(failure), "scripts/setup installs it")
    return Finding("FUSE library", Support.FULL, "pyfuse3 can be loaded")


def _check_fuse() -> Finding:
    try:
        require_fuse()
    except MountError as failure:
        return Finding.missing("/dev/fuse", str(failure))
    return Finding("/dev/fuse", Support.FULL, "file systems can be mounted")


def _line(finding: Finding) -> str:
    text = finding.meaning + (f"; to improve it: {finding.remedy}" if finding.remedy else "")
    first = f"{_MARKS[finding.support]}  {finding.feature:<14}"
    return textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
