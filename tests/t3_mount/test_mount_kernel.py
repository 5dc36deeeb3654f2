"""`nvdimmfs mount --kernel`, from outside."""

import errno

import pytest
from mounting import MACHINE, command

REGION = "sys/bus/nd/devices/region0"


@pytest.mark.parametrize("name", ["5.0", "4.9", "linux", "6.1.0"])
def test_an_unknown_kernel_is_one_line_that_says_which_there_are(name, tmp_path):
    done = command(*MACHINE, "mount", tmp_path, "--kernel", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"nvdimmfs: --kernel {name}: must be one of rfc, 4.3, 4.5, 5.10, 5.15, 6.1, 6.6, 6.8, 6.12\n"


def test_a_mount_of_4_3_answers_as_4_3(new_mount):
    mount = new_mount(MACHINE, "--memmap", "512M!4G", "--kernel", "4.3")
    pfn = mount.directory / REGION / "pfn0.0"
    with pytest.raises(OSError, match="Inappropriate ioctl") as refusal:
        (pfn / "mode").write_text("pmem\n")
    assert refusal.value.errno == errno.ENOTTY
    assert not (pfn / "align").exists()
    assert mount.sh("ls dev").stdout == "pmem0m\n"


def test_the_default_is_6_1(new_mount):
    mount = new_mount(MACHINE, "--memmap", "512M!4G")
    assert mount.sh(f"cat {REGION}/pfn0.0/align").stdout == "2097152\n"
    assert mount.sh("ls dev").stdout == "pmem0\n"
