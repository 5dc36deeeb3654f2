"""`nvdimmfs run`: a system call whose caller's memory or file never answers keeps nobody else waiting."""

import signal
import subprocess
import sys

import pytest
import stuck_caller
from mounting import ROOT
from sandboxes import needs_root, start, tagged, wait_for_end_of
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
        wait_for_end_of(tag)


@needs_root  # to unmount
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("call", stuck_caller.CALLS, ids=lambda call: call.__name__)
def test_run_ends_although_a_file_system_outside_never_answers(call, number, tag, tmp_path):
    """A thread that writes to a page which is being written back cannot even be killed."""
    program = (sys.executable, ROOT / "tests" / "support" / "stuck_files.py", tmp_path, stuck_caller.CALLS[call])
    with subprocess.Popen(program, env=tagged(tag), stdout=subprocess.PIPE, text=True) as files:
        scene = (*SCENE, call.__name__, tmp_path / "file")
        process = None
        try:
            assert files.stdout.readline() == "mounted\n"
            process = start(*scene, options=DIMMS, env=tagged(tag), stdin=-1, stderr=-1)
            assert process.stdout.readline() == "opened\n", process.stderr.read()
            if call is stuck_caller.file_of_a_dead_file_system:
                files.send_signal(signal.SIGSTOP)
                _send_line(process)
            else:
                _send_line(process)
                assert files.stdout.readline() == "asked\n"
            _send_line(process)
            assert process.stdout.readline() == "others are answered\n", process.stderr.read()
            process.send_signal(number)
            assert process.wait(timeout=WATCHDOG) == -number
        finally:
            files.kill()
            if process:
                process.kill()
                process.communicate()
            subprocess.run(["umount", "-l", tmp_path], check=False)
    wait_for_end_of(tag)


def _send_line(process: subprocess.Popen[str]) -> None:
    process.stdin.write("\n")
    process.stdin.flush()
