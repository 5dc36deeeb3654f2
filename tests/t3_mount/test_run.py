"""`nvdimmfs run`: the command's view, and its life."""

import os
import re
import signal
import sys
import uuid
from pathlib import Path

import mounting
import pytest
import sandboxes
from sandboxes import eventually, processes_with, run, sh, start

pytestmark = pytest.mark.usefixtures("sandbox")

TWO_RANGES = ("--memmap", "512M!4G,256M!6G", "--ram", "8G")


@pytest.fixture
def tag():
    """A word in the environment of everything that a test starts; none of it may be left in the end."""
    word = f"NVDIMMFS_TEST={uuid.uuid4()}"
    yield word
    left = processes_with(word)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left


def tagged(word):
    name, _, value = word.partition("=")
    return mounting.environment() | {name: value}


def names(folder):
    return {entry.name for entry in Path(folder).iterdir()}


# How it begins and ends


@pytest.mark.parametrize(("script", "status"), [("true", 0), ("exit 3", 3), ("exit 255", 255)])
def test_the_status_is_the_commands(script, status):
    done = run("sh", "-c", script, options=TWO_RANGES)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_it_ends_by_the_signal_that_ended_the_command(number):
    assert run("sh", "-c", f"kill -{int(number)} $$").returncode == -number


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [("no-such-command", 127, "No such file or directory"), ("/etc/passwd", 126, "Permission denied")],
)
def test_a_command_that_cannot_be_run(command, status, words):
    done = run(command)
    assert (done.returncode, done.stderr) == (status, f"nvdimmfs: cannot run {command}: {words}\n")


@pytest.mark.parametrize(("closing", "numbers"), [("<&-", "0"), (">&-", "1"), ("2>&-", "2"), ("<&- >&- 2>&-", "012")])
def test_a_standard_file_that_is_closed_is_so_for_the_command(closing, numbers, tmp_path):
    look = f"for n in 0 1 2; do [ -e /proc/self/fd/$n ] || printf $n >> {tmp_path}/closed; done; exit 3"
    done = mounting.command("sh", "-c", f"{' '.join(mounting.MACHINE)} run -- sh -c '{look}' {closing}")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    assert (tmp_path / "closed").read_text() == numbers


def test_a_command_without_a_name():
    assert mounting.refusal(run(""), status=127) == "cannot run a command whose name is empty"


@pytest.mark.parametrize("words", [(), ("--",), ("--memmap", "64M!4G"), ("--memmap", "64M!4G", "--")])
def test_no_command(words):
    done = mounting.command(*mounting.MACHINE, "run", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("nvdimmfs: run: there is no command to run;")


def test_the_dashes_can_be_left_out():
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
def test_signals_are_passed_on(number, tag):
    script = f"trap 'echo caught; exit 7' {int(number)}; echo ready; while :; do sleep 0.05; done"
    process = start("sh", "-c", script, env=tagged(tag))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=sandboxes.PATIENCE)[0] == "caught\n"
    assert process.returncode == 7


def test_nothing_outlives_the_command(tag):
    run("sh", "-c", "setsid sleep 1000 & nohup sleep 1001 >/dev/null 2>&1 & exit 0", env=tagged(tag))
    assert processes_with(tag) == []


def test_nothing_outlives_the_supervisor(tag):
    process = start("sh", "-c", "echo ready; exec sleep 1000", env=tagged(tag))
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.communicate()
    assert eventually(lambda: not processes_with(tag))


def test_it_ends_when_the_machine_is_killed(tag):
    process = start("sh", "-c", "echo ready; exec sleep 1000", env=tagged(tag), stderr=-1)
    assert process.stdout.readline() == "ready\n"
    machine, _ = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(machine), signal.SIGKILL)
    _, words = process.communicate(timeout=sandboxes.PATIENCE)
    assert process.returncode == 1
    assert words.startswith("nvdimmfs: cannot hear from the machine: ")


def test_a_machine_that_cannot_be_made_says_so():
    done = run("true", options=("--media", "/proc/nowhere"))
    assert done.returncode == 1
    assert re.fullmatch(r"nvdimmfs: .*/proc/nowhere.*\n", done.stderr)


def test_a_sandbox_in_a_sandbox_says_so():
    done = run(*mounting.MACHINE, "run", "--", "true")
    assert (done.returncode, done.stderr) == (1, "nvdimmfs: this is a sandbox already: call the command as it is\n")


# What the command sees


def test_nodes_have_the_numbers_that_sysfs_tells():
    script = """
        for node in ndctl0 nmem0 nmem1; do
            stat -c '%F %Hr:%Lr' /dev/$node
            find /sys/devices -path "*/$node/dev" -exec cat {} +
        done
        readlink -f /sys/dev/char/$(stat -c %Hr:%Lr /dev/ndctl0)/device
    """
    lines = sh(script, "--machine", "qemu-nfit").stdout.splitlines()
    for kind, number in zip(lines[0:6:2], lines[1:6:2], strict=True):
        assert kind == f"character special file {number}"
    assert lines[6] == "/sys/devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00/ndbus0"


def test_the_nodes_end_at_once():
    assert sh("cat /dev/ndctl0 | wc -c").stdout == "0\n"


def test_the_machine_is_seen_and_the_rest_is_the_hosts():
    script = "ls /sys/bus/nd/devices; echo -; ls /sys/class; echo -; ls /sys/devices; echo -; ls /sys"
    nd, classes, devices, top = (part.split() for part in sh(script, *TWO_RANGES).stdout.split("-\n"))
    assert {"namespace0.0", "region1", "ndbus0"} < set(nd)
    assert {"nd", "block", *names("/sys/class")} <= set(classes)
    assert names("/sys/devices") <= set(devices)
    assert names("/sys") <= set(top)


def test_system_ram_is_the_machines_and_processors_are_the_hosts():
    script = """
        cd /sys/devices/system
        ls -d memory/memory* | wc -l; ls -d node/node0/memory* | wc -l; ls /sys/bus/memory/devices | wc -l
        ls cpu | grep -c "^cpu[0-9]*$"
    """
    blocks, of_node, on_bus, processors = map(int, sh(script, *TWO_RANGES).stdout.split())
    # 2 GiB from 0 on and 6 GiB from 4 GiB on, without the two ranges, in blocks of 128 MiB
    assert blocks == of_node == on_bus == (8 * 1024 - 512 - 256) // 128
    assert processors == os.cpu_count()


def test_a_block_that_comes_is_seen_at_its_node():
    script = """
        cd /sys/bus/nd/devices/dax0.0; echo namespace0.0 > ../namespace0.0/driver/unbind
        echo pmem > mode; echo 10000000-1111-2222-3333-000000000001 > uuid; echo namespace0.0 > namespace
        cd /sys/bus/dax/drivers; echo dax0.0 > /sys/bus/nd/drivers/dax_pmem/bind
        modprobe kmem; echo dax0.0 > device_dax/unbind; echo dax0.0 > kmem/new_id
        cat /sys/devices/system/node/node0/memory33/state
        echo dax0.0 > kmem/unbind; test -e /sys/devices/system/node/node0/memory33 || echo gone
    """
    assert sh(script, *TWO_RANGES).stdout.split() == ["offline", "gone"]


def test_persistent_memory_of_the_host_is_invisible():
    """Its buses, classes, disks and modules are the machine's alone."""
    script = "ls /sys/class/nd /sys/block /sys/bus/dax/devices; echo -; ls /dev; echo -; ls /sys/bus/nd/devices"
    listed, nodes, nd = (part.split() for part in sh(script, "--memmap", "64M!4G").stdout.split("-\n"))
    assert [word for word in listed if not word.endswith(":")] == ["pmem0", "ndctl0"]
    assert sorted(word for word in nodes if word.startswith(("pmem", "nmem", "ndctl", "dax"))) == ["ndctl0", "pmem0"]
    assert nd == ["btt0.0", "dax0.0", "namespace0.0", "ndbus0", "pfn0.0", "region0"]


def test_proc_is_the_machines():
    script = "cat /proc/iomem /proc/self/comm; grep -c '' /proc/zoneinfo; echo /proc/[0-9]*"
    out = sh(script, *TWO_RANGES).stdout
    assert "100000000-11fffffff : Persistent Memory (legacy)" in out
    assert "\ncat\n" in out
    assert len(out.splitlines()[-1].split()) < 8


def test_the_machine_can_be_drawn_from_inside():
    done = run(*mounting.MACHINE, "show", "/run/nvdimmfs/machine", options=mounting.QUIET)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("namespace0.0 in region0: 512 MiB\n")


def test_udev_seems_to_run_and_never_to_be_busy():
    assert sh("ls -A /run/udev").stdout == "control\n"


def test_the_host_is_as_before():
    def state():
        mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        covered = [mount for mount in mounts if mount.startswith(("/sys", "/dev", "/run", "/proc"))]
        return covered, names("/dev"), names("/run")

    before = state()
    sh("echo namespace0.0 > /sys/bus/nd/drivers/nd_pmem/unbind; mkdir /run/mine; touch /dev/mine")
    assert state() == before


def test_nodes_come_and_go_before_the_write_returns():
    script = """
        cd /sys/bus/nd/drivers/nd_pmem
        for turn in 1 2 3 4 5; do
            echo namespace0.0 > unbind; not test -e /dev/pmem0; echo namespace0.0 > bind; test -e /dev/pmem0
        done
        test "$(stat -c %Hr:%Lr /dev/pmem0)" = "$(cat /sys/block/pmem0/dev)" || test -f /dev/pmem0
    """
    sh(script, *TWO_RANGES)


def test_dax_devices_are_character_devices():
    script = """
        cd /sys/bus/nd/devices
        echo namespace0.0 > namespace0.0/driver/unbind
        echo pmem > dax0.0/mode; echo 2097152 > dax0.0/align; uuidgen > dax0.0/uuid 2>/dev/null ||
            echo 00000001-1111-2222-3333-000000000001 > dax0.0/uuid
        echo namespace0.0 > dax0.0/namespace
        echo dax0.0 > ../drivers/dax_pmem/bind
        test -c /dev/dax0.0
        test "$(stat -c %Hr:%Lr /dev/dax0.0)" = "$(cat /sys/bus/dax/devices/dax0.0/dev)"
        test "$(readlink -f /sys/dev/char/$(cat /sys/bus/dax/devices/dax0.0/dev)/subsystem)" = /sys/bus/dax
        echo dax0.0 > ../drivers/dax_pmem/unbind
        not test -e /dev/dax0.0
    """
    sh(script, *TWO_RANGES)


def test_two_runs_never_see_each_other(tag):
    first = start("sh", "-c", "echo ready; read line; ls /dev/pmem*", options=TWO_RANGES, stdin=-1, env=tagged(tag))
    assert first.stdout.readline() == "ready\n"
    assert sh("ls /dev/pmem*", "--memmap", "64M!4G").stdout == "/dev/pmem0\n"
    assert first.communicate("\n", timeout=sandboxes.PATIENCE)[0] == "/dev/pmem0\n/dev/pmem1\n"


def test_bytes_stay_in_the_media_folder(tmp_path):
    options = (*TWO_RANGES, "--media", tmp_path)
    sh("printf hello | dd of=/dev/pmem0 conv=notrunc,fsync status=none", *options)
    assert sh("head -c 5 /dev/pmem0", *options).stdout == "hello"


@pytest.mark.skipif(
    not sandboxes.is_root() and not os.access("/dev/pts/ptmx", os.R_OK | os.W_OK), reason="no new terminals here"
)
def test_new_terminals_can_be_made():
    ask = "import os; master, slave = os.openpty(); os.write(slave, b'hello')"
    program = f"{ask}; print(os.read(master, 5), os.ttyname(slave))"
    assert re.fullmatch(r"b'hello' /dev/pts/\d+\n", run(sys.executable, "-c", program).stdout)


def test_network_of_its_own_and_the_hosts():
    script = "readlink /proc/self/ns/net"
    host = str(Path("/proc/self/ns/net").readlink())
    assert sh(script).stdout.strip() != host
    assert sh(script, "--net", "host").stdout.strip() == host


# A machine that is there already


def test_attached_to_a_mount_the_command_changes_that_machine(new_mount):
    mount = new_mount(mounting.MACHINE, *TWO_RANGES)
    sh("echo namespace0.0 > /sys/bus/nd/drivers/nd_pmem/unbind; not test -e /dev/pmem0", "--attach", mount.directory)
    assert not (mount.directory / "sys/bus/nd/devices/namespace0.0/driver").exists()
    (mount.directory / "sys/bus/nd/drivers/nd_pmem/bind").write_text("namespace0.0")
    assert (
        sh("test -e /dev/pmem0; cat /sys/class/nd/ndctl0/device/provider", "--attach", mount.directory).stdout
        == "e820\n"
    )


def test_attached_to_nothing(tmp_path):
    done = run("true", options=("--attach", tmp_path))
    assert done.returncode == 1
    assert done.stderr == f"nvdimmfs: {tmp_path} is not a mount of nvdimmfs\n"
    done = run("true", options=("--attach", tmp_path / "missing"))
    assert mounting.refusal(done) == f"{tmp_path}/missing does not exist"


@pytest.mark.parametrize(("number", "words"), [(signal.SIGSTOP, "does not answer"), (signal.SIGKILL, "was killed")])
def test_attached_to_a_daemon_that_does_not_serve(new_mount, number, words):
    mount = new_mount(mounting.MACHINE, *TWO_RANGES)
    mount.kill(number)
    if number == signal.SIGKILL:
        mount.has_ended()
    done = run("true", options=("--attach", mount.directory))
    assert done.returncode == 1
    assert done.stderr.startswith(f"nvdimmfs: the daemon of {mount.directory} {words}")


def test_an_attached_machine_cannot_be_another_one(tmp_path):
    done = run("true", options=("--attach", tmp_path, "--memmap", "64M!4G"))
    assert done.returncode == 2
    assert "--memmap" in done.stderr


def test_a_sandbox_that_is_stopped_does_not_stop_others_for_ever(new_mount, tag):
    mount = new_mount(mounting.MACHINE, *TWO_RANGES)
    mount.log_may_be_loud = True
    process = start("sh", "-c", "echo ready; sleep 1000", options=("--attach", mount.directory), env=tagged(tag))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    (mount.directory / "sys/bus/nd/drivers/nd_pmem/unbind").write_text("namespace0.0")
    process.kill()
    process.communicate()
    assert "did not act on a change" in mount.log.read_text()


# As root


needs_root = pytest.mark.skipif(not sandboxes.is_root(), reason="block devices are for root")


@needs_root
@pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="no loop devices here")
@pytest.mark.skipif(not sandboxes.has("mkfs.ext4"), reason="mkfs.ext4 (e2fsprogs) is not installed")
def test_disks_are_formatted_mounted_and_listed():
    script = """
        test -b /dev/pmem0
        mkfs.ext4 -q /dev/pmem0
        mkdir /run/here; mount /dev/pmem0 /run/here; echo hello > /run/here/file; umount /run/here
        mount /dev/pmem0 /run/here; cat /run/here/file; umount /run/here
        lsblk -n -o NAME,SIZE /dev/pmem0
    """
    assert sh(script, *TWO_RANGES).stdout.split() == ["hello", "pmem0", "512M"]


@needs_root
@pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="no loop devices here")
@pytest.mark.skipif(not sandboxes.has("blockdev"), reason="blockdev (util-linux) is not installed")
def test_a_new_disk_does_not_inherit_that_it_is_read_only():
    # The loop device that is free first is the one that was given back last.
    script = """
        blockdev --setro /dev/pmem0; blockdev --getro /dev/pmem0
        cd /sys/bus/nd/drivers/nd_pmem; echo namespace0.0 > unbind; echo namespace0.0 > bind
        blockdev --getro /dev/pmem0
    """
    assert sh(script, *TWO_RANGES).stdout.split() == ["1", "0"]


@needs_root
@pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="no loop devices here")
def test_what_was_written_is_on_the_media_when_the_disk_goes():
    script = """
        cd /sys/bus/nd/drivers/nd_pmem
        printf hello | dd of=/dev/pmem0 bs=4k seek=16 status=none
        echo namespace0.0 > unbind; echo namespace0.0 > bind
        dd if=/dev/pmem0 bs=4k skip=16 count=1 status=none | head -c 5
    """
    assert sh(script, *TWO_RANGES).stdout == "hello"


@needs_root
def test_no_loop_device_is_left(tag):
    if not Path("/dev/loop-control").exists():
        pytest.skip("no loop devices here")

    def in_use():
        return {file.parent.parent.name for file in Path("/sys/block").glob("loop*/loop/backing_file")}

    before = in_use()
    process = start("sh", "-c", "ls -l /dev/pmem0; exec sleep 1000", options=TWO_RANGES, env=tagged(tag))
    assert process.stdout.readline()[0] == "b"
    process.kill()
    process.communicate()
    assert eventually(lambda: in_use() <= before)


def test_a_node_has_the_kernels_mode():
    assert sh("stat -c %a /dev/ndctl0 /dev/pmem0").stdout == "600\n600\n"


REREAD = """
import fcntl, os, struct, sys
disk = os.open("/dev/pmem0", os.O_RDWR)
table = bytes(446) + struct.pack("<4xB3xII", 0x83, 2048, 20480)
os.pwrite(disk, table.ljust(510, bytes(1)) + bytes((0x55, 0xAA)), 0)
fcntl.ioctl(disk, 0x125F)
"""


@needs_root
@pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="no loop devices here")
@pytest.mark.skipif(not sandboxes.has("mkfs.ext4"), reason="mkfs.ext4 (e2fsprogs) is not installed")
@pytest.mark.skipif(not sandboxes.has("blockdev"), reason="blockdev (util-linux) is not installed")
def test_partitions_are_found_and_mounted():
    script = f"""
        {sys.executable} -c '{REREAD}'
        test "$(stat -c %Hr:%Lr /dev/pmem0p1)" = "$(cat /sys/block/pmem0/pmem0p1/dev)"
        mkfs.ext4 -q -b 4096 /dev/pmem0p1; mkdir /run/here; mount /dev/pmem0p1 /run/here
        not blockdev --rereadpt /dev/pmem0 2> /dev/null
        umount /run/here
        blockdev --rereadpt /dev/pmem0
        lsblk -n -l -o NAME,TYPE /dev/pmem0
        if test -e /proc/partitions; then tail -n +3 /proc/partitions | sed 's/.* //' | tr '\n' ' '; fi
        echo namespace0.0 > /sys/bus/nd/drivers/nd_pmem/unbind
        not test -e /dev/pmem0p1
    """
    assert sh(script, "--memmap", "512M!4G").stdout.split() == ["pmem0", "disk", "pmem0p1", "part", "pmem0", "pmem0p1"]


ENCRYPTED = """
    name=nvdimmfs-test-$$; keyctl link @u @s
    master=$(head -c 32 /dev/urandom | keyctl padd user $name @u); trap 'keyctl unlink $master @u >/dev/null' EXIT
    key=$(keyctl add encrypted $name "new enc32 user:$name 32" @u) || { echo no keys; exit; }
    trap 'keyctl unlink $master @u >/dev/null; keyctl unlink $key @u >/dev/null' EXIT
    cd /sys/bus/nd/devices/nmem0
    echo update 0 $key > security; cat security
    echo disable 0 > security || echo refused
    echo disable $master > security || echo refused
    echo disable $key > security; cat security
"""


@needs_root
@pytest.mark.skipif(not sandboxes.has("keyctl"), reason="keyctl (keyutils) is not installed")
def test_passphrases_are_keys_of_the_hosts_kernel():
    told = run("keyctl", "session", "-", "sh", "-c", ENCRYPTED, options=("--machine", "nfit_test")).stdout
    if "no keys" in told:
        pytest.skip("the host's kernel has no encrypted keys")
    assert told.split() == ["unlocked", "refused", "refused", "disabled"]


def test_debugfs_has_what_the_btt_driver_shows():
    script = """
        grep -o '^debugfs /sys/kernel/debug' /proc/mounts
        cd /sys/bus/nd/devices; echo namespace0.0 > ../drivers/nd_pmem/unbind
        echo 4096 > btt0.0/sector_size; echo 00001111-1111-2222-3333-000000000001 > btt0.0/uuid
        echo namespace0.0 > btt0.0/namespace; echo btt0.0 > ../drivers/nd_pmem/bind
        cat /sys/kernel/debug/btt/btt0.0/arena0/nfree
    """
    assert sh(script, *TWO_RANGES).stdout.splitlines() == ["debugfs /sys/kernel/debug", "256"]


# Modules

needs_kmod = pytest.mark.skipif(not sandboxes.has("modprobe"), reason="modprobe (kmod) is not installed")
needs_ndctl = pytest.mark.skipif(not sandboxes.has("ndctl"), reason="ndctl is not installed")


@needs_kmod
def test_modprobe_changes_the_machine_and_not_the_host():
    script = """
        for n in /sys/bus/nd/devices/namespace*; do
            if test -e $n/driver; then echo ${n##*/} > $n/driver/unbind; fi
        done
        for r in /sys/bus/nd/devices/region*; do echo ${r##*/} > $r/driver/unbind; done
        modprobe -r nfit_test
        ls /sys/bus/nd/devices /sys/module
        modprobe nfit_test
        test -c /dev/ndctl0; test -c /dev/nmem5; test -e /dev/pmem0
        ls /sys/module | grep -c '^nfit_test'
    """
    out = sh(script, "--machine", "nfit_test").stdout
    left, _, after = out.partition("/sys/module:\n")
    assert left.split() == ["/sys/bus/nd/devices:"]
    assert after.split() == ["libnvdimm", "nd_btt", "nfit_test_iomap", "2"]
    assert not Path("/sys/module/nfit_test").exists()


@needs_kmod
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("modprobe -r nd_pmem", "Module nd_pmem is in use"),
        ("modprobe no_such_module", "Module no_such_module not found"),
        ("modprobe -r no_such_module", "Module no_such_module not found"),
    ],
)
def test_modprobe_hears_why_not(command, words):
    done = run("sh", "-c", command, options=("--machine", "nfit_test"))
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.skipif(not sandboxes.has("lsmod") and Path("/proc/modules").exists(), reason="lsmod is not installed")
def test_lsmod_lists_the_machines_modules():
    lines = sh("lsmod", "--memmap", "512M!4G").stdout.splitlines()
    assert lines[0].split() == ["Module", "Size", "Used", "by"]
    table = {name: (size, *rest) for name, size, *rest in map(str.split, lines[1:])}
    assert table["nd_btt"] == ("32768", "1", "nd_pmem")
    assert table["device_dax"] == ("20480", "0")
    assert table["libnvdimm"][2].split(",") == ["dax_pmem", "nd_pmem", "nd_btt", "nd_e820"]


@needs_kmod
def test_modinfo_knows_the_machines_modules():
    out = sh("modinfo -F depends nd_pmem; modinfo -F alias nd_e820; modprobe -R nd:t4").stdout
    assert out.split() == ["libnvdimm,nd_btt", "platform:e820_pmem*", "nd_pmem"]


@pytest.mark.parametrize("machine", ["nfit_test", "e820"])
@pytest.mark.parametrize("kernel", ["4.5", "6.1"])
def test_modules_that_can_be_loaded_have_files(kernel, machine):
    script = """
        cut -d: -f1 /sys/kernel/debug/nvdimmfs/modules | sort
        echo
        find /lib/modules/$(uname -r)/ -name '*.ko' | sed 's/.*\\///; s/[.]ko//' | sort
    """
    known, files = sh(script, "--kernel", kernel, "--machine", machine).stdout.split("\n\n")
    assert files.split() == known.split()


# ndctl


@needs_ndctl
def test_labels_are_written_by_ioctl():
    script = """
        exec 2>&1
        ndctl disable-region all
        ndctl init-labels all
        ndctl enable-region all
        ndctl create-namespace -r region1 -m raw -s 64M
        ndctl list -N | grep -c uuid
    """
    out = sh(script, "--machine", "qemu-nfit").stdout
    assert "initialized 2 nmems" in out
    assert out.endswith("\n1\n")


@needs_root
@pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="no loop devices here")
@pytest.mark.skipif(not sandboxes.has("blockdev"), reason="blockdev (util-linux) is not installed")
def test_a_disk_of_a_read_only_region_is_read_only_until_that_is_changed():
    script = """
        cat /sys/block/pmem2/ro; blockdev --getro /dev/pmem2
        not dd if=/dev/zero of=/dev/pmem2 bs=4k count=1 2> /dev/null
        blockdev --setrw /dev/pmem2
        dd if=/dev/zero of=/dev/pmem2 bs=4k count=1 conv=fsync status=none
    """
    assert sh(script, "--machine", "nfit_test").stdout == "1\n1\n"


@needs_root
@pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="no loop devices here")
@pytest.mark.skipif(not sandboxes.has("blockdev"), reason="blockdev (util-linux) is not installed")
def test_a_disk_follows_its_region():
    script = """
        region=/sys/bus/nd/devices/region0/read_only
        for value in 1 0; do
            echo $value > $region
            until test $(blockdev --getro /dev/pmem0) = $value; do sleep 0.01; done
            blockdev --getro /dev/pmem0
        done
    """
    assert sh(script, "--memmap", "512M!4G").stdout == "1\n0\n"
