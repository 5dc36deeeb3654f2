"""`nvdimmfs doctor`: what this host allows, and what would help."""

from __future__ import annotations

import argparse
import importlib
import textwrap

from nvdimmfs.cli.errors import FAILED
from nvdimmfs.fuse.requirements import MountError, require_fuse
from nvdimmfs.sandbox.host import Finding, State, findings

_MARKS = {State.GOOD: "ok", State.LIMITED: "--", State.MISSING: "NO"}
_WIDTH = 100


def configure(_parser: argparse.ArgumentParser) -> None:
    """Declare no arguments."""


def run(_arguments: argparse.Namespace) -> int:
    """Say it, a thing a line."""
    missing = False
    for finding in (_library(), _fuse(), *findings()):
        print(_line(finding))
        missing = missing or finding.state is State.MISSING
    return FAILED if missing else 0


def _library() -> Finding:
    try:
        importlib.import_module("nvdimmfs.fuse.mount")
    except ImportError as failure:
        return Finding("FUSE library", State.MISSING, str(failure), "scripts/setup installs it")
    return Finding("FUSE library", State.GOOD, "pyfuse3 can be loaded")


def _fuse() -> Finding:
    try:
        require_fuse()
    except MountError as failure:
        return Finding.missing("/dev/fuse", str(failure))
    return Finding("/dev/fuse", State.GOOD, "file systems can be mounted")


def _line(finding: Finding) -> str:
    words = finding.words + (f"; to improve it: {finding.remedy}" if finding.remedy else "")
    first = f"{_MARKS[finding.state]}  {finding.what:<14}"
    return textwrap.fill(words, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
