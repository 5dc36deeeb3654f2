"""The folders of examples/: each names the command that runs it, in the head of one of its files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import mounting

EXAMPLES = mounting.ROOT / "examples"

_COMMAND = re.compile(r"Run (?:it|them) in this folder: (.+)")


def command_of(name: str) -> str:
    """The command that a folder names; there must be one."""
    texts = [path.read_text() for path in sorted((EXAMPLES / name).iterdir())]
    (command,) = [found for text in texts for found in _COMMAND.findall(text)]
    return command


def run_as_it_stands(name: str, folder: Path) -> None:
    """Run the command of an example, in a copy of it, with this checkout's `nvdimmfs` and Python first on PATH."""
    shutil.copytree(EXAMPLES / name, folder / name)
    own = {"PATH": mounting.path_with_nvdimmfs(folder / "commands"), "TMPDIR": str(folder)}
    environment = mounting.warm_environment(mounting.ON_PATH) | own
    done = mounting.command("sh", "-c", command_of(name), cwd=folder / name, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
