"""`nvdimmfs run`: disks as block devices, which root has."""

import errno
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import mounting
import pytest
import sandboxes
from sandboxes import TWO_RANGES, sh, start, tagged
from watchdog import WATCHDOG

from nvdimmfs.sandbox.dev_directory import DevDirectory
from nvdimmfs.sandbox.device_node import NodeNumber

pytestmark = pytest.mark.usefixtures("sandbox")

UDEVD = Path("/usr/lib/systemd/systemd-udevd")

#: Prints what requests that write are answered to a disk and to a DIMM, which are open with each access mode.
WRITE_REQUESTS = """
import errno, fcntl, os, struct
def ask(node, mode, request, argument):
    try:
        return fcntl.ioctl(os.open(node, mode), request, bytearray(argument))
    except OSError as failure:
        return errno.errorcode[failure.errno]
for mode in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, 3):
    print(mode, ask("/dev/pmem0", mode, 0x1277, struct.pack("QQ", 0, 4096)), end=" ")
    print(ask("/dev/nmem0", mode, 0xC00C4E06, struct.pack("III", 0, 4, 0) + bytes(64)))
"""

REREAD = """
import fcntl, os, struct, sys
disk = os.open(sys.argv[1], os.O_RDWR)
table = bytes(446) + struct.pack("<4xB3xII", 0x83, 2048, 20480)
os.pwrite(disk, table.ljust(510, bytes(1)) + bytes((0x55, 0xAA)), 0)
fcntl.ioctl(disk, 0x125F)
"""

MAKE_BTT = """
cd /sys/bus/nd; echo namespace0.0 > drivers/nd_pmem/unbind
echo 512 > devices/btt0.0/sector_size; echo 01234567-89ab-cdef-0123-456789abcdef > devices/btt0.0/uuid
echo namespace0.0 > devices/btt0.0/namespace; echo btt0.0 > drivers/nd_pmem/bind
"""


@sandboxes.needs_block_devices
@sandboxes.needs("mkfs.ext4")
def test_disks_are_formatted_mounted_and_listed():
    script = """
        test -b /dev/pmem0
        mkfs.ext4 -q /dev/pmem0
        mkdir /run/here; mount /dev/pmem0 /run/here; echo hello > /run/here/file; umount /run/here
        mount /dev/pmem0 /run/here; cat /run/here/file; umount /run/here
        lsblk -n -o NAME,SIZE /dev/pmem0
    """
    assert sh(script, *TWO_RANGES).stdout.split() == ["hello", "pmem0", "512M"]


@sandboxes.needs_block_devices
def test_requests_that_write_depend_on_how_the_node_is_open():
    """With the access mode 3, a disk refuses them and a DIMM does not (Linux 6.1)."""
    expected = ["0 EBADF EPERM", "1 ENOTSUP EBUSY", "2 ENOTSUP EBUSY", "3 EBADF EBUSY"]
    done = sandboxes.run(sys.executable, "-c", WRITE_REQUESTS, options=("--machine", "qemu-nfit"))
    assert done.stdout.splitlines() == expected, done.stderr


@sandboxes.needs_block_devices
@sandboxes.needs("blockdev")
def test_a_new_disk_does_not_inherit_that_it_is_read_only():
    # The loop device that is free first is the one that was given back last.
    script = """
        blockdev --setro /dev/pmem0; blockdev --getro /dev/pmem0
        cd /sys/bus/nd/drivers/nd_pmem; echo namespace0.0 > unbind; echo namespace0.0 > bind
        blockdev --getro /dev/pmem0
    """
    assert sh(script, *TWO_RANGES).stdout.split() == ["1", "0"]


@sandboxes.needs_block_devices
def test_a_new_bad_sector_is_found_though_its_page_was_read_before():
    script = """
        dd if=/dev/pmem0 of=/dev/null bs=4k count=16 status=none
        echo 24 1 > /sys/block/pmem0/badblocks
        dd if=/dev/pmem0 bs=4k count=16 status=none 2> /dev/null | wc -c
    """
    assert sh(script, *TWO_RANGES).stdout == f"{3 * 4096}\n"


@sandboxes.needs_block_devices
@pytest.mark.parametrize(("disk", "partition"), [("pmem0", "pmem0p1"), ("pmem0s", "pmem0s1")])
def test_a_disk_and_its_partition_have_the_same_bytes_once_they_are_closed(disk, partition):
    """Each has a page cache, which is emptied shortly after the other one was written."""
    script = f"""
        test {disk} = pmem0 || {{ {MAKE_BTT} }}
        {sys.executable} -c '{REREAD}' /dev/{disk}
        until test -b /dev/{partition}; do sleep 0.1; done
        write() {{ printf $1 | dd of=$2 bs=512 seek=$3 conv=sync status=none; }}
        await() {{ until dd if=$2 bs=512 skip=$3 count=1 status=none | grep -aq $1; do sleep 0.1; done; echo $1; }}
        write hello /dev/{disk} 2048; await hello /dev/{disk} 2048; await hello /dev/{partition} 0
        write world /dev/{partition} 0; await world /dev/{disk} 2048
        await world /dev/{partition} 0; write again /dev/{disk} 2048; await again /dev/{partition} 0
    """
    assert sh(script, *TWO_RANGES).stdout.split() == ["hello", "hello", "world", "world", "again"]


@sandboxes.needs_block_devices
def test_written_bytes_are_on_the_media_when_the_disk_goes():
    script = """
        cd /sys/bus/nd/drivers/nd_pmem
        printf hello | dd of=/dev/pmem0 bs=4k seek=16 status=none
        echo namespace0.0 > unbind; echo namespace0.0 > bind
        dd if=/dev/pmem0 bs=4k skip=16 count=1 status=none | head -c 5
    """
    assert sh(script, *TWO_RANGES).stdout == "hello"


@sandboxes.needs_block_devices
@sandboxes.needs("mkfs.ext4")
def test_a_mounted_disk_is_unmounted_before_the_machine_ends(tmp_path):
    options = (*TWO_RANGES, "--media", str(tmp_path / "media"))
    sh("mkfs.ext4 -q /dev/pmem0; mkdir /run/here; mount /dev/pmem0 /run/here; echo hello > /run/here/file", *options)
    assert sh("mkdir /run/here; mount /dev/pmem0 /run/here; cat /run/here/file", *options).stdout == "hello\n"


REBIND = """
    cd /sys/bus/nd/drivers/nd_pmem
    for round in $(seq 25); do
        echo namespace0.0 > unbind; echo namespace0.0 > bind
        test -b /dev/pmem0
    done
"""


@sandboxes.needs_block_devices
def test_disks_are_block_devices_however_many_sandboxes_rebind_them(tag):
    processes = [start("sh", "-ec", REBIND, options=TWO_RANGES, stderr=-1, env=tagged(tag)) for _ in range(3)]
    assert [(process.communicate(timeout=WATCHDOG), process.returncode) for process in processes] == [(("", ""), 0)] * 3


@sandboxes.needs_block_devices
def test_a_program_that_takes_free_loop_devices_is_in_nobodys_way(tag, tmp_path):
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    taking = f"while test -e {tmp_path}/go; do d=$(losetup -f --show {tmp_path}/file) && losetup -d $d; done"
    (tmp_path / "go").touch()
    thief = subprocess.Popen(["sh", "-c", taking], stderr=subprocess.DEVNULL, env=tagged(tag))
    try:
        sh(REBIND, *TWO_RANGES)
    finally:
        (tmp_path / "go").unlink()
        thief.communicate()


@sandboxes.needs_block_devices
def test_disks_of_attached_sandboxes_are_one_block_device(new_mount, tag):
    mount = new_mount(mounting.MACHINE, *TWO_RANGES)
    other = start(
        "sh",
        "-c",
        "stat -c %Hr:%Lr /dev/pmem0; read go",
        options=("--attach", mount.directory),
        stdin=-1,
        env=tagged(tag),
    )
    number = other.stdout.readline()
    script = """
        test -b /dev/pmem0
        stat -c %Hr:%Lr /dev/pmem0; cat /sys/block/pmem0/dev
        printf hello | dd of=/dev/pmem0 conv=notrunc status=none
        cd /sys/bus/nd/drivers/nd_pmem; echo namespace0.0 > unbind; echo namespace0.0 > bind
        test $(stat -c %Hr:%Lr /dev/pmem0) = $(cat /sys/block/pmem0/dev)
        head -c 5 /dev/pmem0
    """
    assert sh(script, "--attach", mount.directory).stdout == f"{number}{number}hello"
    other.communicate("go\n", timeout=WATCHDOG)
    assert other.returncode == 0
    assert (mount.directory / "dev/pmem0").read_bytes()[:5] == b"hello"


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (
            "overmount(Path('/dev'), lambda name: name != 'loop-control')",
            "/dev/loop-control: No such file or directory",
        ),
        ("libc.bind_mount('/dev/null', '/dev/loop-control')", "Inappropriate ioctl for device"),
        ("libc.mount('none', '/run', 'tmpfs', flags=1)", "/run/nvdimmfs-loop: Read-only file system"),  # MS_RDONLY
    ],
    ids=["no loop devices", "loop devices that do not work", "nowhere to keep records"],
)
@sandboxes.needs_block_devices
def test_root_learns_why_disks_are_files(setting, reason):
    program = f"""
        import sys
        from pathlib import Path
        from nvdimmfs.cli.main import main
        from nvdimmfs.sandbox import libc
        from nvdimmfs.sandbox.overmounts import overmount
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount("none", "/", flags=libc.MS_REC | libc.MS_SLAVE)
        {setting}
        sys.exit(main(["run", "--", "test", "-f", "/dev/pmem0"]))
    """
    done = mounting.command(sys.executable, "-c", textwrap.dedent(program))
    assert (done.returncode, done.stdout) == (0, "")
    words = f"nvdimmfs: warning: disks are regular files, which cannot be mounted: {re.escape(reason)}; .+\n"
    assert re.fullmatch(words, done.stderr), done.stderr


@sandboxes.needs_block_devices
@sandboxes.needs("mkfs.ext4")
@sandboxes.needs("blockdev")
def test_partitions_are_found_and_mounted():
    script = f"""
        {sys.executable} -c '{REREAD}' /dev/pmem0
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


#: Prints what each of some requests is answered while a node is in use: BLKBSZSET, BLKPG and BLKRRPART.
PARTITIONS = """
import ctypes, errno, fcntl, os, struct, subprocess, sys
def change(operation, number, start=0, length=0):
    part = ctypes.create_string_buffer(struct.pack("=qqi132x", start << 20, length << 20, number))
    return answer("/dev/pmem0", 0x1269, struct.pack("=iii4xQ", operation, 0, 152, ctypes.addressof(part)))
def answer(node, request, argument=0):
    file = node if isinstance(node, int) else os.open(node, os.O_RDWR)
    try:
        fcntl.ioctl(file, request, argument)
    except OSError as refusal:
        return errno.errorcode[refusal.errno]
    finally:
        if file != node:
            os.close(file)
    return "0"
def answers(how):
    size = struct.pack("i", 4096)
    nodes = ("/dev/pmem0", "/dev/pmem0p1", "/dev/pmem0p2")
    sizes = [answer(node, 0x40081271, size) for node in nodes]
    deleted = change(2, 1), change(2, 2)
    add()
    print(how, *sizes, *deleted, answer(nodes[0], 0x125F))
def add():
    for number in (1, 2):
        change(1, number, 64 * number, 32)
def fresh():
    for number in (1, 2):
        change(2, number)
    add()
def opened(how, node, flags):
    fresh()
    file = os.open(node, flags)
    answers(how)
    return file
fresh()
answers("unused")
os.close(opened("open", "/dev/pmem0p1", os.O_RDONLY))
os.close(opened("exclusive", "/dev/pmem0p1", os.O_RDONLY | os.O_EXCL))
disk = opened("open", "/dev/pmem0", os.O_RDWR)
os.close(disk)
disk = os.open("/dev/pmem0", os.O_RDWR | os.O_EXCL)
print("own", answer(disk, 0x40081271, struct.pack("i", 4096)), answer(disk, 0x125F))
os.close(disk)
os.mkdir("/run/here")
for node in ("/dev/pmem0p1", "/dev/pmem0"):
    fresh()
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", node], check=True)
    subprocess.run(["mount", node, "/run/here"], check=True)
    answers("mounted")
    subprocess.run(["umount", "/run/here"], check=True)
"""


@sandboxes.needs_block_devices
@sandboxes.needs("mkfs.ext4")
def test_open_and_mounted_disks_are_busy_as_on_a_real_kernel():
    """BLKBSZSET of the disk and of both partitions, then BLKPG to delete each, then BLKRRPART; Linux 6.1 and 6.12."""
    assert sh(f"{sys.executable} -c '{PARTITIONS}'", "--memmap", "512M!4G").stdout.splitlines() == [
        "unused 0 0 0 0 0 0",
        "open 0 0 0 EBUSY 0 EBUSY",
        "exclusive EBUSY EBUSY 0 EBUSY 0 EBUSY",
        "open 0 0 0 0 0 0",
        "own 0 0",
        "mounted EBUSY EBUSY 0 EBUSY 0 EBUSY",
        "mounted EBUSY EBUSY EBUSY 0 0 EBUSY",
    ]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV])
def test_a_disk_that_goes_while_its_node_is_created_gets_none(number, tmp_path):
    class Loops:
        def attach(self, *_, **__):
            raise OSError(number, "it has just been removed")

    (tmp_path / "sys/class/block/pmem0/queue").mkdir(parents=True)
    (tmp_path / "sys/class/block/pmem0/queue/logical_block_size").write_text("512\n")
    (tmp_path / "sys/class/block/pmem0/ro").write_text("0\n")
    (tmp_path / "dev").mkdir()
    warnings = []
    dev = DevDirectory(
        tmp_path / "dev", tmp_path, tmp_path, loop_devices=Loops(), closed_disks=None, warn=warnings.append
    )
    assert dev.add("pmem0", NodeNumber(259, 0), block=True) is None
    dev.remove("pmem0")
    assert (warnings, list((tmp_path / "dev").iterdir())) == ([], [])


@sandboxes.needs_block_devices
@sandboxes.needs("blockdev")
def test_a_disk_of_a_read_only_region_is_read_only_until_that_is_changed():
    script = """
        cat /sys/block/pmem2/ro; blockdev --getro /dev/pmem2
        not dd if=/dev/zero of=/dev/pmem2 bs=4k count=1 2> /dev/null
        blockdev --setrw /dev/pmem2
        dd if=/dev/zero of=/dev/pmem2 bs=4k count=1 conv=fsync status=none
    """
    assert sh(script, "--machine", "nfit_test").stdout == "1\n1\n"


@sandboxes.needs_block_devices
@sandboxes.needs("blockdev")
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


@sandboxes.needs_block_devices
def test_much_that_was_written_is_on_the_media_when_the_disk_goes():
    """The data is still in the page cache of the block device when the disk is unbound."""
    script = """
        cd /sys/bus/nd/drivers/nd_pmem
        head -c 64M /dev/urandom > /run/data
        dd if=/run/data of=/dev/pmem0 bs=1M status=none
        echo namespace0.0 > unbind; echo namespace0.0 > bind
        cmp -n 67108864 /run/data /dev/pmem0
    """
    sh(script, *TWO_RANGES)


@sandboxes.needs_block_devices
def test_the_last_close_of_a_disk_writes_back():
    """The machine then has what is otherwise in the page cache of the block device for half a minute or longer."""
    script = """
        on_media() { dd if=/run/nvdimmfs/machine/dev/pmem0 bs=4k skip=16 count=1 status=none | grep -q $1; }
        for word in hello again; do
            printf $word | dd of=/dev/pmem0 bs=4k seek=16 conv=notrunc status=none
            until on_media $word; do sleep 0.01; done
        done
    """
    sh(script, *TWO_RANGES)


@sandboxes.needs_block_devices
def test_the_loop_devices_of_other_sandboxes_are_not_shown():
    """pvs(8) named a disk after one of them whose number the disk had got."""
    script = 'printf "loop%d\\n" 0x$(stat -c %T /dev/pmem0) 0x$(stat -c %T /dev/pmem1); cat > /dev/null'
    with start("sh", "-ec", script, options=TWO_RANGES, stdin=subprocess.PIPE) as other:
        theirs = [other.stdout.readline().strip() for _ in range(2)]
        names = sh("ls /dev", *TWO_RANGES).stdout.split()
        other.communicate()
    assert "pmem0" in names
    assert not set(theirs) & set(names)


@sandboxes.needs_block_devices
@sandboxes.needs("mkfs.ext4", "udevadm")
@pytest.mark.skipif(not UDEVD.exists(), reason="systemd-udevd is not installed (Debian package udev)")
def test_udevd_makes_the_links_of_a_disk():
    """It compares what BLKGETDISKSEQ returns with `diskseq`, and without that makes none."""
    script = f"""
        rm -f /run/udev/control
        {UDEVD} --daemon 2> /dev/null
        mkfs.ext4 -q -b 4096 -L label /dev/pmem0
        udevadm trigger /sys/block/pmem0; udevadm settle
        readlink /dev/disk/by-label/label; lsblk -n -o NAME,FSTYPE,LABEL /dev/pmem0
    """
    assert sh(script, "--memmap", "64M!4G").stdout.split() == ["../../pmem0", "pmem0", "ext4", "label"]
