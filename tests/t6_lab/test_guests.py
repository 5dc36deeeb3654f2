"""Guests with a real kernel, asked by the command line."""

import datetime
import json
import os
import select
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.kernels import DEFAULT_KERNEL, find_kernel
from nvdimmfs.lab.nfit_test import built_modules


def ask(*words, questions=()):
    """Run `nvdimmfs lab ask`; the process and what it printed."""
    text = "".join(json.dumps(question) + "\n" for question in questions)
    command = [sys.executable, "-m", "nvdimmfs", "lab", "ask", *words, *(["-"] if questions else [])]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def answers(*words, questions):
    done = ask(*words, questions=questions)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["result"] for line in done.stdout.splitlines()]


def test_a_guest_answers_questions():
    size = "bus/nd/devices/region0/size"
    questions = [
        {"op": "read", "path": size},
        {"op": "write", "path": size, "data": "1"},
        {"op": "readlink", "path": "bus/nd/devices/region1"},
        {"op": "pwrite", "dev": "/dev/pmem0", "offset": 4096, "hex": "0102"},
        {"op": "pread", "dev": "/dev/pmem0", "offset": 4095, "length": 4},
        {"op": "run", "argv": ["uname", "-r"]},
        {"op": "dump", "path": "bus/nd/drivers/nd_btt"},
    ]
    read, write, link, wrote, bytes_, run, dump = answers("--machine", "e820", questions=questions)
    assert read == {"data": f"{512 << 20}\n"}
    assert write == {"errno": "EACCES"}
    assert link == {"link": "../../../devices/platform/e820_pmem/ndbus0/region1"}
    assert (wrote, bytes_) == ({"wrote": 2}, {"hex": "00010200"})
    assert run["stdout"].startswith(DEFAULT_KERNEL)
    assert dump == {"errno": "ENOENT"}


def test_each_question_finds_a_machine_that_has_just_booted():
    mode = "bus/nd/devices/pfn0.0/mode"
    questions = [
        {"op": "read", "path": mode},
        {"op": "write", "path": mode, "data": "ram"},
        {"op": "read", "path": mode},
    ]
    for _ in range(2):
        before, _, after = answers("--machine", "e820", questions=questions)
        assert (before, after) == ({"data": "none\n"}, {"data": "ram\n"})


def test_a_guest_ends_as_its_shell_line_does(tmp_path):
    (tmp_path / "script").write_text("#!/bin/sh\necho out; echo err >&2; exit 7\n")
    (tmp_path / "script").chmod(0o755)
    done = ask("--file", str(tmp_path / "script"), "--shell", "/root/script")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_a_guest_whose_kernel_ends_is_reported_in_one_line():
    done = ask("--shell", "echo c > /proc/sysrq-trigger")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "nvdimmfs: the guest's kernel panicked: sysrq triggered crash\n"


def test_a_guest_whose_kernel_waits_for_ever_is_reported_in_one_line():
    """A write to a file system that is frozen waits, and nobody thaws it.  Two minutes of an idle guest are moments."""
    frozen = "modprobe ext4 && mke2fs -F /dev/pmem0 && mount -t ext4 /dev/pmem0 /mnt && fsfreeze --freeze /mnt"
    done = ask("--shell", f"{frozen} && touch /mnt/file")
    assert (done.returncode, done.stdout) == (1, "")
    reason = "hung_task: blocked tasks, after: INFO: task touch:"
    assert done.stderr.startswith(f"nvdimmfs: the guest's kernel panicked: {reason}")
    assert done.stderr.count("\n") == 1


def test_a_question_that_is_none_is_a_mistake():
    done = ask(questions=[{"op": "reed"}])
    known = "read, write, ls, readlink, stat, dump, pread, pwrite, ioctl, hold, kill, mount, umount, uevents, "
    known += "watch, poll, run, sleep, reboot"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"nvdimmfs: -, line 1: there is no question 'reed'; there are {known}\n"


def test_a_guest_ends_with_the_process_that_asks_it():
    command = [sys.executable, "-m", "nvdimmfs", "lab", "ask", "--shell", "while :; do :; done"]
    asking = subprocess.Popen(command)
    with asking:
        children = Path(f"/proc/{asking.pid}/task/{asking.pid}/children")
        while not (guests := [pid for pid in children.read_text().split() if is_qemu(pid)]):
            assert asking.poll() is None
        (guest,) = map(os.pidfd_open, map(int, guests))
        asking.kill()
    select.select([guest], [], [])
    os.close(guest)


def is_qemu(pid):
    try:
        return "qemu" in str(Path(f"/proc/{pid}/exe").readlink())
    except FileNotFoundError:
        return False


def test_a_machine_that_qemu_cannot_give_is_refused_before_anything_is_made():
    done = ask("--machine", "two-socket-6way", "--shell", "true")
    assert done.returncode == 1
    assert done.stderr.startswith("nvdimmfs: QEMU cannot give this machine: bus[0].range[0].dimms: ")


def test_a_recording_is_what_the_emulated_machine_answers(tmp_path):
    """The regions of an NFIT have the numbers of the machine file, and the labels are those of the emulated machine."""
    steps, recording = tmp_path / "steps.jsonl", tmp_path / "story.recording"
    calls = [
        {"op": "dump", "path": "bus/nd/devices/region0/", "depth": 1, "skip": ["/power", "/firmware"]},
        {"op": "read", "path": "bus/nd/devices/region1/available_size"},
        {"op": "write", "path": "bus/nd/devices/namespace1.0/size", "data": "16777216"},
        {"op": "read", "path": "bus/nd/devices/region1/available_size"},
    ]
    steps.write_text("".join(json.dumps(call) + "\n" for call in calls))
    lab = [sys.executable, "-m", "nvdimmfs", "lab"]
    words = ["record", "--runs", "1", "--machine", "qemu-nfit-labelled", str(steps), str(recording)]
    recorded = subprocess.run([*lab, *words], capture_output=True, text=True, check=False)
    assert (recorded.returncode, recorded.stderr) == (0, "")
    assert recorded.stdout == f"{recording}: 4 steps, 0 of them unstable\n"
    replayed = subprocess.run([*lab, "replay", str(recording)], capture_output=True, text=True, check=False)
    assert replayed.returncode == 0, replayed.stdout


def test_a_fresh_walk_over_a_guest_and_over_the_emulated_machine(tmp_path):
    """The walk and its machine are other ones each day; the message of a failure repeats it on any day."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    machine = ("e820", "qemu-nfit-labelled")[today.toordinal() % 2]
    words = ["lab", "fuzz", "--machine", machine, "--moves", "12", "--seed", f"{today:%Y%m%d}"]
    command = [sys.executable, "-m", "nvdimmfs", *words, "--attempts", "0", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"repeat it: nvdimmfs {shlex.join(words)}\n{done.stdout}{done.stderr}"
    assert done.stdout.startswith(f"seed {today:%Y%m%d}: ")
    assert done.stdout.endswith(" all agree\n")


def test_a_guest_has_the_test_platform_once_its_modules_have_been_built():
    try:
        built_modules(find_kernel(DEFAULT_KERNEL), DEFAULT_KERNEL)
    except LabError as reason:
        pytest.skip(str(reason))
    done = ask("--machine", "nfit_test", "--shell", "cd /sys/bus/nd/devices; cat ndbus*/provider region1/mappings")
    assert (done.returncode, done.stdout) == (0, "nfit_test.0\nnfit_test.1\n4\n")
