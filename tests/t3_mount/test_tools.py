"""Real tools in a sandbox: what ndctl, daxctl, mkfs and others answer and do on a machine."""

import sys
from pathlib import Path

import machines
import mounting
import pytest
import sandboxes
from recording import load_header
from sandboxes import run

pytestmark = pytest.mark.usefixtures("sandbox")

RECORDINGS = Path(__file__).parent.parent / "recordings"
REPLAY = mounting.ROOT / "tests" / "replay.py"


# Recorded with the tools themselves


@pytest.mark.parametrize(
    "story",
    [story for story in sorted(RECORDINGS.rglob("*.recording")) if load_header(story).programs],
    ids=lambda story: f"{story.parent.name}-{story.stem}",
)
def test_tools_answer_as_they_do_on_a_real_kernel(story):
    header = load_header(story)
    for tool, version in header.programs.items():
        if sandboxes.version(tool) != version:
            pytest.skip(f"{tool} {version} is not installed")
    done = run(sys.executable, REPLAY, "/sys", story, options=tuple(machines.options(header.machine)))
    assert done.returncode == 0, done.stdout[:5000] + done.stderr
    assert done.stderr == ""
    assert done.stdout.endswith("agree\n")
