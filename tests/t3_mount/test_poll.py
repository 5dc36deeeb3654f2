"""poll(2), select(2) and epoll(7) on a mount give the results that a real kernel's sysfs gave."""

import subprocess
import sys
from pathlib import Path

import mounting
import poll_probe
import pytest

from nvdimmfs.lab.watchers import Watchers

RECORDING = Path(__file__).parent.parent / "recordings/poll/e820.answers"
ANSWERS = dict(line.split(": ", 1) for line in RECORDING.read_text().splitlines())


@pytest.fixture
def answers(new_mount):
    mount = new_mount(mounting.MACHINE, "--memmap", "512M!4G,256M!6G", "--ram", "4G")
    words = [sys.executable, poll_probe.__file__, mount.directory / "sys", mount.directory / "dev"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


def test_every_result_is_the_kernels(answers):
    assert answers == ANSWERS


def test_watchers_of_the_lab_find_what_was_removed(new_mount):
    """As in tests/recordings/nfit_test/notices, which the engine is asked."""
    mount = new_mount(mounting.MACHINE, "--memmap", "512M!4G,256M!6G", "--ram", "4G")
    watchers = Watchers(mount.directory / "sys")
    devices = "bus/nd/devices"
    assert watchers.answer({"op": "watch", "path": devices}) == {"errno": "EISDIR"}
    for path in ("region0/size", "btt0.0/size", "btt1.0/size", "btt1.0/size"):
        assert watchers.answer({"op": "watch", "path": f"{devices}/{path}"}) == {"result": 0}
    assert watchers.answer({"op": "poll"}) == {"names": []}
    (mount.directory / "sys/bus/nd/drivers/nd_region/unbind").write_text("region0")
    assert watchers.answer({"op": "poll"}) == {"names": [f"{devices}/btt0.0/size"]}
    assert watchers.answer({"op": "poll"}) == {"names": []}
    watchers.close()
