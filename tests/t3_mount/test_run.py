"""`nvdimmfs run`: how a command starts and ends, and machines that are already mounted."""

import os
import re
import signal
import subprocess
import sys
import textwrap

import mounting
import pytest
from sandboxes import (
    TWO_RANGES,
    needs_root,
    processes_of,
    processes_with,
    run,
    sh,
    start,
    tagged,
    wait_for_end_of,
    wait_until,
)
from watchdog import WATCHDOG

pytestmark = pytest.mark.usefixtures("sandbox")


@pytest.mark.parametrize(("script", "status"), [("true", 0), ("exit 3", 3), ("exit 255", 255)])
def test_the_exit_status_is_that_of_the_command(script, status):
    done = run("sh", "-c", script, options=TWO_RANGES)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_run_exits_by_the_signal_that_ended_the_command(number):
    assert run("sh", "-c", f"kill -{int(number)} $$").returncode == -number


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ("no-such-command", 127, "no-such-command: No such file or directory"),
        ("ls /dev", 127, "'ls /dev': No such file or directory; a shell runs a line: sh -c 'ls /dev'"),
        ("/etc/passwd", 126, "/etc/passwd: Permission denied"),
    ],
)
def test_a_command_that_cannot_be_run(command, status, words):
    done = run(command)
    assert (done.returncode, done.stderr) == (status, f"nvdimmfs: cannot run {words}\n")


@pytest.mark.parametrize(("closing", "numbers"), [("<&-", "0"), (">&-", "1"), ("2>&-", "2"), ("<&- >&- 2>&-", "012")])
def test_a_closed_standard_file_is_closed_for_the_command(closing, numbers, tmp_path):
    look = f"for n in 0 1 2; do [ -e /proc/self/fd/$n ] || printf $n >> {tmp_path}/closed; done; exit 3"
    done = mounting.command("sh", "-c", f"{' '.join(mounting.MACHINE)} run -- sh -c '{look}' {closing}")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    assert (tmp_path / "closed").read_text() == numbers


@pytest.mark.parametrize("mask", ["022", "077"])
def test_the_umask_is_that_of_the_caller_and_the_machine_does_not_depend_on_it(mask, tmp_path):
    places = "/sys/bus /sys/devices/system/node/node0/cpulist /run/udev /run/nvdimmfs /lib/modules/*/modules.dep"
    script = f"umask; stat -L -c %a {places} | sort -u"
    done = mounting.command(
        "sh", "-c", f"umask {mask}; exec {' '.join(mounting.MACHINE)} run --media {tmp_path}/media -- sh -c '{script}'"
    )
    assert (done.stdout, done.stderr) == (f"0{mask}\n444\n644\n755\n", "")
    assert (tmp_path / "media").stat().st_mode & int(mask, 8) == 0


@pytest.mark.parametrize("given", [{}, {"LANG": "C"}, {"LC_ALL": "C"}, {"LC_CTYPE": "C.UTF-8"}])
def test_the_locale_is_that_of_the_caller(given):
    """Python sets LC_CTYPE in its environment where the locale is C (PEP 538)."""
    plain = {name: value for name, value in mounting.environment().items() if not name.startswith(("LC_", "LANG"))}
    done = mounting.command(*mounting.MACHINE, "run", "--", "env", env=plain | given)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith(("LC_", "LANG")))
    assert (done.returncode, found) == (0, given)


def test_an_empty_command_name():
    assert mounting.refusal(run(""), status=127) == "cannot run a command whose name is empty"


@pytest.mark.parametrize("words", [(), ("--",), ("--memmap", "64M!4G"), ("--memmap", "64M!4G", "--")])
def test_no_command(words):
    done = mounting.command(*mounting.MACHINE, "run", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("nvdimmfs: run: no command given;")


def test_the_dashes_are_optional():
    done = mounting.command(*mounting.MACHINE, "run", "--memmap", "64M!4G", "echo", "--machine", "--", "-n")
    assert (done.returncode, done.stdout) == (0, "--machine -- -n\n")


def test_input_arguments_folder_and_environment_pass_through(tmp_path):
    done = run(
        "sh",
        "-c",
        'cat; pwd; echo "$WORD" "$1"',
        "sh",
        "a b",
        cwd=tmp_path,
        input="from outside\n",
        env=mounting.environment() | {"WORD": "word"},
    )
    assert done.stdout == f"from outside\n{tmp_path}\nword a b\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_signals_are_forwarded(number, tag):
    script = f"trap 'echo caught; exit 7' {int(number)}; echo ready; while :; do sleep 0.05; done"
    process = start("sh", "-c", script, env=tagged(tag))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=WATCHDOG)[0] == "caught\n"
    assert process.returncode == 7


def test_nothing_outlives_the_command(tag):
    run("sh", "-c", "setsid sleep 1000 & nohup sleep 1001 >/dev/null 2>&1 & exit 0", env=tagged(tag))
    assert processes_with(tag) == []


def test_nothing_outlives_the_supervisor(tag):
    process = start("sh", "-c", "echo ready; exec sleep 1000", env=tagged(tag))
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.communicate()
    wait_for_end_of(tag)


@pytest.mark.parametrize("child", ["supervisor", "server", "init"])
def test_nothing_outlives_a_process_that_is_killed_right_after_a_fork(child, tag):
    """It is killed before the new process has asked the kernel for its parent-death signal."""
    script = f"""
        import fcntl, os, select, signal
        from nvdimmfs.cli.main import main
        from nvdimmfs.sandbox import libc
        die_with_parent = libc.die_with_parent
        bell, rope = os.pipe()
        fcntl.fcntl(bell, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(bell, fcntl.F_SETFL, os.O_ASYNC)
        fcntl.fcntl(bell, fcntl.F_SETOWN, os.getpid())
        children = {{signal.SIGTERM: ["server", "server in the sandbox"], signal.SIGKILL: ["supervisor", "init"]}}
        def ask_late(number, parent):
            child = children[number].pop(0)
            if child == "{child}":
                os.write(rope, b"x")
                select.select([parent], [], [])
            elif child == "supervisor":
                fcntl.fcntl(bell, fcntl.F_SETOWN, os.getpid())
            die_with_parent(number, parent)
        libc.die_with_parent = ask_late
        main(["run", "--", "sleep", "1000"])
    """
    program = (sys.executable, "-c", textwrap.dedent(script))
    done = mounting.command(*program, env=tagged(tag), capture_output=False)  # only wait for its end
    assert done.returncode == -signal.SIGKILL
    wait_for_end_of(tag)


def test_run_ends_when_the_server_is_killed(tag):
    process = start("sh", "-c", "echo ready; exec sleep 1000", env=tagged(tag), stderr=-1)
    assert process.stdout.readline() == "ready\n"
    os.kill(processes_of(process)["server"], signal.SIGKILL)
    _, errors = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 1
    assert errors.startswith("nvdimmfs: cannot read the machine's events: ")


def test_a_machine_that_cannot_be_built_is_reported():
    done = run("true", options=("--media", "/proc/nowhere"))
    assert done.returncode == 1
    assert re.fullmatch(r"nvdimmfs: .*/proc/nowhere.*\n", done.stderr)


@needs_root
def test_a_machine_whose_process_cannot_join_the_sandbox_is_started_in_it():
    """setns(2) with a mount namespace requires CAP_SYS_CHROOT, unshare(2) does not."""
    without = ("setpriv", "--bounding-set=-sys_chroot", "--inh-caps=-sys_chroot")
    done = mounting.command(*without, *mounting.MACHINE, "run", "--", "cat", "/sys/bus/nd/devices/region0/size")
    assert (done.returncode, done.stdout, done.stderr) == (0, "536870912\n", "")


def test_a_sandbox_in_a_sandbox_is_refused():
    done = run(*mounting.MACHINE, "run", "--", "true")
    assert (done.returncode, done.stderr) == (
        1,
        "nvdimmfs: this is already inside a sandbox: run the command itself, without nvdimmfs run\n",
    )


# A machine that is already mounted


def test_an_attached_command_changes_the_mounted_machine(new_mount):
    mount = new_mount(mounting.MACHINE, *TWO_RANGES)
    sh("echo namespace0.0 > /sys/bus/nd/drivers/nd_pmem/unbind; not test -e /dev/pmem0", "--attach", mount.directory)
    assert not (mount.directory / "sys/bus/nd/devices/namespace0.0/driver").exists()
    (mount.directory / "sys/bus/nd/drivers/nd_pmem/bind").write_text("namespace0.0")
    assert (
        sh("test -e /dev/pmem0; cat /sys/class/nd/ndctl0/device/provider", "--attach", mount.directory).stdout
        == "e820\n"
    )


def test_a_stopped_sandbox_holds_no_store_for_ever_and_is_waited_for_again(new_mount, tag):
    mount = new_mount(mounting.MACHINE, *TWO_RANGES)
    mount.may_log_warnings = True
    options = ("--attach", mount.directory)
    script = "echo started; while read word; do test -e /dev/pmem0 && echo there || echo gone; done"
    process = start("sh", "-c", script, options=options, env=tagged(tag), stdin=subprocess.PIPE)

    def seen():
        process.stdin.write("look\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    assert process.stdout.readline() == "started\n"
    assert seen() == "there"
    supervisor = processes_of(process)["supervisor"]
    os.kill(supervisor, signal.SIGSTOP)
    assert mount.sh("echo namespace0.0 > sys/bus/nd/drivers/nd_pmem/unbind").returncode == 0
    os.kill(supervisor, signal.SIGCONT)
    wait_until(lambda: "acts again" in mount.log.read_text())
    for driver, expected in [("bind", "there"), ("unbind", "gone")] * 3:
        assert mount.sh(f"echo namespace0.0 > sys/bus/nd/drivers/nd_pmem/{driver}").returncode == 0
        assert seen() == expected
    process.communicate()
    assert process.returncode == 0


def test_attaching_to_a_directory_without_a_machine_is_refused(tmp_path):
    done = run("true", options=("--attach", tmp_path))
    assert done.returncode == 1
    assert done.stderr == f"nvdimmfs: {tmp_path} is not a mount of nvdimmfs\n"
    done = run("true", options=("--attach", tmp_path / "missing"))
    assert mounting.refusal(done) == f"{tmp_path}/missing does not exist"


@pytest.mark.parametrize(("number", "words"), [(signal.SIGSTOP, "does not answer"), (signal.SIGKILL, "was killed")])
def test_attaching_to_a_stopped_or_killed_daemon_is_refused(new_mount, number, words):
    mount = new_mount(mounting.MACHINE, *TWO_RANGES)
    mount.kill(number)
    if number == signal.SIGKILL:
        mount.has_ended()
    done = run("true", options=("--attach", mount.directory))
    assert done.returncode == 1
    assert done.stderr.startswith(f"nvdimmfs: the daemon of {mount.directory} {words}")


def test_attach_excludes_the_options_of_a_new_machine(tmp_path):
    done = run("true", options=("--attach", tmp_path, "--memmap", "64M!4G"))
    assert done.returncode == 2
    assert "--memmap" in done.stderr


def test_a_stopped_sandbox_does_not_block_writers_for_ever(new_mount, tag):
    mount = new_mount(mounting.MACHINE, *TWO_RANGES)
    mount.may_log_warnings = True
    process = start("sh", "-c", "echo ready; sleep 1000", options=("--attach", mount.directory), env=tagged(tag))
    assert process.stdout.readline() == "ready\n"
    supervisor = processes_of(process)["supervisor"]
    os.kill(supervisor, signal.SIGSTOP)
    (mount.directory / "sys/bus/nd/drivers/nd_pmem/unbind").write_text("namespace0.0")
    process.kill()
    process.communicate()
    wait_for_end_of(tag)
    assert "has not acted on a change" in mount.log.read_text()
