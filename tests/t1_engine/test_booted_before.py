"""The machine that a warm server has booted for the processes that it forks."""

from pathlib import Path

import attrs
import pytest

from nvdimmfs.cli import machine_options, mount
from nvdimmfs.cli.main import complete_parser
from nvdimmfs.cli.mount import MountRequest


@pytest.fixture
def booted(monkeypatch):
    """Those of this process."""
    machines = {}
    monkeypatch.setattr(mount, "_BOOTED", machines)
    mount.boot_default()
    yield machines
    for machine in machines.values():
        machine.close()


def request_of(*options):
    arguments = complete_parser().parse_args(["run", *options, "--", "true"])
    description = machine_options.machine(arguments)
    return MountRequest(Path("/machine"), description, None, (), cache=True, durable=True)


def test_a_command_without_options_gets_it_once(booted):
    (expected,) = booted.values()
    machine = mount._booted_before(request_of())
    assert machine is expected
    assert mount._booted_before(request_of()) is None
    machine.close()


@pytest.mark.parametrize(
    "options", [("--ram", "8G"), ("--memmap", "512M!4G"), ("--kernel", "4.5"), ("--machine", "qemu-nfit")]
)
def test_another_machine_is_booted(booted, options):
    assert mount._booted_before(request_of(*options)) is None


@pytest.mark.parametrize("change", [{"media": Path("/media")}, {"blacklist": ("nd_pmem",)}])
def test_a_machine_that_depends_on_more_than_its_description_is_booted(booted, change):
    assert mount._booted_before(attrs.evolve(request_of(), **change)) is None
