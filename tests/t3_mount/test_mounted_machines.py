"""Machines behind a real mount."""

from __future__ import annotations

import pytest
from mounting import MACHINE, QUIET, cli, refusal


def test_a_machine_is_mounted(new_mount):
    mount = new_mount(MACHINE)
    assert sorted(each.name for each in mount.directory.iterdir()) == ["dev", "proc", "sys"]
    done = mount.sh("cat sys/bus/nd/devices/pfn0.0/mode; ls dev; grep -c 'Persistent Memory (legacy)' proc/iomem")
    assert (done.stdout, done.stderr) == ("none\npmem0\npmem1\n2\n", "")


def test_two_machines_side_by_side_know_nothing_of_each_other(new_mount):
    one, two = new_mount(MACHINE, *QUIET), new_mount(MACHINE, *QUIET)
    pmem = "dev/pmem0"
    assert one.sh(f"printf one | dd of={pmem} conv=notrunc status=none").stderr == ""
    assert two.sh(f"head -c 3 {pmem} | od -An -tx1").stdout == " 00 00 00\n"
    assert two.sh("echo namespace0.0 > sys/bus/nd/drivers/nd_pmem/unbind; ls dev").stdout == ""
    assert one.sh(f"ls dev; head -c 3 {pmem}").stdout == "pmem0\none"
    assert one.umount().returncode == 0
    assert two.sh("cat sys/bus/nd/devices/namespace0.0/size").stdout == f"{512 << 20}\n"


def test_the_ranges_of_memmap_are_the_regions(new_mount):
    mount = new_mount(MACHINE, "--memmap", "64M!4G,128M!0x140000000", "--ram", "8G")
    done = mount.sh("cat sys/bus/nd/devices/region*/size")
    assert done.stdout == f"{64 << 20}\n{128 << 20}\n"


def test_a_described_machine_is_mounted(new_mount):
    mount = new_mount(MACHINE, "--machine", "nfit_test")
    done = mount.sh("cat sys/bus/nd/devices/ndbus*/provider; ls sys/bus/nd/devices | grep -c nmem; ls dev")
    assert (done.stdout, done.stderr) == ("nfit_test.0\nnfit_test.1\n6\npmem0\npmem1\npmem2\npmem3\n", "")


@pytest.mark.parametrize("machine", ["no-such-machine", "nothing.toml"])
def test_a_machine_that_is_not_there(machine, tmp_path):
    assert machine in refusal(cli("mount", tmp_path, "--machine", machine), status=2)


def test_options_that_a_machine_cannot_have(tmp_path):
    done = cli("mount", tmp_path, "--machine", "qemu-nfit", "--memmap", "512M!6G")
    assert "overlaps memmap" in refusal(done, status=2)
