"""The fixture and the test of docs/how-to/testing.md work as they stand there."""

import os
import re
import sys

import mounting
import pytest

pytestmark = pytest.mark.usefixtures("fuse")


def test_what_is_documented_for_pytest_works(tmp_path):
    text = (mounting.ROOT / "docs" / "how-to" / "testing.md").read_text()
    fixture, test = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "conftest.py").write_text(fixture)
    (tmp_path / "test_machine.py").write_text(test)
    commands = tmp_path / "bin"
    commands.mkdir()
    command = commands / "nvdimmfs"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nvdimmfs "$@"\n')
    command.chmod(0o755)
    environment = mounting.environment()
    environment |= {"PATH": os.pathsep.join((str(commands), environment["PATH"]))}
    options = ("-p", "no:cacheprovider", "-q", "--rootdir", tmp_path, "--basetemp", tmp_path / "temporary")
    done = mounting.command(sys.executable, "-m", "pytest", *options, tmp_path, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
