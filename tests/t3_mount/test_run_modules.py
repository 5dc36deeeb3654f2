"""`nvdimmfs run`: modules, as modprobe(8) and its kin find and change them."""

from pathlib import Path

import pytest
import sandboxes
from sandboxes import run, sh

pytestmark = pytest.mark.usefixtures("sandbox")


@sandboxes.needs("modprobe")
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


@sandboxes.needs("modprobe")
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


@sandboxes.needs("modprobe")
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
