"""nvdimmfs in containers: the documented flags are enough, and the doctor finds what is missing."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import attrs
import containers
import mounting
import pytest
from containers import Container

PAGE = mounting.ROOT / "docs" / "how-to" / "containers.md"


@pytest.fixture(autouse=True)
def _containers() -> None:
    """Skips where no container can be made."""
    reason = containers.why_not()
    if reason:
        pytest.skip(reason)


#: Mounts, reads, runs and unmounts.
WORK = """
set -e
mkdir -p /tmp/machine
nvdimmfs mount /tmp/machine --memmap 512M!4G
cat /tmp/machine/sys/bus/nd/devices/namespace0.0/mode
nvdimmfs umount /tmp/machine
nvdimmfs run -- cat /sys/bus/nd/devices/namespace0.0/mode 2>/tmp/warnings
grep -v "^nvdimmfs: warning: disks are regular files" /tmp/warnings >&2 || true
"""

#: Runs a command as an ordinary user of a container that root has started.
AS_USER = "setpriv --reuid 1000 --regid 1000 --clear-groups"

FUSE = Container(devices=("fuse",))
ADMINISTRATOR = Container(devices=("fuse",), capabilities=("SYS_ADMIN",))
ROOTLESS = attrs.evolve(ADMINISTRATOR, namespace=True)

PASSWD = "root:x:0:0:root:/root:/bin/sh\n"
MTAB = "-> /proc/mounts"


def documented() -> list[str]:
    """The commands of the page that start a container."""
    return re.findall(r"^\$ ((?:docker|podman) run .*)$", PAGE.read_text(), re.MULTILINE)


def container_of(command: str) -> Container:
    """The container that a command starts."""
    words = shlex.split(command)
    container = Container.from_flags(words[2 : words.index("IMAGE")])
    return attrs.evolve(container, namespace=words[0] == "podman")


@pytest.mark.parametrize("command", documented())
def test_documented_flags_are_enough(command):
    done = container_of(command).run(f"nvdimmfs doctor; {WORK}")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith("memory\nmemory\n")
    assert "NO" not in done.stdout
    remedies = re.findall("to improve it: (?!apt-get install)(.*)", done.stdout)  # packages are no matter of flags
    expected = {
        "--user": "systempaths|run it as root$",
        "podman": "outside any user namespace$",
        "docker": "--device /dev/loop-control --device-cgroup-rule",
    }
    allowed = next(pattern for word, pattern in expected.items() if word in command)
    assert all(re.search(allowed, remedy) for remedy in remedies), remedies


@pytest.mark.parametrize(
    "command", [command for command in documented() if "loop" in command or "privileged" in command]
)
def test_disks_are_block_devices_with_the_documented_flags(command):
    done = container_of(command).run("nvdimmfs run -- sh -c 'test -b /dev/pmem0'")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_pod_of_the_page_is_what_privileged_gives():
    """A pod's `privileged` is docker's, which another test tries."""
    assert "securityContext:\n        privileged: true\n" in PAGE.read_text()
    assert any("--privileged" in command for command in documented())


@attrs.frozen
class Case:
    """A container in which something does not work.

    Attributes:
        container: that container.
        remedy: what the doctor must say would help.
        mended: a container in which it does work; None if `remedy` is a command that helps.
        purposes: what does not work.
        prefix: begins the command that an ordinary user of the container runs.
    """

    container: Container
    remedy: str
    mended: Container | None = None
    purposes: tuple[str, ...] = ("mount", "run")
    prefix: str = ""


CASES = {
    "no-flags": Case(Container(), "`--device /dev/fuse --cap-add SYS_ADMIN`", ADMINISTRATOR),
    "device-only": Case(FUSE, "`--cap-add SYS_ADMIN`", ADMINISTRATOR),
    "device-only-user": Case(
        attrs.evolve(FUSE, user=1000), "`--cap-add SYS_ADMIN`", attrs.evolve(ADMINISTRATOR, user=1000)
    ),
    "device-only-rootless": Case(attrs.evolve(FUSE, namespace=True), "`--cap-add SYS_ADMIN`", ROOTLESS),
    "device-not-permitted": Case(
        attrs.evolve(ADMINISTRATOR, permits_devices=False), "start it with `--device /dev/fuse`", ADMINISTRATOR
    ),
    "no-entry-in-passwd": Case(
        attrs.evolve(ADMINISTRATOR, etc={"passwd": PASSWD, "mtab": MTAB}),
        "`echo user1000:x:1000:1000::/tmp:/bin/sh >> /etc/passwd`",
        purposes=("mount",),
        prefix=AS_USER,
    ),
    "no-mtab": Case(
        attrs.evolve(ADMINISTRATOR, etc={"passwd": f"{PASSWD}user:x:1000:1000::/tmp:/bin/sh\n"}),
        "`ln -s /proc/self/mounts /etc/mtab`",
        purposes=("mount",),
        prefix=AS_USER,
    ),
    "no-new-privileges": Case(
        ADMINISTRATOR,
        "`--security-opt no-new-privileges`",
        ADMINISTRATOR,
        purposes=("mount",),
        prefix=f"{AS_USER} --no-new-privs",
    ),
}

#: Those whose mended container is that of an earlier case need not try it again.
DISTINCT = {
    name: case
    for number, (name, case) in enumerate(CASES.items())
    if case.mended is None or case.mended not in [other.mended for other in [*CASES.values()][:number]]
}


def doctor_says_no(case: Case) -> None:
    """The doctor, and the command itself, say what would help."""
    script = f"""
        {case.prefix} mkdir /tmp/machine
        for purpose in mount run; do
            {case.prefix} nvdimmfs doctor --for $purpose
            echo "status $purpose $?"
        done
        {case.prefix} nvdimmfs mount /tmp/machine --memmap 512M!4G >&2
        {case.prefix} nvdimmfs run -- true >&2
    """
    done = case.container.run(script)
    for purpose in ("mount", "run"):
        fails = purpose in case.purposes
        assert f"status {purpose} {int(fails)}\n" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count(f"to improve it: {sentence_with(case.remedy, done.stdout)}\n") == len(case.purposes)
    lines = done.stderr.splitlines()
    assert len(lines) == len(case.purposes), done.stderr
    assert all(line.startswith("nvdimmfs: ") and line.count(case.remedy) == 1 for line in lines), done.stderr


def sentence_with(remedy: str, text: str) -> str:
    """The remedy that the doctor prints."""
    found = [sentence for sentence in re.findall("to improve it: (.*)", text) if remedy in sentence]
    assert found, text
    return found[0]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_doctor_who_says_no_names_what_would_help(case):
    doctor_says_no(case)


@pytest.mark.parametrize("case", DISTINCT.values(), ids=DISTINCT)
def test_the_advice_of_the_doctor_helps(case):
    """The flag that the doctor names, or the command that it names, run by the container's root."""
    check = "nvdimmfs doctor"
    if case.mended is not None:
        done = case.mended.run(f"{check}; {WORK}")
    else:
        named = "sed -n 's/.*run `\\([^`]*\\)` as root.*/\\1/p'"
        mend = f"{case.prefix} {check} --for mount | {named} > /tmp/mend; sh -e /tmp/mend"
        done = case.container.run(f"{mend}\n{case.prefix} sh -c {shlex.quote(f'{check}; {WORK}')}")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "NO" not in done.stdout


def test_a_helper_that_is_not_set_user_id(tmp_path):
    """Root makes it so with the command that the doctor names."""
    helper = tmp_path / "fusermount3"
    shutil.copyfile(shutil.which("fusermount3") or "", helper)
    helper.chmod(0o755)
    if Path(helper).owner() != "root" or "nosuid" in mounting.command("findmnt", "-nT", helper).stdout:
        pytest.skip("the temporary folder cannot hold set-user-id programs")
    case = Case(
        attrs.evolve(ADMINISTRATOR, covers={"/usr/bin/fusermount3": helper}),
        "`chown root /usr/bin/fusermount3 && chmod u+s /usr/bin/fusermount3`",
        purposes=("mount",),
        prefix=AS_USER,
    )
    doctor_says_no(case)
    test_the_advice_of_the_doctor_helps(case)


@pytest.mark.parametrize(
    "container",
    [ROOTLESS, attrs.evolve(ROOTLESS, capabilities=("SYS_ADMIN", "NET_ADMIN"))],
    ids=["rootless", "rootless-network"],
)
def test_root_of_a_user_namespace(container):
    done = container.run(WORK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "memory\nmemory\n", "")


def test_a_container_without_etc():
    done = attrs.evolve(ADMINISTRATOR, etc={}).run(WORK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "memory\nmemory\n", "")


#: Unbinds a namespace, and prints the uevents that arrive at the groups of the kernel and of udev.
LISTEN = """
import pathlib, socket
sockets = []
for group in (1, 2):
    sockets.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15))
    sockets[-1].bind((0, group))
pathlib.Path("/sys/bus/nd/drivers/nd_pmem/unbind").write_text("namespace0.0")
for each in sockets:
    print(b"ACTION=" in each.recv(65536))
"""


@pytest.mark.parametrize("user", [0, 1000])
def test_uevents_need_no_capability_for_networks(user, tmp_path):
    (tmp_path / "listen.py").write_text(LISTEN)
    container = attrs.evolve(ADMINISTRATOR, user=user, covers={"/listen.py": tmp_path / "listen.py"})
    done = container.run("nvdimmfs run -- python3 /listen.py; nvdimmfs run -- ping -c 1 127.0.0.1 >/dev/null")
    assert done.stdout == "True\nTrue\n", done.stderr


def test_without_uevents_commands_run_all_the_same():
    """Where root has no capability for networks, and cannot create a user namespace."""
    script = """
        unshare --user --map-root-user sh -ec '
            echo 0 > /proc/sys/user/max_user_namespaces
            setpriv --bounding-set -net_admin nvdimmfs doctor --for run
            setpriv --bounding-set -net_admin nvdimmfs run -- cat /sys/bus/nd/devices/namespace0.0/mode
        '
    """
    done = attrs.evolve(ADMINISTRATOR, privileged=True).run(script)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "--  uevents       the command receives no uevents, and its loopback interface is down\n" in done.stdout
    assert "`--cap-add NET_ADMIN`" in done.stdout
    assert done.stdout.endswith("memory\n")
