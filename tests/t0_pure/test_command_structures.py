"""The structures of ioctl commands and firmware functions: sizes as the kernel's headers have them, round trips."""

import importlib
import pkgutil
import random

import attrs
import pytest

from nvdimmfs import formats
from nvdimmfs.core.system import System
from nvdimmfs.formats import acpi, block_requests, health_dsm, intel_dsm, ndctl, nfit_dsm
from nvdimmfs.formats.structure import Structure
from nvdimmfs.platforms.nfit.ars import AddressRangeScrub

#: sizeof() of each, counted from the headers that the modules name.
SIZES = {
    block_requests.PartitionRequest: 24,
    block_requests.PartitionRequest32: 16,
    block_requests.PartitionRange: 152,
    block_requests.TraceSetup: 72,
    ndctl.LabelAreaSize: 12,
    ndctl.LabelRead: 12,
    ndctl.LabelWrite: 8,
    ndctl.ArsCapability: 32,
    ndctl.ArsStart: 32,
    ndctl.ArsStatus: 48,
    ndctl.ArsRecord: 24,
    ndctl.ClearError: 32,
    nfit_dsm.TranslateSpa: 44,
    nfit_dsm.InjectSet: 21,
    nfit_dsm.InjectClear: 20,
    nfit_dsm.InjectStatus: 8,
    nfit_dsm.InjectRecord: 16,
    health_dsm.Hpe1Smart: 132,
    health_dsm.Hpe1SmartThreshold: 36,
    health_dsm.MicrosoftHealth: 13,
    health_dsm.HyperVAnswer: 8,
    intel_dsm.SecurityStatus: 12,
    intel_dsm.PassphraseCommand: 36,
    intel_dsm.PassphraseChange: 68,
    intel_dsm.StatusOnly: 4,
    intel_dsm.Smart: 132,
    intel_dsm.SmartThreshold: 12,
    intel_dsm.SmartSetThreshold: 11,
    intel_dsm.SmartInject: 19,
    intel_dsm.LatchShutdown: 5,
    intel_dsm.FirmwareInfo: 44,
    intel_dsm.FirmwareStart: 8,
    intel_dsm.FirmwareSend: 12,
    intel_dsm.FirmwareFinish: 12,
    intel_dsm.FirmwareQuery: 16,
    intel_dsm.ActivateBusInfo: 40,
    intel_dsm.ActivateBus: 5,
    intel_dsm.ActivateDimmInfo: 14,
    intel_dsm.ActivateArm: 5,
    # ACPI 6.4, sections 5.2.25 and 5.2.16, without type and length.
    acpi.SystemPhysicalRange: 56 - 4,
    acpi.MemoryDevice: 48 - 4,
    acpi.ControlRegion: 80 - 4,
    acpi.PlatformCapabilities: 16 - 4,
    acpi.ProcessorAffinity: 16 - 2,
    acpi.MemoryAffinity: 40 - 2,
}


def structures(base=Structure):
    """The classes that have no subclasses themselves, in all modules of the package."""
    for module in pkgutil.iter_modules(formats.__path__, f"{formats.__name__}."):
        importlib.import_module(module.name)
    for each in base.__subclasses__():
        if each.__module__.startswith(formats.__name__):
            yield from structures(each) if each.__subclasses__() else [each]


def test_every_structure_has_its_size_here():
    names = {each.__name__ for each in structures()}
    assert names == {each.__name__ for each in SIZES}


@pytest.mark.parametrize(("structure", "size"), SIZES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_structure_has_the_size_of_the_kernels(structure, size):
    assert structure.size() == size


@pytest.mark.parametrize("structure", SIZES, ids=lambda structure: structure.__name__)
def test_a_structure_decodes_as_it_was_encoded(structure):
    data = random.Random(structure.__name__).randbytes(structure.size())
    value = structure.from_bytes(data)
    assert structure.from_bytes(value.to_bytes()) == value
    buffer = bytearray(b"\xff" * (structure.size() + 2))
    value.write_to(buffer)
    assert buffer == value.to_bytes() + b"\xff\xff"


@pytest.mark.parametrize("structure", [ndctl.ArsCapability, ndctl.ArsStart, ndctl.ClearError, nfit_dsm.TranslateSpa])
def test_reserved_bytes_that_the_kernel_leaves_alone_survive(structure):
    data = random.Random(structure.__name__).randbytes(structure.size())
    assert attrs.evolve(structure.from_bytes(data)).to_bytes() == data


def test_command_masks_and_order():
    commands = (ndctl.DimmCommand.CMD_CALL, ndctl.DimmCommand.GET_SIZE, ndctl.DimmCommand.CMD_CALL)
    assert ndctl.command_mask(commands) == 1 << 10 | 1 << 4
    assert [command.word for command in ndctl.in_order(commands)] == ["get_size", "cmd_call"]


@pytest.mark.parametrize("payload", [b"", bytes(8)])
def test_a_scrub_function_refuses_a_payload_that_is_too_short(payload):
    ars = AddressRangeScrub(System().clock)
    assert ars.evaluate(0, ndctl.BusCommand.ARS_CAP, payload) == ndctl.U32.pack(nfit_dsm.INVALID)
