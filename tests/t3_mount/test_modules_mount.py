"""Modules of a mounted machine: what comes and goes with them is seen at once, whatever the kernel has cached."""

import pytest
from mounting import MACHINE

DEBUG = "sys/kernel/debug/nvdimmfs"
DISABLE = "for r in region0 region1 region2 region3; do echo $r > sys/bus/nd/drivers/nd_region/unbind; done"


@pytest.fixture
def machine(new_mount):
    return new_mount(MACHINE, "--machine", "nfit_test", "--blacklist", "nfit_test")


def words(machine, script):
    done = machine.sh(script)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_a_platform_comes_and_goes_with_its_module(machine):
    load = (
        f"for m in nfit_test_iomap libnvdimm nfit nd_btt nd_pmem device_dax dax_pmem nfit_test; do "
        f'grep -q "^$m " proc/modules || echo load $m > {DEBUG}/modules; done'
    )
    assert "ndbus0" not in words(machine, "ls sys/bus/nd/devices")
    assert words(machine, f"{load}; ls -d sys/devices/platform/nfit_test.?/ndbus?") == [
        "sys/devices/platform/nfit_test.0/ndbus0",
        "sys/devices/platform/nfit_test.1/ndbus1",
    ]
    assert words(machine, "head -1 proc/modules") == ["nfit_test", "49152", "4", "-", "Live", "0x" + 16 * "0", "(OE)"]
    refused = machine.sh(f"/bin/echo unload nfit_test > {DEBUG}/modules")
    assert "Resource temporarily unavailable" in refused.stderr
    assert words(machine, f"{DISABLE}; echo unload nfit_test > {DEBUG}/modules; ls sys/bus/nd/devices") == []
    assert words(machine, "cat sys/module/libnvdimm/refcnt; test -e sys/module/nfit_test || echo gone") == ["4", "gone"]
    assert words(machine, f"{load}; cat sys/bus/nd/devices/ndbus1/provider") == ["nfit_test.1"]
