"""The tool's tests with pytest: each has a mounted machine of its own.  No conftest.py is needed.

Run it in this folder: python3 -m pytest
"""

import sys

import pytest
from namespaces import listed, main, use_with_dax

ND = "/sys/bus/nd"


@pytest.mark.nvdimm(memmap="512M!4G,256M!6G", ram="8G")
def test_it_lists_namespaces(nvdimm):
    assert listed(nvdimm.sys) == ["namespace0.0 512 MiB -", "namespace1.0 256 MiB -"]


@pytest.mark.nvdimm(memmap="512M!4G", kernel=["4.3", "4.5", "6.1"])
def test_a_namespace_is_used_with_dax_on_any_kernel(nvdimm):
    device = use_with_dax(nvdimm.sys, "namespace0.0")
    assert nvdimm.read(f"{ND}/devices/{device}/mode") == "ram\n"
    assert listed(nvdimm.sys)[0].endswith(device)
    assert nvdimm.dev.joinpath("pmem0").exists() or nvdimm.dev.joinpath("pmem0m").exists()


@pytest.mark.nvdimm(memmap="512M!4G")
def test_a_namespace_stays_usable_when_the_kernel_cannot_map_its_pages(nvdimm, capsys):
    fault = nvdimm.fail("pfn*", "register", "ENOMEM")
    assert main(["dax", "namespace0.0"], nvdimm.sys) == 1
    assert capsys.readouterr().err == "namespaces: Cannot allocate memory\n"
    assert nvdimm.exists(f"{ND}/drivers/nd_pmem/namespace0.0")
    assert fault.hits == 1
    assert [refusal.op for refusal in nvdimm.refusals] == ["write"]


@pytest.mark.nvdimm(machine=["e820", "nfit_test"])
def test_it_does_not_change_what_it_only_lists(nvdimm):
    before = nvdimm.dump()
    listed(nvdimm.sys)
    assert nvdimm.diff(before) == []
    assert not nvdimm.events


@pytest.mark.nvdimm(machine="nfit_test")
def test_the_program_finds_namespaces_in_sys(nvdimm):
    done = nvdimm.run([sys.executable, "namespaces.py", "list"], check=True)
    assert done.stdout.splitlines() == listed(nvdimm.sys)
