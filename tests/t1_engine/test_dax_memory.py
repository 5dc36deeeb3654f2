"""The memory of dax devices: what can be mapped, and when."""

import errno
import os

import pytest
from control_session import ControlSession
from poke import Hands

from nvdimmfs.errors import KernelError
from nvdimmfs.formats import control
from nvdimmfs.kernfs.open_file import open_node
from nvdimmfs.units import MIB

DEVICE_DAX = "bus/dax/drivers/device_dax"


@pytest.fixture
def hands():
    hands = Hands.on("512M!4G,256M!6G", ram=8 << 30)
    hands.bring_up(0, "dax", mode="pmem")
    return hands


def mapping(hands, name="dax0.0", start=0, length=2 * MIB, shared=True):
    """What the control channel answers to a sandbox in which a device is to be mapped; of a refusal, the errno."""
    session = ControlSession(hands.machine)
    reply = session.request(control.Map("char", *session.number("char", name), start, length, shared))
    return reply.errno if isinstance(reply, control.Refused) else reply


def test_a_shared_and_aligned_mapping_is_possible(hands):
    assert mapping(hands) == control.Mappable("dax0.0", 2 * MIB)
    assert mapping(hands, start=6 * MIB, length=1 << 40) == control.Mappable("dax0.0", 2 * MIB)


@pytest.mark.parametrize("wrong", [{"shared": False}, {"length": 4096}, {"start": 4096}, {"length": 3 * MIB}])
def test_any_other_is_refused(hands, wrong):
    assert mapping(hands, **wrong) == errno.EINVAL


@pytest.mark.parametrize("more", [{}, {"shared": False}, {"length": 4096}])
def test_without_its_driver_a_device_has_no_memory(hands, more):
    hands.write(f"{DEVICE_DAX}/unbind", "dax0.0")
    assert mapping(hands, **more) == errno.ENXIO
    hands.write(f"{DEVICE_DAX}/bind", "dax0.0")
    assert mapping(hands) == control.Mappable("dax0.0", 2 * MIB)


def test_only_dax_devices_have_memory(hands):
    assert mapping(hands, "ndctl0") == errno.ENODEV


def test_pages_are_revoked_when_the_driver_is_unbound(hands, monkeypatch):
    revoked = []
    monkeypatch.setattr(hands.machine.system.tree, "revoked", lambda node: revoked.append(node.name))
    hands.write(f"{DEVICE_DAX}/unbind", "dax0.0")
    assert revoked == ["dax0.0"]


def test_a_new_size_is_seen(monkeypatch):
    hands = Hands.on("2G%4G-1+0xefffffff", ram=8 << 30)
    hands.write(f"{DEVICE_DAX}/unbind", "dax0.0")
    memory = hands.machine.system.dev.find("dax0.0")
    sizes = []
    monkeypatch.setattr(hands.machine.system.tree, "revoked", lambda node: sizes.append(node.size))
    hands.write("bus/dax/devices/dax0.0/size", str(256 * MIB))
    hands.write("bus/dax/devices/dax0.0/mapping", f"{5 << 30:x}-{(5 << 30) + 256 * MIB - 1:x}")
    assert sizes == [256 * MIB, 512 * MIB]
    assert memory.size == 512 * MIB


@pytest.mark.parametrize("driver", [DEVICE_DAX, "bus/nd/drivers/dax_pmem"])
def test_a_fault_after_the_driver_has_gone_is_an_error(hands, driver):
    opened = hands.open("dax0.0")
    opened.write(0, b"before")
    assert opened.read(0, 6) == b"before"
    hands.write(f"{driver}/unbind", "dax0.0")
    with pytest.raises(KernelError) as refused:
        opened.read(0, 1)
    assert refused.value.errno == errno.ENXIO
    # What a process changed in a mapping arrives now.
    assert opened.write_late(6, b", late") == 6
    hands.write(f"{driver}/bind", "dax0.0")
    assert open_node(hands.machine.system.dev.find("dax0.0"), os.O_RDONLY).read(0, 12) == b"before, late"


def test_a_device_on_a_buffer_of_the_test_platform_can_be_opened():
    """Its pages are in no page map."""
    hands = Hands.described("nfit_test")
    hands.bring_up(0, "dax", mode="ram")
    assert open_node(hands.machine.system.dev.find("dax0.0"), os.O_RDWR)
    hands.write(f"{DEVICE_DAX}/unbind", "dax0.0")
    with pytest.raises(KernelError) as refused:
        open_node(hands.machine.system.dev.find("dax0.0"), os.O_RDWR)
    assert refused.value.errno == errno.ENXIO
