"""`nvdimmfs run`: a system call whose caller's memory or file never answers keeps nobody else waiting."""

import signal
import sys

import pytest
import stuck_caller
from mounting import ROOT
from sandboxes import start, tagged
from watchdog import WATCHDOG

pytestmark = pytest.mark.usefixtures("sandbox")

SCENE = (sys.executable, ROOT / "tests" / "support" / "stuck_scene.py")
DIMMS = ("--machine", "two-socket-6way")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("call", stuck_caller.CALLS, ids=lambda call: call.__name__)
def test_others_are_answered_and_the_sandbox_ends(call, number, tag):
    process = start(*SCENE, call.__name__, options=DIMMS, env=tagged(tag), stderr=-1)
    try:
        assert process.stdout.readline() == "others are answered\n", process.stderr.read()
        process.send_signal(number)
        output, errors = process.communicate(timeout=WATCHDOG)
        assert (process.returncode, output, errors) == (-number, "", "")
    finally:
        process.kill()
        process.communicate()
