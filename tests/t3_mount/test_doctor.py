"""`nvdimmfs doctor` on this host; tests/t3_mount/test_containers.py takes it to others."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import sandboxes
from mounting import MACHINE, cli, command, environment, in_private_namespace
from watchdog import WATCHDOG

from nvdimmfs.cli import main, trial
from nvdimmfs.fuse import requirements
from nvdimmfs.fuse.requirements import refusal
from nvdimmfs.sandbox import namespaces
from nvdimmfs.sandbox.errors import SandboxError


@pytest.fixture
def sandbox(fuse):
    """Skips where no sandbox can be built."""
    reason = sandboxes.why_not()
    if reason:
        pytest.skip(reason)


def test_the_doctor_finds_that_all_works(sandbox):
    done = cli("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ok  mount" in done.stdout
    assert "ok  run" in done.stdout


def test_only_what_was_asked_for_is_tried(fuse):
    done = cli("doctor", "--for", "mount", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    findings = json.loads(done.stdout)
    assert [finding["feature"] for finding in findings] == ["FUSE library", "mount"]
    assert {finding["support"] for finding in findings} == {"yes"}


def limited(script: str) -> str:
    """A command in a user namespace, with settings of its own, that has no capabilities there."""
    if not sandboxes.is_root() or not shutil.which("setpriv") or command("unshare", "-Ur", "true").returncode:
        pytest.skip("needs root, user namespaces and setpriv")
    program = " ".join(MACHINE)
    without = f"setpriv --bounding-set -all --inh-caps -all {program}"
    done = command("unshare", "-Ur", "sh", "-c", script.format(nvdimmfs=program, without=without))
    return done.stdout + done.stderr


def test_the_limit_of_user_namespaces_is_named(sandbox):
    text = limited("echo 0 > /proc/sys/user/max_user_namespaces; {without} doctor --for run; {without} run -- true")
    remedy = "run `sysctl -w user.max_user_namespaces=100000` as root"
    assert "NO  run           cannot create a user namespace: user.max_user_namespaces permits only 0\n" in text
    assert f"to improve it: {remedy}\n" in text
    assert text.endswith(f"permits only 0; {remedy}\n")


def test_mounting_alone_needs_no_user_namespace(fuse):
    done = command(
        "unshare",
        "-Ur",
        "-m",
        "sh",
        "-c",
        'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"',
        "-",
        *MACHINE,
        "doctor",
        "--for",
        "mount",
    )
    if "unshare failed" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_temporary_folder_that_is_missing(monkeypatch, tmp_path):
    """Where no other can take its place."""
    monkeypatch.setattr(trial.tempfile, "tempdir", str(tmp_path / "missing"))
    error = trial.try_mount().error
    assert error.startswith(f"cannot make a temporary directory: {tmp_path}/missing/nvdimmfs-doctor-")
    assert error.endswith(": No such file or directory; set TMPDIR to a folder that you can write to")


@pytest.fixture
def impatient(monkeypatch, tmp_path):
    """Trials that give up at once, in a folder of their own."""
    monkeypatch.setattr(trial, "TIMEOUT", 0.0)
    monkeypatch.setattr(trial.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_mount_that_hangs_is_killed(fuse, impatient, monkeypatch):
    monkeypatch.setattr(trial, "_serve", lambda *_: signal.pause())
    assert trial.try_mount().error == "the mount did not answer within 0 s"
    assert list(impatient.iterdir()) == []


def test_a_sandbox_that_hangs_is_killed(impatient, monkeypatch):
    monkeypatch.setattr(main, "main", lambda _: signal.pause())
    assert trial.try_run().error == "a command in a sandbox did not end within 0 s"


def test_a_trial_that_takes_long_may_go_on_while_it_works(monkeypatch):
    """As on an emulated processor."""
    goes_on, go_on = os.pipe()
    amounts = iter([0.5, 1.0, 1.5])

    def used(_session: int) -> float:
        amount = next(amounts)
        if amount == 1.5:
            os.write(go_on, b"+")
            monkeypatch.setattr(trial, "TIMEOUT", WATCHDOG)
        return amount

    def work(_arguments: list[str]) -> int:
        os.read(goes_on, 1)
        raise ValueError("done")

    monkeypatch.setattr(trial, "TIMEOUT", 0.0)
    monkeypatch.setattr(trial, "processor_time", used)
    monkeypatch.setattr(main, "main", work)
    assert trial.try_run().error.startswith("a bug in nvdimmfs: ValueError: done")
    os.close(goes_on)
    os.close(go_on)


def test_the_processor_time_of_a_session_includes_children_that_have_ended():
    """The shell starts children until they have used a tick (cutime, proc(5))."""
    busy = "i=0; while test $i -lt 20000; do i=$((i + 1)); done"
    script = f"while test $(cut -d ' ' -f 16 /proc/$$/stat) = 0; do sh -c '{busy}'; done; echo; read end"
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        child.stdout.readline()
        assert trial.processor_time(child.pid) > 0
        child.communicate()
    assert trial.processor_time(child.pid) == 0


def test_an_unexpected_exception_is_reported(monkeypatch):
    def fail(_arguments):
        raise ValueError("unforeseen")

    monkeypatch.setattr(main, "main", fail)
    assert "a bug in nvdimmfs: ValueError: unforeseen" in trial.try_run().error


def test_a_process_that_is_killed_is_reported(monkeypatch):
    monkeypatch.setattr(main, "main", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    assert trial.try_run().error == "its process was killed by SIGKILL"


def test_a_process_that_gives_no_reason_is_reported(monkeypatch):
    monkeypatch.setattr(main, "main", lambda _: 3)
    assert trial.try_run().error == "its process ended with status 3"


@pytest.mark.parametrize("command", ["mount", "run"])
def test_a_limit_of_processes_is_reported(fuse, command, monkeypatch, capsys):
    def fork():
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    assert main.main(["doctor", "--for", command]) == 1
    text = capsys.readouterr().out
    assert f"NO  {command:<13} Resource temporarily unavailable\n" in text
    assert "to improve it: `ulimit -u` shows the limit of processes" in text


@pytest.mark.parametrize(
    ("number", "settings", "words"),
    [
        (errno.EPERM, {"kernel/unprivileged_userns_clone": "0"}, "run `sysctl -w kernel.unprivileged_userns_clone=1`"),
        (
            errno.EPERM,
            {"kernel/apparmor_restrict_unprivileged_userns": "1"},
            "run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` as root",
        ),
        (errno.ENOSPC, {"user/max_user_namespaces": "7"}, "user.max_user_namespaces permits only 7; run `sysctl -w "),
    ],
)
def test_the_setting_that_forbids_a_user_namespace_is_named(number, settings, words, monkeypatch):
    def refuse(_flags):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(namespaces.libc, "unshare", refuse)
    monkeypatch.setattr(namespaces, "is_privileged", lambda: False)
    monkeypatch.setattr(namespaces.host, "setting", lambda path: settings.get(path.removeprefix("/proc/sys/"), ""))
    with pytest.raises(SandboxError, match=re.escape(words)):
        namespaces.enter(private_network=True)


def test_a_chroot_whose_root_is_no_mount_point_is_named(tmp_path):
    done = in_private_namespace(
        "mount --make-rprivate /",
        f"cd {tmp_path}; mkdir root",
        "for each in /*; do",
        '    if [ -L "$each" ]; then cp -P "$each" root; continue; fi',
        '    if [ -d "$each" ]; then mkdir "root$each"; mount --rbind "$each" "root$each"; fi',
        "done",
        f"chroot root {shlex.join(MACHINE)} run -- true || echo $?",
    )
    assert done.stdout == "1\n"
    assert done.stderr == (
        "nvdimmfs: / is not a mount point, as in a chroot; before `chroot DIR`, make it one: `mount --bind DIR DIR`\n"
    )


def test_it_finds_that_it_is_in_a_sandbox(sandbox):
    done = sandboxes.run(*MACHINE, "doctor", "--for", "run")
    assert done.returncode == 1
    assert "NO  run           this is already inside a sandbox" in done.stdout


def test_another_content_is_reported(monkeypatch):
    monkeypatch.setattr(main, "main", lambda _: 0)
    assert trial.try_run().error == "/sys/bus/nd/drivers_autoprobe has the content '' in a sandbox instead of '1\\n'"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "fusermount3: mount failed: No space left on device",
            "there are too many mounts; run `sysctl -w fs.mount-max=",
        ),
        ("fusermount3: mount failed: Permission denied", "Permission denied; mount on a directory of yours"),
        (
            "fusermount3: too many FUSE filesystems mounted; mount_max=N can be set in /etc/fuse.conf",
            "unmount some, or set a higher mount_max in /etc/fuse.conf",
        ),
        (
            "fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf",
            "; add the line `user_allow_other` to /etc/fuse.conf",
        ),
        ("fusermount3: user has no write access to mountpoint /m", "; mount on a directory of yours"),
        ("fuse: unheard of", "cannot mount on /m: unheard of"),
        ("", "cannot mount on /m: the FUSE library gives no reason"),
    ],
)
def test_messages_of_the_helper_are_explained(message, words):
    assert words in str(refusal(Path("/m"), message.splitlines()))


def test_confinement_is_named_with_its_remedy(monkeypatch):
    for may in ("may_gain_capability", "has_capability"):
        monkeypatch.setattr(requirements.host, may, lambda _: True)
    monkeypatch.setattr(requirements.host, "is_filtered", lambda: False)
    monkeypatch.setattr(requirements.host, "has_all_users", lambda: True)
    monkeypatch.setattr(requirements.host, "confinement", lambda: "selinux")
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 0)
    text = str(refusal(Path("/m"), ["fuse: mount failed: Operation not permitted"]))
    assert text.endswith("not permitted; start the container with `--security-opt label=disable`")


def test_root_who_may_mount_is_not_told_to_add_the_capability(monkeypatch):
    """Where another security module forbids it."""
    if not sandboxes.is_root():
        pytest.skip("needs root")
    monkeypatch.setattr(requirements.host, "confinement", lambda: "apparmor")
    text = str(refusal(Path("/m"), ["fusermount3: mount failed: Permission denied"]))
    assert text.endswith("apparmor forbids it; start the container with `--security-opt apparmor=unconfined`")


def test_environment_of_the_tests_is_not_what_makes_it_work(fuse, tmp_path):
    """The doctor calls this program's code, not another installation that is found by name."""
    done = command(*MACHINE, "doctor", "--for", "mount", env=environment() | {"PATH": "/usr/bin:/bin"}, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
