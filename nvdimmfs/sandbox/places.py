"""Where a sandbox has what it needs for itself."""

from __future__ import annotations

from pathlib import Path

#: Inside the sandbox: the machine's mount, and the terminals that stand for its character devices.
RUN_DIRECTORY = Path("/run/nvdimmfs")
MACHINE = RUN_DIRECTORY / "machine"
TERMINALS = RUN_DIRECTORY / "nodes"
