"""`nvdimmfs run`: the command's view of /sys, /dev and /proc, and that the host stays unchanged."""

import os
import re
import sys
import textwrap
from pathlib import Path

import mounting
import pytest
import sandboxes
from sandboxes import TWO_RANGES, run, sh, start, tagged
from watchdog import WATCHDOG

from nvdimmfs.formats.name_hash import by_hash

pytestmark = pytest.mark.usefixtures("sandbox")


LOOP_DEVICE = re.compile(r"loop\d+")


def names(folder):
    return {entry.name for entry in Path(folder).iterdir()}


def host_debugfs():
    """The names in the host's debugfs, in its order, without those that the machine has, too."""
    debugfs = Path("/sys/kernel/debug")
    listed = debugfs.iterdir() if os.access(debugfs, os.R_OK) else ()
    return [entry.name for entry in listed if entry.name not in ("btt", "nvdimmfs")]


#: Mounts a tmpfs over a folder, and looks at a file in there meanwhile.
OVERMOUNT = """
    import sys
    from pathlib import Path
    from nvdimmfs.sandbox import namespaces
    from nvdimmfs.sandbox.overmounts import overmount

    folder, beside = map(Path, sys.argv[1:])
    namespaces.enter(private_network=False)

    def keep(name):
        print((folder / "kept").read_text())
        return name == "kept"

    overmount(folder, keep, beside)
    print((folder / "kept").read_text(), [entry.name for entry in folder.iterdir()], beside.exists())
"""


def test_no_entry_is_missing_while_a_directory_is_replaced(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("kept", "left out"):
        (folder / name).write_text("text")
    done = mounting.command(sys.executable, "-c", textwrap.dedent(OVERMOUNT), folder, tmp_path / "beside")
    assert (done.stdout, done.stderr) == ("text\ntext\ntext ['kept'] False\n", "")


#: Prepares a folder, changes something, mounts the tmpfs over the folder, and looks whether it is the prepared one.
PREPARED = """
    import os, sys
    from pathlib import Path
    from nvdimmfs.sandbox import libc, namespaces, overmounts

    folder, change = Path(sys.argv[1]), sys.argv[2]
    namespaces.enter(private_network=False)
    libc.bind_mount("/proc/version", folder / "mounted")
    overmounts.prepare(folder, lambda name: name != "left out")
    prepared = overmounts._prepared[folder]
    assert sorted(prepared.entries) == ["directory", "file", "link"], "nothing that is mounted is held"
    exec(change)
    attached = []
    libc.attach_tree = lambda tree, place, attach=libc.attach_tree: (attached.append(place), attach(tree, place))
    overmounts.overmount(folder, lambda name: name != "left out", folder.with_name("beside"))
    texts = {path.name: path.read_text() for path in folder.iterdir() if path.is_file() and path.name != "mounted"}
    print(len(attached), sorted(texts.items()), sorted(os.listdir(folder / "directory")), os.path.ismount(folder))
    print((folder / "mounted").read_text() == Path("/proc/version").read_text(), os.path.exists(folder / "new"))
"""


@pytest.mark.parametrize(
    ("change", "attached", "text", "has_new"),
    [
        ("", 1, "text", False),
        ("(folder / 'new').touch()", 1, "text", True),
        ("(folder / 'left out').unlink()", 1, "text", False),
        ("(folder / 'file').write_text('other')", 1, "other", False),
        ("(folder / 'x').write_text('other'); (folder / 'x').rename(folder / 'file')", 0, "other", False),
        ("libc.bind_mount(folder / 'directory/one', folder / 'file')", 0, "one", False),
    ],
    ids=["none", "an entry more", "one that is left out", "a text", "another file", "a mount"],
)
def test_a_prepared_folder_is_used_where_it_is_still_right(tmp_path, change, attached, text, has_new):
    folder = tmp_path / "folder"
    (folder / "directory").mkdir(parents=True)
    for name, content in {"file": "text", "left out": "", "mounted": "", "directory/one": "one"}.items():
        (folder / name).write_text(content)
    (folder / "link").symlink_to("file")
    done = mounting.command(sys.executable, "-c", textwrap.dedent(PREPARED), folder, change)
    assert done.stderr == ""
    texts = [("file", text), ("link", text), *([("new", "")] if has_new else [])]
    assert done.stdout == f"{attached} {texts} ['one'] True\nTrue {has_new}\n"


def test_nodes_have_the_numbers_that_sysfs_shows():
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


def test_reading_a_character_device_waits_for_nothing():
    """It is an error as on a real machine where the host has libnvdimm, and otherwise the end of a terminal's input."""
    assert sh("cat /dev/ndctl0 2> /dev/null | wc -c").stdout == "0\n"


def test_an_attribute_cannot_be_mapped():
    program = """
        import errno, mmap
        for flags in (mmap.MAP_PRIVATE, mmap.MAP_SHARED):
            with open("/sys/bus/nd/devices/region0/size", "rb") as file:
                try:
                    mmap.mmap(file.fileno(), 4096, flags, mmap.PROT_READ)
                except OSError as failure:
                    print(errno.errorcode[failure.errno])
    """
    done = run(sys.executable, "-c", textwrap.dedent(program))
    assert (done.stdout, done.stderr) == ("ENODEV\nENODEV\n", "")


def test_sys_shows_the_machine_and_otherwise_the_host():
    """Each directory in the order of sysfs, whether it has entries of one or of both."""
    script = "ls -U /sys/bus/nd/devices; echo -; ls -U /sys/class; echo -; ls -U /sys/devices; echo -; ls -U /sys"
    script += "; echo -; ls -U /sys/kernel/debug"
    *listed, debug = [part.split() for part in sh(script, *TWO_RANGES).stdout.split("-\n")]
    assert listed == [by_hash(names) for names in listed]
    nd, classes, devices, top = listed
    assert {"namespace0.0", "region1", "ndbus0"} < set(nd)
    assert {"nd", "block", *names("/sys/class")} <= set(classes)
    assert names("/sys/devices") <= set(devices)
    assert names("/sys") <= set(top)
    assert debug[:2] == ["btt", "nvdimmfs"], "debugfs lists the newest name first"
    of_host = [name for name in host_debugfs() if name in debug]
    assert [name for name in debug if name in of_host] == of_host


def test_system_ram_is_that_of_the_machine_and_processors_are_those_of_the_host():
    script = """
        cd /sys/devices/system
        ls -d memory/memory* | wc -l; ls -d node/node0/memory* | wc -l; ls /sys/bus/memory/devices | wc -l
        ls cpu | grep -c "^cpu[0-9]*$"
    """
    blocks, of_node, on_bus, processors = map(int, sh(script, *TWO_RANGES).stdout.split())
    # 2 GiB from 0 and 6 GiB from 4 GiB, without the two ranges, in blocks of 128 MiB
    assert blocks == of_node == on_bus == (8 * 1024 - 512 - 256) // 128
    assert processors == os.cpu_count()


def test_nodes_are_the_machines_and_their_processors_the_hosts(tmp_path):
    script = """
        cd /sys/devices/system
        cmp node/node0/cpulist cpu/online && ls node/node0/cpu0/ > /dev/null && echo same
        cat node/online node/node1/cpulist node/node1/distance; head -1 node/node1/meminfo
    """
    machine = tmp_path / "two-nodes.toml"
    machine.write_text('ram_range = [{ size = "4G" }, { size = "2G", numa_node = 1 }]\nmemmap = "64M!4G"\n')
    lines = sh(script, "--machine", machine).stdout.splitlines()
    assert lines == ["same", "0-1", "", "20 10", "Node 1 MemTotal:        2064384 kB"]


def test_a_new_memory_block_appears_at_its_numa_node():
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
    """Buses, classes, disks and modules are those of the machine alone."""
    script = "ls /sys/class/nd /sys/block /sys/bus/dax/devices; echo -; ls /dev; echo -; ls /sys/bus/nd/devices"
    listed, nodes, nd = (part.split() for part in sh(script, "--memmap", "64M!4G").stdout.split("-\n"))
    assert [word for word in listed if not word.endswith(":")] == ["pmem0", "ndctl0"]
    assert sorted(word for word in nodes if word.startswith(("pmem", "nmem", "ndctl", "dax"))) == ["ndctl0", "pmem0"]
    assert nd == ["btt0.0", "dax0.0", "namespace0.0", "ndbus0", "pfn0.0", "region0"]


def test_proc_is_that_of_the_machine():
    script = "cat /proc/iomem /proc/self/comm; grep -c '' /proc/zoneinfo; echo /proc/[0-9]*"
    out = sh(script, *TWO_RANGES).stdout
    assert "100000000-11fffffff : Persistent Memory (legacy)" in out
    assert "\ncat\n" in out
    assert len(out.splitlines()[-1].split()) < 8


def test_the_machine_can_be_drawn_from_inside():
    done = run(*mounting.MACHINE, "show", "/run/nvdimmfs/machine", options=mounting.QUIET)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nnamespace0.0 in region0: 512 MiB\n" in done.stdout


def test_udev_appears_to_run_and_to_be_idle():
    assert sh("ls -A /run/udev").stdout == "control\n"


def test_the_host_is_unchanged():
    def state():
        mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        covered = [mount for mount in mounts if mount.startswith(("/sys", "/dev", "/run", "/proc"))]
        nodes = {name for name in names("/dev") if not LOOP_DEVICE.fullmatch(name)}  # other tests have sandboxes, too
        return covered, nodes, names("/run") - {"nvdimmfs-loop"}

    before = state()
    sh("echo namespace0.0 > /sys/bus/nd/drivers/nd_pmem/unbind; mkdir /run/mine; touch /dev/mine")
    assert state() == before


def test_nodes_are_created_and_removed_before_the_write_returns():
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


def test_two_sandboxes_are_invisible_to_each_other(tag):
    first = start("sh", "-c", "echo ready; read line; ls /dev/pmem*", options=TWO_RANGES, stdin=-1, env=tagged(tag))
    assert first.stdout.readline() == "ready\n"
    assert sh("ls /dev/pmem*", "--memmap", "64M!4G").stdout == "/dev/pmem0\n"
    assert first.communicate("\n", timeout=WATCHDOG)[0] == "/dev/pmem0\n/dev/pmem1\n"


def test_the_media_folder_keeps_the_bytes(tmp_path):
    options = (*TWO_RANGES, "--media", tmp_path)
    sh("printf hello | dd of=/dev/pmem0 conv=notrunc,fsync status=none", *options)
    assert sh("head -c 5 /dev/pmem0", *options).stdout == "hello"


@pytest.mark.skipif(
    not sandboxes.is_root() and not os.access("/dev/pts/ptmx", os.R_OK | os.W_OK),
    reason="new terminals cannot be opened",
)
def test_new_terminals_can_be_opened():
    ask = "import os; master, slave = os.openpty(); os.write(slave, b'hello')"
    program = f"{ask}; print(os.read(master, 5), os.ttyname(slave))"
    assert re.fullmatch(r"b'hello' /dev/pts/\d+\n", run(sys.executable, "-c", program).stdout)


def test_the_network_is_private_or_the_hosts():
    script = "readlink /proc/self/ns/net"
    host = str(Path("/proc/self/ns/net").readlink())
    assert sh(script).stdout.strip() != host
    assert sh(script, "--net", "host").stdout.strip() == host


def test_a_node_has_the_kernels_mode():
    assert sh("stat -c %a /dev/ndctl0 /dev/pmem0").stdout == "600\n600\n"


def test_debugfs_shows_the_btt_directories():
    script = """
        grep -o '^debugfs /sys/kernel/debug' /proc/mounts
        cd /sys/bus/nd/devices; echo namespace0.0 > ../drivers/nd_pmem/unbind
        echo 4096 > btt0.0/sector_size; echo 00001111-1111-2222-3333-000000000001 > btt0.0/uuid
        echo namespace0.0 > btt0.0/namespace; echo btt0.0 > ../drivers/nd_pmem/bind
        cat /sys/kernel/debug/btt/btt0.0/arena0/nfree
    """
    assert sh(script, *TWO_RANGES).stdout.splitlines() == ["debugfs /sys/kernel/debug", "256"]
