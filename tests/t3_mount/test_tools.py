"""Real tools in a sandbox: what ndctl, daxctl, mkfs and others answer and do on a machine."""

import machines
import pytest
import sandboxes
from sandboxes import TWO_RANGES, run, sh

pytestmark = pytest.mark.usefixtures("sandbox")


# Recorded with the tools themselves


@sandboxes.stories_with_tools
def test_tools_answer_as_they_do_on_a_real_kernel(story, sleepless):
    header = sandboxes.header_with_tools(story)
    options = (*machines.options(header.machine), "--clock", "steps")
    done = run(*sleepless, *sandboxes.REPLAY, story, options=options)
    assert done.returncode == 0, done.stdout[:5000] + done.stderr
    assert done.stderr == ""
    assert done.stdout.endswith("agree\n")


# Disks, as root


#: Makes a BTT of namespace0.0, as /dev/pmem0s.
MAKE_SECTOR = "ndctl create-namespace -e namespace0.0 -m sector -f >/dev/null"


@sandboxes.needs_block_devices
@sandboxes.needs("mkfs.ext4")
@pytest.mark.parametrize(
    ("disk", "prepare"),
    [("pmem0", "true"), pytest.param("pmem0s", MAKE_SECTOR, marks=sandboxes.needs("ndctl"))],
)
def test_a_file_system_outlives_its_disk(disk, prepare):
    """Unmounted, the disk taken away and found again, every byte is there, and the file system is clean."""
    script = f"""
        {prepare}
        mkfs.ext4 -q /dev/{disk}
        mkdir /run/here; mount /dev/{disk} /run/here
        dd if=/dev/urandom of=/run/here/file bs=64k count=100 status=none
        mkdir /run/here/folder; ln -s file /run/here/folder/link; md5sum < /run/here/file
        umount /run/here
        echo region0 > /sys/bus/nd/drivers/nd_region/unbind; not test -e /dev/{disk}
        echo region0 > /sys/bus/nd/drivers/nd_region/bind; test -b /dev/{disk}
        e2fsck -fn /dev/{disk} >/dev/null 2>&1
        mount /dev/{disk} /run/here; md5sum < /run/here/file; readlink /run/here/folder/link; umount /run/here
    """
    before, after, link = sh(script, *TWO_RANGES).stdout.splitlines()
    assert before == after
    assert link == "file"


@sandboxes.needs_block_devices
@sandboxes.needs("ndctl")
def test_lsblk_sees_what_sysfs_tells():
    script = f"""
        {MAKE_SECTOR}
        lsblk -b -n -r -o NAME,SIZE /dev/pmem0s /dev/pmem1
        for disk in pmem0s pmem1; do
            echo $disk $(($(cat /sys/block/$disk/size) * 512))
        done
    """
    lines = sh(script, *TWO_RANGES).stdout.splitlines()
    assert len(lines) == 4
    assert sorted(lines[:2]) == sorted(lines[2:])


@sandboxes.needs_block_devices
def test_written_bytes_are_there_when_the_disk_goes():
    """The page cache is written back, both when the disk is closed (dd) and while a process has it open."""
    script = """
        cd /sys/bus/nd/drivers/nd_pmem
        printf hello | dd of=/dev/pmem0 conv=notrunc status=none
        echo namespace0.0 > unbind; echo namespace0.0 > bind; head -c 5 /dev/pmem0
        exec 3<>/dev/pmem0; printf again >&3; echo namespace0.0 > unbind; exec 3>&-
        echo namespace0.0 > bind; head -c 5 /dev/pmem0
    """
    assert sh(script, *TWO_RANGES).stdout == "helloagain"


# Commands of DIMMs


@sandboxes.needs("ndctl")
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


@sandboxes.needs_root
@sandboxes.needs("keyctl")
def test_passphrases_are_keys_of_the_hosts_kernel():
    printed = run("keyctl", "session", "-", "sh", "-c", ENCRYPTED, options=("--machine", "nfit_test")).stdout
    if "no keys" in printed:
        pytest.skip("the host's kernel has no encrypted keys")
    assert printed.split() == ["unlocked", "refused", "refused", "disabled"]
