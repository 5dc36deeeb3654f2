"""Which code a machine loads: half of the time in which a small one starts goes into that."""

import subprocess
import sys

import pytest

BOOT = """
import sys
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine.machine import Machine
Machine.described({machine})
print(*sys.modules)
"""


@pytest.mark.parametrize(
    ("machine", "loaded"), [("MachineDescription(memmap='64M!4G')", False), ("load_machine('one-dimm')", True)]
)
def test_the_code_for_an_nfit_is_loaded_by_machines_that_have_one(machine, loaded):
    code = BOOT.format(machine=machine)
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert ("nvdimmfs.platforms.nfit.bus" in modules) is loaded
    seldom = {"nvdimmfs.formats.acpi", "nvdimmfs.formats.intel_dsm", "nvdimmfs.platforms.virtio"}
    assert not seldom.intersection(modules)
    assert "pyfuse3" not in modules
