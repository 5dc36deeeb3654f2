"""Programs that know nothing of nvdimmfs, on the disks of a machine: each prints what it prints on a real one."""

from __future__ import annotations

import re

import pytest
import sandboxes
from sandboxes import TWO_RANGES, sh

pytestmark = [pytest.mark.usefixtures("sandbox"), sandboxes.needs_block_devices]


def said(script: str) -> list[str]:
    """What a script prints on a machine with two disks, line by line, its columns separated by one space."""
    return [" ".join(line.split()) for line in sh(script, *TWO_RANGES).stdout.splitlines()]


# What is on a disk


@sandboxes.needs("mkfs.ext4")
def test_util_linux_finds_a_file_system_by_its_label():
    script = """
        mkfs.ext4 -q -b 4096 -L here /dev/pmem1
        blkid -p -o value -s TYPE -s LABEL /dev/pmem1
        findfs LABEL=here
        wipefs -n -i -O DEVICE,OFFSET,TYPE /dev/pmem1; wipefs -q -a /dev/pmem1; wipefs /dev/pmem1
    """
    assert said(script) == ["here", "ext4", "/dev/pmem1", "pmem1 0x438 ext4"]


@sandboxes.needs("sgdisk", "sfdisk", "parted")
def test_partitions_of_one_program_are_there_for_the_others():
    script = """
        sgdisk -n 1:0:+64M -n 2:0:0 /dev/pmem0 >/dev/null
        sfdisk -d /dev/pmem0 | sed -n 's/, type.*//p'
        lsblk -n -r -o NAME,TYPE /dev/pmem0
        sfdisk -q --delete /dev/pmem0 1
        lsblk -n -r -o NAME,TYPE /dev/pmem0
        parted -s /dev/pmem0 unit s print | sed -n 's/^Sector size/&/p; s/^ 2/2/p'
    """
    assert said(script) == [
        "/dev/pmem0p1 : start= 2048, size= 131072",
        "/dev/pmem0p2 : start= 133120, size= 915423",
        "pmem0 disk",
        "pmem0p1 part",
        "pmem0p2 part",
        "pmem0 disk",
        "pmem0p2 part",
        "Sector size (logical/physical): 512B/4096B",
        "2 133120s 1048542s 915423s",
    ]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=sandboxes.needs(f"mkfs.{kind}")) for kind in ("xfs", "btrfs")]
)
def test_a_file_system_is_mounted_from_its_disk(kind):
    script = f"""
        mkfs.{kind} -q -f /dev/pmem0 >/dev/null; mkdir /run/here; mount /dev/pmem0 /run/here
        dd if=/dev/urandom of=/run/here/file bs=64k count=16 status=none; md5sum < /run/here/file
        findmnt -n -o SOURCE,FSTYPE /run/here; df --output=source /run/here | tail -n 1
        umount /run/here; mount /dev/pmem0 /run/here; md5sum < /run/here/file; umount /run/here
    """
    before, source, shown, after = said(script)
    assert (source, shown) == (f"/dev/pmem0 {kind}", "/dev/pmem0")
    assert before == after


def test_swap_is_listed_by_the_name_of_its_disk():
    script = (
        "mkswap -q /dev/pmem1 >/dev/null; swapon /dev/pmem1; sed 1d /proc/swaps | cut -f 1 -d ' '; swapoff /dev/pmem1"
    )
    assert said(script) == ["/dev/pmem1"]


@sandboxes.needs("cryptsetup")
def test_luks_is_formatted_and_recognised():
    script = """
        echo secret | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/pmem1 -
        cryptsetup isLuks /dev/pmem1; blkid -p -o value -s TYPE /dev/pmem1
    """
    assert said(script) == ["crypto_LUKS"]


#: Keeps what LVM would write to the host's /etc/lvm/backup and /run/lvm/hints in the sandbox.
LVM_FILES = """'backup { backup_dir = "/run" } devices { hints = "none" }'"""


@sandboxes.needs("pvcreate")
def test_lvm_names_the_disk():
    script = f"""
        files={LVM_FILES}
        pvcreate -q -q -y --config "$files" /dev/pmem1; vgcreate -q -q --config "$files" many /dev/pmem1
        pvs --config "$files" --noheadings -o pv_name,vg_name
    """
    assert said(script) == ["/dev/pmem1 many"]


# Bytes


@sandboxes.needs("fio", "jq")
@pytest.mark.parametrize(("engine", "direct"), [("psync", 1), ("libaio", 1), ("mmap", 0)])
def test_fio_finds_what_it_has_written(engine, direct):
    script = f"""
        fio --name=all --filename=/dev/pmem1 --rw=randwrite --bs=4k --size=2M --ioengine={engine} \\
            --direct={direct} --verify=crc32c --output-format=json > report
        jq -r '.jobs[0] | .error, .write.io_bytes, .read.io_bytes' report
    """
    assert said(script) == ["0", str(2 << 20), str(2 << 20)]


@sandboxes.needs("pmempool", "mkfs.ext4")
def test_a_pool_of_pmdk_lives_on_a_file_system():
    script = """
        mkfs.ext4 -q /dev/pmem0; mkdir /run/here; mount /dev/pmem0 /run/here
        pmempool create blk 512 /run/here/pool -s 32M
        pmempool info /run/here/pool | sed -n 's/^Signature *: *//p'; pmempool check -v /run/here/pool | tail -n 1
        umount /run/here
    """
    assert said(script) == ["PMEMBLK", "/run/here/pool: consistent"]


@sandboxes.needs("iostat", "jq")
def test_iostat_counts_what_was_transferred():
    """Counting is off at first, as on a real disk of persistent memory (queue/iostats is 0)."""
    script = """
        figures='.sysstat.hosts[0].statistics[0].disk[0] | .kB_read, .kB_wrtn'
        transferred() { iostat -d -k -o JSON pmem0 | jq -r "$figures"; }
        copy() { dd if="$1" of="$2" bs=1M count="$3" "$4" status=none; }
        copy /dev/pmem0 /dev/null 2 iflag=direct; transferred
        echo 1 > /sys/block/pmem0/queue/iostats
        copy /dev/zero /dev/pmem0 4 oflag=direct; copy /dev/pmem0 /dev/null 2 iflag=direct; transferred
    """
    assert said(script) == ["0", "0", "2048", "4096"]


# Who uses a device

# `lsof -w` and `2>/dev/null`: they look at all mounts and open files, and those of tests beside these may not answer.


@sandboxes.needs("lsof", "fuser", "ndctl")
def test_lsof_and_fuser_name_the_process_that_has_a_node_open():
    """By the numbers of the nodes, which are those that sysfs shows."""
    script = """
        ndctl create-namespace -f -e namespace1.0 -m devdax >/dev/null
        for node in pmem0 ndctl0 dax1.0; do
            not fuser -s /dev/$node 2>/dev/null
            sleep inf < /dev/$node & user=$!
            until lsof -w -t /dev/$node | grep -q .; do :; done  # the process has yet to open it
            lsof -w -F tn /dev/$node | sed -n 's/^[tn]//p'
            test "$(lsof -w -t /dev/$node)" -eq $user; test "$(fuser /dev/$node 2>/dev/null)" -eq $user
        done
    """
    assert said(script) == ["BLK", "/dev/pmem0", "CHR", "/dev/ndctl0", "CHR", "/dev/dax1.0"]


@sandboxes.needs("mkfs.ext4", "lsof", "fuser")
def test_lsof_and_fuser_find_a_file_by_the_disk_of_its_file_system():
    script = """
        mkfs.ext4 -q /dev/pmem0; mkdir here; mount /dev/pmem0 here
        echo > here/file; sleep inf < here/file & user=$!
        until lsof -w -t /dev/pmem0 | grep -q .; do :; done
        lsof -w -F n /dev/pmem0 | sed -n 's/^n//p'; test "$(fuser -m /dev/pmem0 2>/dev/null)" -eq $user
    """
    assert said(script) == ["/run/here/file"]


# What devices there are


#: A system bus of the sandbox's own.
BUS = """
    <busconfig><type>system</type><listen>unix:path=/run/bus</listen><auth>EXTERNAL</auth><policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
    </policy></busconfig>
"""


@sandboxes.needs("udisksctl", "dbus-daemon", "udevadm", "mkfs.ext4")
def test_udisks_shows_a_disk_and_follows_its_changes():
    """With a udevd in the sandbox, whose rules find what is on the disk."""
    script = f"""
        echo '{BUS}' > bus.conf; dbus-daemon --config-file=/run/bus.conf --fork
        export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/bus
        mkfs.ext4 -q -b 4096 -L here /dev/pmem1
        /lib/systemd/systemd-udevd --daemon 2>/dev/null
        udevadm trigger --subsystem-match=block; udevadm settle
        /usr/libexec/udisks2/udisksd >/dev/null 2>&1 &
        shown() {{ udisksctl info -b /dev/pmem1 | sed -n 's/^ *\\(IdLabel\\|IdType\\|Size\\|ReadOnly\\): */\\1 /p'; }}
        until udisksctl info -b /dev/pmem1 >/dev/null 2>&1; do sleep 0.05; done
        shown | sort -u
        wipefs -q -a /dev/pmem1; udevadm settle
        until test "$(udisksctl info -b /dev/pmem1 | grep -c 'IdType: *$')" = 1; do sleep 0.05; done
    """
    assert said(script) == ["IdLabel here", "IdType ext4", "ReadOnly false", "Size 268435456"]


@sandboxes.needs("udevadm")
def test_udevadm_describes_the_disk_and_the_devices_on_the_bus():
    script = """
        udevadm info -q property -n /dev/pmem1 | sed -n '/^DEVNAME=/p; /^DISKSEQ=/p; /^SUBSYSTEM=/p'
        cat /sys/block/pmem1/diskseq; udevadm info -q path -n /dev/pmem1; readlink -f /sys/block/pmem1
        udevadm trigger --dry-run --verbose --subsystem-match=nd | wc -l; ls /sys/bus/nd/devices /sys/class/nd | wc -w
        udevadm settle
    """
    name, sequence, subsystem, shown, path, place, triggered, devices = said(script)
    assert (name, subsystem) == ("DEVNAME=/dev/pmem1", "SUBSYSTEM=block")
    assert sequence == f"DISKSEQ={shown}"
    assert f"/sys{path}" == place
    assert int(triggered) == int(devices) - 2  # without the headings of ls


@sandboxes.needs("lstopo-no-graphics")
def test_hwloc_shows_the_disks():
    script = "lstopo-no-graphics --of console 2>/dev/null | grep pmem | sort"
    assert said(script) == ['Block(NVM) "pmem0"', 'Block(NVM) "pmem1"']


@sandboxes.needs("hwinfo")
def test_hwinfo_lists_the_disks():
    lines = said("hwinfo --block --short 2>/dev/null")
    assert sorted(line for line in lines if "pmem" in line) == ["/dev/pmem0 Disk", "/dev/pmem1 Disk"]


#: Debian's Python, which has the bindings of these libraries.
SYSTEM_PYTHON = "/usr/bin/python3"


@sandboxes.needs_module("pyudev", SYSTEM_PYTHON)
def test_pyudev_lists_the_devices():
    script = f"""{SYSTEM_PYTHON} -c '
import pyudev
for device in pyudev.Context().list_devices(subsystem="nd", DEVTYPE="nd_namespace_io"):
    print(device.sys_name, device.driver, device.parent.device_type)
'"""
    assert said(script) == ["namespace0.0 nd_pmem nd_pmem", "namespace1.0 nd_pmem nd_pmem"]


@sandboxes.needs_module("gi.overrides.BlockDev", SYSTEM_PYTHON)
def test_libblockdev_lists_and_reconfigures_namespaces():
    script = f"""{SYSTEM_PYTHON} -c '
import gi
gi.require_version("BlockDev", "2.0")
from gi.repository import BlockDev
BlockDev.init(require_plugins=BlockDev.plugin_specs_from_names(["nvdimm"]))
nvdimm = BlockDev.nvdimm
for namespace in sorted(nvdimm.list_namespaces(), key=lambda each: each.dev):
    print(namespace.dev, nvdimm.namespace_get_mode_str(namespace.mode), namespace.size, namespace.blockdev)
try:
    nvdimm.namespace_reconfigure("namespace0.0", BlockDev.NVDIMMNamespaceMode.SECTOR, False)
except BlockDev.NVDIMMError as refusal:
    print(str(refusal).strip().splitlines()[-1])
nvdimm.namespace_reconfigure("namespace0.0", BlockDev.NVDIMMNamespaceMode.SECTOR, True)
print(nvdimm.namespace_info("namespace0.0").blockdev)
nvdimm.namespace_disable("namespace1.0")
print(nvdimm.namespace_info("namespace1.0").enabled)
' 2>/dev/null"""
    lines = said(script)
    assert lines[0] == "namespace0.0 fsdax 536870912 pmem0"
    assert lines[1] == "namespace1.0 fsdax 268435456 pmem1"
    assert lines[2:] == ["failed to reconfigure namespace: Device or resource busy", "pmem0s", "False"]


# Memory


@sandboxes.needs("ndctl", "daxctl", "lsmem", "jq")
def test_a_dax_device_becomes_memory():
    script = """
        ndctl create-namespace -f -e namespace0.0 -m devdax >/dev/null
        lsmem -b -n -o RANGE,SIZE | grep -c ^0x; daxctl reconfigure-device -m system-ram dax0.0 2>/dev/null |
            jq -r '.[0] | .mode, .total_memblocks == .online_memblocks'
        lsmem -b --summary=only; grep -c dax0.0 /proc/iomem
    """
    _, mode, are_online, *summary, found = said(script)
    assert (mode, are_online, found) == ("system-ram", "true", "1")
    (total,) = [int(re.sub("[^0-9]", "", line)) for line in summary if line.startswith("Total online")]
    assert total % (128 << 20) == 0
