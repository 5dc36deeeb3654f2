"""System calls of careless and hostile callers in a sandbox: the kernel's answers, and no crash."""

import json
import platform
import sys
from pathlib import Path

import machines
import mounting
import pytest
from sandboxes import run

pytestmark = pytest.mark.usefixtures("sandbox")

RECORDINGS = Path(__file__).parent.parent / "recordings" / "calls"
ASK = mounting.ROOT / "tests" / "guest" / "ask_calls.py"
MAP = mounting.ROOT / "tests" / "guest" / "ask_mappings.py"
STORM = mounting.ROOT / "tests" / "guest" / "storm.py"

NFIT = ("--machine", "qemu-nfit")


def python(*arguments, options=NFIT):
    """Run a Python program in a sandbox; it must succeed, and neither it nor the sandbox may print to stderr."""
    done = run(sys.executable, *arguments, options=options)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def host():
    """The state of the host that a wrongly forwarded call would change."""
    modules = Path("/proc/modules")
    return modules.read_text() if modules.exists() else "", sorted(Path("/sys/module").iterdir())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="uses the system call numbers of x86-64")
@pytest.mark.parametrize("topic", ["modules", "ioctls"])
def test_calls_get_the_kernels_answers(topic):
    first, *kernel = map(json.loads, (RECORDINGS / f"{topic}.jsonl").read_text().splitlines())
    before = host()
    here = [json.loads(line) for line in python(ASK, topic, options=machines.options(first["machine"])).splitlines()]
    assert [question for question, _ in here] == [question for question, _ in kernel]
    assert [pair for pair in zip(kernel, here, strict=True) if pair[0] != pair[1]] == []
    assert host() == before


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere no MAP_SYNC, and a file after mmap(2)")
def test_mappings_of_dax_devices_get_the_kernels_answers():
    first, *kernel = map(json.loads, (RECORDINGS / "mappings.jsonl").read_text().splitlines())
    here = [json.loads(line) for line in python(MAP, options=machines.options(first["machine"])).splitlines()]
    assert [question for question, _ in here] == [question for question, _ in kernel]
    assert [pair for pair in zip(kernel, here, strict=True) if pair[0] != pair[1]] == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="uses the system call numbers of x86-64")
@pytest.mark.parametrize("kind", ["crowd", "killed", "interrupted", "closing", "protecting", "modules"])
def test_a_storm_of_calls_is_survived(kind):
    before = host()
    assert python(STORM, kind) == "done\n"
    assert host() == before
