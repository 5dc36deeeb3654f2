"""The debug folder and `nvdimmfs show` through a real mount."""

import json
import signal

import pytest
from mounting import MACHINE, command, refusal

ND = "sys/bus/nd"
DEBUG = "sys/kernel/debug/nvdimmfs"

BIND = f"""
set -e
echo namespace0.0 > {ND}/drivers/nd_pmem/unbind
echo pmem > {ND}/devices/pfn0.0/mode
echo 01234567-89ab-cdef-0123-456789abcdef > {ND}/devices/pfn0.0/uuid
echo namespace0.0 > {ND}/devices/pfn0.0/namespace
"""


@pytest.fixture
def machine(new_mount):
    return new_mount(MACHINE, "--memmap", "512M!4G")


def show(mount, *options):
    return command(*MACHINE, "show", mount.directory, *options)


def test_a_page_is_looked_up_with_echo_and_cat(machine):
    ask = f"echo phys 0x110000000 > {DEBUG}/translate; cat {DEBUG}/translate"
    done = machine.sh(f"{BIND} echo pfn0.0 > {ND}/drivers/nd_pmem/bind; {ask}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "device: pfn0.0\n" in done.stdout
    assert "struct_page_in: pmem\n" in done.stdout
    refused = machine.sh(f"/bin/echo nonsense > {DEBUG}/translate")
    assert "Invalid argument" in refused.stderr
    refused = machine.sh(f"/bin/echo virt 0 > {DEBUG}/translate")
    assert "No such device or address" in refused.stderr


def test_a_failure_on_order_reaches_the_shell_once(machine):
    bind = f"/bin/echo pfn0.0 > {ND}/drivers/nd_pmem/bind"
    done = machine.sh(f"{BIND} echo ENOSPC > {DEBUG}/fail_registration; set +e; {bind}; {bind}")
    assert done.stderr.count("No space left on device") == 1
    assert done.returncode == 0


def test_a_mounted_machine_is_drawn(machine):
    machine.sh(f"{BIND} echo pfn0.0 > {ND}/drivers/nd_pmem/bind")
    done = show(machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert "   M   0x100200000  +0x200000     8 MiB  memmap\n" in done.stdout
    layout = json.loads(show(machine, "--json").stdout)
    assert layout["regions"][0]["namespaces"][0]["struct_pages"] == {"ram": 0, "pmem": 8 << 20}


def test_a_machine_whose_daemon_was_killed_is_one_line(machine):
    machine.kill(signal.SIGKILL)
    assert machine.has_ended()
    done = show(machine)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nvdimmfs umount" in done.stderr


def test_a_machine_whose_daemon_is_stopped_is_one_line(machine):
    machine.kill(signal.SIGSTOP)
    assert refusal(show(machine)) == f"the daemon of {machine.directory} does not answer: it is stopped, or hangs"
    machine.kill(signal.SIGCONT)
    assert show(machine).returncode == 0
