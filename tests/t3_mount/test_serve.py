"""`nvdimmfs serve`: the same answers as without it, who is served, and what is left when something is killed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import mounting
import pytest
from mounting import QUIET, cli, refusal
from sandboxes import needs, processes_with, tagged, wait_for_end_of, wait_until
from watchdog import WATCHDOG

from nvdimmfs.sandbox import libc
from nvdimmfs.warm.request import Answer
from nvdimmfs.warm.server import _Session

pytestmark = pytest.mark.usefixtures("fuse")

#: Carries out a command line by the server alone.
WARM = (
    sys.executable,
    "-c",
    "import sys; from nvdimmfs.warm.client import carry_out; carry_out(sys.argv[1:]); sys.exit(99)",
)
NOT_SERVED = 99

PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


@contextlib.contextmanager
def runtime_in(folder):
    """The environment of a user with a place for a server of their own, which is stopped in the end."""
    folder.mkdir(mode=0o700)
    environment = mounting.environment() | {"XDG_RUNTIME_DIR": str(folder), "NVDIMMFS_SERVE": "yes"}
    yield environment
    if (folder / "nvdimmfs/socket").is_socket():
        (folder / "nvdimmfs").chmod(0o700)  # a test may have opened it to others, for which no server is trusted
        cli("serve", "--stop", env=environment)
        assert not (folder / "nvdimmfs/socket").exists() or has_no_listener(folder / "nvdimmfs/socket")


@pytest.fixture
def runtime(tmp_path):
    """The environment of a user with a place for a server of their own."""
    with runtime_in(tmp_path / "runtime") as environment:
        yield environment


def has_no_listener(path):
    """Whether a socket is that of a server that was killed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        return connection.connect_ex(str(path)) == errno.ECONNREFUSED


def start_server(environment):
    done = cli("serve", env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def server(runtime):
    """The environment of a user whose server is running."""
    start_server(runtime)
    return runtime


@pytest.fixture(scope="module")
def kept_server(tmp_path_factory):
    """The same, for tests after which the server is as before."""
    with runtime_in(tmp_path_factory.mktemp("kept") / "runtime") as environment:
        start_server(environment)
        yield environment


def warm(*arguments, **options):
    return mounting.command(*WARM, *arguments, **options)


def place(environment):
    return Path(environment["XDG_RUNTIME_DIR"], "nvdimmfs")


def pidfd_of_server(environment):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(place(environment) / "socket"))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return os.pidfd_open(int.from_bytes(credentials[:4], sys.byteorder))


def ends(pidfd):
    ended = libc.has_ended(pidfd, WATCHDOG)
    os.close(pidfd)
    return ended


SAME = [
    (["run", "--", "true"], 0),
    (["run", "--", "sh", "-c", "cat /sys/bus/nd/devices/region0/size; echo to stderr >&2; exit 7"], 7),
    (["run", "--machine", "nfit_test", "--", "ls", "/sys/bus/nd/devices"], 0),
    (["run", "--", "sh", "-c", "kill -TERM $$"], -signal.SIGTERM),
    (["run", "--", "/missing"], 127),
    (["run", "--", "/"], 126),
    (["run"], 2),
    (["run", "--machine", "missing", "--", "true"], 2),
    (["run", "--memmap", "1G!", "--", "true"], 2),
    (["run", "--help"], 0),
    (["mount"], 2),
    (["mount", "/missing"], 1),
    (["mount", "--clock", "wrong", "/"], 2),
]


@pytest.mark.parametrize(("arguments", "status"), SAME, ids=[" ".join(arguments) for arguments, _ in SAME])
def test_the_answers_are_the_same(kept_server, sandbox, arguments, status):
    ours = warm(*arguments, env=kept_server)
    assert ours.returncode == status, ours.stderr
    theirs = cli(*arguments, env=kept_server | {"NVDIMMFS_SERVE": "no"})
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_a_killed_spare_process_is_replaced_and_the_last_one_ends_with_the_server(server):
    running = pidfd_of_server(server)
    own = re.search(r"^Pid:\s*(\d+)$", Path(f"/proc/self/fdinfo/{running}").read_text(), re.MULTILINE)[1]
    children = Path(f"/proc/{own}/task/{own}/children")
    child = 0

    def has_one_child():  # the spare, or the process that has acted for a client, which ends by itself
        nonlocal child
        match children.read_text().split():
            case [only]:
                child = int(only)
                return True
        return False

    def kills_only_child():
        with contextlib.suppress(ProcessLookupError):
            if has_one_child():
                os.kill(child, signal.SIGKILL)
                return True
        return False

    for _ in range(2):
        wait_until(kills_only_child)
        assert warm("mount", "/missing", env=server).returncode == 1
    wait_until(has_one_child)
    assert cli("serve", "--stop", env=server).returncode == 0
    assert ends(running)
    assert not Path(f"/proc/{child}").exists()


def test_processes_forked_for_a_sandbox_end_without_one(runtime, tag, tmp_path):
    """The process of the next client has forked the processes of its sandbox, which a mount does not need."""
    name, _, value = tag.partition("=")
    environment = runtime | {name: value}
    assert cli("serve", env=environment).returncode == 0
    wait_until(lambda: len(processes_with(tag)) > 2)
    folder = tmp_path / "machine"
    folder.mkdir()
    assert warm("mount", folder, *QUIET, env=environment).returncode == 0
    assert cli("serve", "--stop", env=environment).returncode == 0
    wait_until(lambda: len(processes_with(tag)) == 1)
    assert cli("umount", folder).returncode == 0
    wait_until(lambda: not processes_with(tag))


def test_processes_forked_for_a_sandbox_end_with_a_killed_server(runtime, tag):
    name, _, value = tag.partition("=")
    environment = runtime | {name: value}
    assert cli("serve", env=environment).returncode == 0
    wait_until(lambda: len(processes_with(tag)) > 2)
    running = pidfd_of_server(environment)
    signal.pidfd_send_signal(running, signal.SIGKILL)
    assert ends(running)
    wait_until(lambda: not processes_with(tag))


def test_a_mount_outlives_the_server(server, tmp_path):
    folder = tmp_path / "machine"
    folder.mkdir()
    done = warm("mount", folder, *QUIET, env=server)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    killed = pidfd_of_server(server)
    signal.pidfd_send_signal(killed, signal.SIGKILL)
    assert ends(killed)
    assert (folder / "sys/bus/nd/devices/region0/size").read_text() == "536870912\n"
    assert cli("umount", folder).returncode == 0


def test_the_command_has_what_the_caller_has(kept_server, sandbox, tmp_path):
    """Directory, environment, umask, ignored signals, standard input, and no other file."""
    script = "pwd; echo $WORD; umask; grep SigIgn /proc/self/status; cat; ls /proc/self/fd | wc -l; id -G"
    outer = f"umask 027; trap '' USR2; exec \"$@\" run -- sh -c '{script}'"
    environment = kept_server | {"WORD": "caf\u00e9 \udcff"}
    answers = [
        mounting.command(
            "sh", "-c", outer, "sh", *program, env=environment, cwd=tmp_path, input="typed\n", errors="surrogateescape"
        )
        for program in (WARM, ("env", "NVDIMMFS_SERVE=no", *mounting.MACHINE))
    ]
    assert answers[0].returncode == 0, answers[0].stderr
    assert answers[0].stdout.splitlines()[:3] == [str(tmp_path), "caf\u00e9 \udcff", "0027"]
    assert answers[0].stdout == answers[1].stdout


def test_a_command_has_a_network_of_its_own_unless_it_wants_the_hosts(kept_server, sandbox):
    """The process that waits for a client may have created one before it knows what the client wants."""
    script = "readlink /proc/self/ns/net; grep -c 127.0.0.1 /proc/net/fib_trie"
    answers = [warm("run", *net, "--", "sh", "-c", script, env=kept_server) for net in ((), (), ("--net", "host"))]
    assert [(answer.returncode, answer.stderr) for answer in answers] == [(0, "")] * 3
    networks, addresses = zip(*(answer.stdout.split() for answer in answers), strict=True)
    host = str(Path("/proc/self/ns/net").readlink())
    assert [network == host for network in networks] == [False, False, True]
    assert "0" not in addresses[:2]  # the loopback interface is up


def test_a_command_that_reads_no_input_leaves_it_to_the_caller(kept_server, sandbox):
    done = mounting.command("sh", "-c", '"$@" run -- true; cat', "sh", *WARM, env=kept_server, input="left\n")
    assert done.stdout == "left\n"


@pytest.mark.parametrize("served", ["no", "yes"])
def test_a_machine_file_can_be_an_open_file_of_the_caller(kept_server, sandbox, served):
    script = """exec "$@" run --machine <(echo 'memmap = "512M!4G"') -- cat /sys/bus/nd/devices/region0/size"""
    environment = kept_server | {"NVDIMMFS_SERVE": served}
    done = mounting.command("bash", "-c", script, "bash", *mounting.MACHINE, env=environment)
    assert (done.returncode, done.stdout) == (0, "536870912\n"), done.stderr


DIFFERENT = {
    "limits": "ulimit -n 512; exec",
    "priority": "exec nice -n 5",
    "mount namespace": "exec unshare -m",
    "network namespace": "exec unshare -n",
    "no new privileges": "exec setpriv --no-new-privs",
    "groups": "exec setpriv --groups 1,2,3",
    "capabilities": "exec setpriv --bounding-set -net_raw",
    "interpreter": "exec env PYTHONHASHSEED=1",
    "library": "exec env LD_LIBRARY_PATH=/tmp",
    "switched off": "exec env NVDIMMFS_SERVE=no",
    "no place": "exec env XDG_RUNTIME_DIR=/missing",
    "closed output": "exec 1>&-; exec",
}


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT)
def test_another_kind_of_caller_is_not_served(kept_server, change):
    if change.startswith(("exec unshare", "exec setpriv")) and os.geteuid() != 0:
        pytest.skip("needs root")
    done = mounting.command("sh", "-c", f'{change} "$@" mount', "sh", *WARM, env=kept_server)
    assert done.returncode == NOT_SERVED, done.stderr
    assert warm("mount", env=kept_server).returncode == 2


def test_a_terminal_is_not_taken_from_the_command(kept_server):
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [*WARM, "run", "--", "true"], stdin=theirs, env=kept_server, timeout=WATCHDOG, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == NOT_SERVED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reaches_nothing(server):
    done = mounting.command("setpriv", "--reuid", "65534", "--clear-groups", *WARM, "mount", env=server)
    assert done.returncode == NOT_SERVED
    path = place(server) / "socket"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for folder in path.parents:  # even if somebody opened all the ways
        if folder.is_relative_to(Path(server["XDG_RUNTIME_DIR"])):
            folder.chmod(0o755)
    path.chmod(0o666)
    script = "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1])"
    script += "; s.send(b'{\"request\": 1}'); print(s.recv(1000).decode())"
    asked = mounting.command("setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-c", script, path)
    assert "another user" in asked.stdout or "PermissionError" in asked.stderr
    assert warm("mount", env=server).returncode == NOT_SERVED  # nor is a place trusted that others may enter


@pytest.mark.parametrize(
    "message", [b"", b"\0", b"[]", b'{"request": 2}', b'{"request": 1}', b'{"request": "' + b"x" * 3000]
)
def test_a_message_that_is_no_request_is_refused(kept_server, message):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(place(kept_server) / "socket"))
        connection.settimeout(WATCHDOG)
        connection.send(message)
        answer = connection.recv(4096)
    assert answer.startswith(b'{"refused": ')
    assert warm("mount", env=kept_server).returncode == 2


HOSTILE = {
    "open to others": lambda path: path.mkdir(mode=0o755),
    "a link": lambda path: path.symlink_to(path.parent),
    "a file": lambda path: path.touch(mode=0o600),
    "no socket": lambda path: (path.mkdir(mode=0o700), (path / "socket").touch()),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_place_that_is_not_the_users_alone_is_refused(runtime, make):
    make(place(runtime))
    assert str(place(runtime)) in refusal(cli("serve", env=runtime))
    assert warm("mount", env=runtime).returncode == NOT_SERVED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_place_of_another_user_is_refused(runtime):
    place(runtime).mkdir(mode=0o700)
    os.chown(place(runtime), 65534, 65534)
    assert "not a directory of this user" in refusal(cli("serve", env=runtime))
    assert warm("mount", env=runtime).returncode == NOT_SERVED


def test_there_is_one_server(kept_server):
    assert "a server is running already" in refusal(cli("serve", env=kept_server))


def test_the_socket_of_a_killed_server_is_replaced(server):
    killed = pidfd_of_server(server)
    signal.pidfd_send_signal(killed, signal.SIGKILL)
    assert ends(killed)
    assert warm("mount", env=server).returncode == NOT_SERVED
    assert refusal(cli("mount", env=server), 2).startswith("the following arguments are required")
    assert cli("serve", env=server).returncode == 0
    assert warm("mount", env=server).returncode == 2


def test_it_ends_when_it_is_told_to(server):
    running = pidfd_of_server(server)
    assert cli("serve", "--stop", env=server).returncode == 0
    assert ends(running)
    assert not (place(server) / "socket").exists()
    assert refusal(cli("serve", "--stop", env=server)).startswith("no server is running")


@pytest.mark.parametrize(("folder", "reason"), [("/missing", "No such file"), ("/dev/null", "Not a directory")])
def test_a_runtime_directory_that_cannot_be_used(runtime, folder, reason):
    line = refusal(cli("serve", env=runtime | {"XDG_RUNTIME_DIR": folder}))
    assert line.startswith(f"{folder}/nvdimmfs: {reason}")
    assert line.endswith("; set XDG_RUNTIME_DIR to a directory of this user")


@pytest.mark.parametrize("text", ["x", "-1", "inf", "nan"])
def test_a_time_that_is_none(runtime, text):
    line = refusal(cli("serve", "--idle", text, env=runtime), 2)
    assert line == f"argument --idle: {text}: must be a number of seconds (see nvdimmfs serve --help)"


@needs("modprobe")
@pytest.mark.parametrize(("opens", "status"), [("", 0), ("exec 3< /dev/pmem0; ", 1)])
def test_a_module_is_in_use_by_processes_of_the_sandbox(runtime, sandbox, tag, opens, status):
    """In a sandbox whose init was forked before there was a command, too.  Its supervisor has each disk open."""
    name, _, value = tag.partition("=")
    environment = runtime | {name: value}
    assert cli("serve", env=environment).returncode == 0
    wait_until(lambda: len(processes_with(tag)) > 2)
    unbind = "echo namespace0.0 > /sys/bus/nd/drivers/nd_pmem/unbind"
    done = warm("run", "--", "sh", "-c", f"{opens}{unbind}; modprobe -r nd_pmem", env=environment)
    assert done.returncode == status, done.stderr
    assert cli("serve", "--stop", env=environment).returncode == 0
    wait_until(lambda: not processes_with(tag))


def test_it_ends_when_it_is_idle(runtime):
    server = subprocess.Popen(
        [*mounting.MACHINE, "serve", "--foreground", "--idle", "0.01"], env=runtime, stderr=subprocess.PIPE
    )
    with server:
        assert server.wait(WATCHDOG) == 0
    assert not (place(runtime) / "socket").exists()


def test_it_ends_with_the_last_command(server, sandbox):
    running = pidfd_of_server(server)
    command = subprocess.Popen([*WARM, "run", "--", "sh", "-c", "echo; read word; echo $word"], env=server, **PIPES)
    with command:
        assert command.stdout.readline() == "\n"
        assert cli("serve", "--stop", env=server).returncode == 0
        assert not libc.has_ended(running)
        assert command.communicate("done\n")[0] == "done\n"
    assert command.returncode == 0
    assert ends(running)


def test_changed_code_is_not_used(runtime, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(mounting.ROOT / "nvdimmfs", copy / "nvdimmfs", ignore=shutil.ignore_patterns("__pycache__"))
    environment = runtime | {"PYTHONPATH": str(copy)}
    assert cli("serve", env=environment).returncode == 0
    assert warm("mount", env=environment).returncode == 2
    assert warm("mount", env=runtime).returncode == NOT_SERVED  # another program
    running = pidfd_of_server(environment)
    with (copy / "nvdimmfs/cli/plan.py").open("a") as file:
        file.write("# changed\n")
    assert warm("mount", env=environment).returncode == NOT_SERVED
    assert ends(running)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signals_reach_the_command_once(kept_server, sandbox, number):
    script = f"trap 'echo got' {number.name[3:]}; echo; read word; echo end"
    command = subprocess.Popen([*WARM, "run", "--", "bash", "-c", script], env=kept_server, **PIPES)
    with command:
        assert command.stdout.readline() == "\n"
        command.send_signal(number)
        assert command.stdout.readline() == "got\n"
        assert command.communicate("\n")[0] == "end\n"
    assert command.returncode == 0


SLEEPER = "export {}; sleep 1000 & echo; wait"


@pytest.mark.parametrize("options", [[], ["--log"], ["--trace"], ["--media"]], ids=lambda options: "".join(options))
def test_all_processes_of_a_command_end_after_the_answer(runtime, sandbox, tag, tmp_path, options):
    name, _, value = tag.partition("=")
    files = [tmp_path / "of the machine" for _ in options]
    assert cli("serve", env=runtime).returncode == 0
    done = warm("run", *options, *files, "--", "true", env=runtime | {name: value})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wait_for_end_of(tag)
    assert warm("run", "--", "true", env=runtime).returncode == 0


#: Starts a server.  The process of each machine, when it has served, writes to a named pipe and waits for another one.
SERVER_OF_MACHINES_THAT_WAIT = """
import sys
from pathlib import Path
from nvdimmfs.cli import main, run

def serve(*arguments, serve=run.serve):
    serve(*arguments)
    Path(sys.argv[1]).write_text("served")
    Path(sys.argv[2]).read_text()

run.serve = serve
sys.exit(main.main(["serve"]))
"""


@pytest.mark.parametrize("option", ["", "--log", "--trace", "--media"])
def test_a_client_waits_for_the_end_of_a_machine_that_writes_files(runtime, sandbox, tmp_path, option):
    """The files are complete then.  Of other machines it does not wait for the end."""
    served, may_end = tmp_path / "served", tmp_path / "may end"
    for pipe in (served, may_end):
        os.mkfifo(pipe)
    started = mounting.command(sys.executable, "-c", SERVER_OF_MACHINES_THAT_WAIT, served, may_end, env=runtime)
    assert (started.returncode, started.stderr) == (0, "")
    options = [option, tmp_path / "file"] if option else []
    with os.fdopen(os.open(served, os.O_RDONLY | os.O_NONBLOCK), "rb") as pipe:
        client = subprocess.Popen([*WARM, "run", *options, "--", "true"], env=runtime, **PIPES)
        with client:
            assert select.select([pipe], [], [], WATCHDOG)[0]
            # One that is answered before the machine's end has its answer by now.
            wait_until(lambda: client.poll() is not None or (option and is_asleep(client.pid)))
            assert (client.poll() is None) is bool(option)
            may_end.write_text("")
            assert client.communicate() == ("", "")
    assert client.returncode == 0
    assert (tmp_path / "file").exists() is bool(option)


def is_asleep(process):
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_a_process_that_has_answered_is_not_killed_with_its_client():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    event = os.eventfd(0, os.EFD_NONBLOCK)
    session = _Session(ours, process.pid, os.pidfd_open(process.pid), event)
    assert not session.has_answered
    with theirs:
        answer = Answer(ours, event)
        answer.give(7 << 8)
        answer.give(9 << 8)
        theirs.setblocking(False)
        assert theirs.recv(100) == b'{"status": 1792}'
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
    assert session.has_answered
    process.communicate()
    for descriptor in (session.pidfd, event):
        os.close(descriptor)
    ours.close()


def test_nothing_is_left_of_a_killed_client(kept_server, sandbox, tag):
    command = subprocess.Popen([*WARM, "run", "--", "sh", "-c", SLEEPER.format(tag)], env=kept_server, **PIPES)
    with command:
        assert command.stdout.readline() == "\n"
        command.kill()
        assert command.stdout.read() == ""  # no process has the pipe any more


def test_nothing_is_left_of_a_killed_server(server, sandbox, tag):
    command = subprocess.Popen([*WARM, "run", "--", "sh", "-c", SLEEPER.format(tag)], env=server, **PIPES)
    with command:
        assert command.stdout.readline() == "\n"
        killed = pidfd_of_server(server)
        signal.pidfd_send_signal(killed, signal.SIGKILL)
        output, errors = command.communicate(timeout=WATCHDOG)
        assert (output, errors) == ("", "nvdimmfs: the warm server was killed\n")
    assert ends(killed)
    assert command.returncode == 1


def test_the_server_of_a_test_process_ends_when_that_is_killed(tag):
    program = """
        import os, signal
        import mounting
        print(mounting.warm_environment()["XDG_RUNTIME_DIR"], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    paths = os.pathsep.join(map(str, (mounting.ROOT, mounting.ROOT / "tests/support")))
    killed = mounting.command(sys.executable, "-c", textwrap.dedent(program), env=tagged(tag) | {"PYTHONPATH": paths})
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    wait_for_end_of(tag)
    assert not Path(killed.stdout.strip()).exists()
