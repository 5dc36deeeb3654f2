"""Uevents reach the real libudev, in a private network namespace."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import libudev
import pytest

from nvdimmfs.formats.udev_message import PROPERTIES_SIZE
from nvdimmfs.machine.machine import Machine

PROGRAM = Path(libudev.__file__)
WAYS = ("root", "user", "nobody")
MEMMAP = "512M!4G"

DEVPATH = "/devices/platform/e820_pmem/ndbus0/region0"
DISK = {
    "DEVPATH": f"{DEVPATH}/namespace0.0/block/pmem0",
    "SUBSYSTEM": "block",
    "MAJOR": "259",
    "MINOR": "0",
    "DEVNAME": "pmem0",
    "DEVTYPE": "disk",
}
REGION = {"DEVPATH": DEVPATH, "SUBSYSTEM": "nd", "DEVTYPE": "nd_pmem", "DRIVER": "nd_region", "MODALIAS": "nd:t2"}
BDI = {"DEVPATH": "/devices/virtual/bdi/259:0", "SUBSYSTEM": "bdi"}


class Listener:
    def __init__(self):
        self.events = []

    def uevent(self, event):
        self.events.append(event)


def event(action, sequence, properties):
    return {"ACTION": action, **properties, "SEQNUM": str(sequence)}


EVERY_ACTION = [
    event(action, number, REGION)
    for number, action in enumerate(("add", "change", "remove", "bind", "unbind", "move", "online", "offline"), 1)
]
MIXED = [event("add", 1, BDI), event("add", 2, DISK), event("bind", 3, REGION), event("change", 4, DISK)]


def listen(way, monitors, events=(), machine=None):
    """The events that each monitor received."""
    if way in ("root", "nobody") and os.geteuid() != 0:
        pytest.skip("needs root")
    try:
        libudev.load()
    except OSError as reason:
        pytest.skip(str(reason))
    order = json.dumps({"monitors": monitors, "events": list(events), "machine": machine})
    words = [sys.executable, "-W", "error", PROGRAM, way]
    done = subprocess.run(words, input=order, capture_output=True, text=True, check=False)
    if done.returncode == libudev.SKIPPED:
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def monitor(*filters, source="udev"):
    return {"source": source, "filters": filters}


def as_udev_has_it(properties):
    """The properties as libudev returns them: in no order, and DEVNAME with its directory."""
    name = {"DEVNAME": f"/dev/{properties['DEVNAME']}"} if "DEVNAME" in properties else {}
    return properties | name


@pytest.mark.parametrize("way", WAYS)
def test_a_listener_of_udev_receives_every_action(way):
    assert listen(way, [monitor(), monitor(("nd", None)), monitor(("nd", "nd_pmem"))], EVERY_ACTION) == [
        EVERY_ACTION,
        EVERY_ACTION,
        EVERY_ACTION,
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_filter_passes_only_its_subsystem_and_devtype(way):
    received = listen(
        way,
        [monitor(("block", None)), monitor(("block", "disk")), monitor(("block", "partition")), monitor(("bdi", None))],
        MIXED,
    )
    disk = [as_udev_has_it(each) for each in MIXED if each["SUBSYSTEM"] == "block"]
    assert received == [disk, disk, [], [MIXED[0]]]


@pytest.mark.parametrize("way", WAYS)
def test_a_listener_of_the_kernels_group_receives_the_same_events(way):
    """The sequence numbers are the host kernel's."""
    (received,) = listen(way, [monitor(source="kernel")], MIXED)
    numbers = [int(each.pop("SEQNUM")) for each in received]
    assert received == [
        {key: value for key, value in as_udev_has_it(each).items() if key != "SEQNUM"} for each in MIXED
    ]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("way", WAYS)
def test_a_machine_sends_the_uevents_of_its_disk(way):
    machine = Machine.legacy(MEMMAP, 4 << 30, clock="steps")
    listener = Listener()
    machine.system.listen(listener)
    libudev.rebind(machine)
    everything, disks = listen(way, [monitor(), monitor(("block", "disk"))], machine=MEMMAP)
    assert everything == [as_udev_has_it(dict(each.properties)) for each in listener.events]
    assert [each["ACTION"] for each in disks] == ["remove", "add"]


@pytest.mark.parametrize("more", [{"A=B": "c"}, {"A": "b\0c"}, {"A": "x" * PROPERTIES_SIZE}])
def test_properties_that_cannot_be_sent_are_refused(more):
    assert listen("user", [monitor()], [event("add", 1, REGION | more)]) == {"refused": errno.EINVAL}


#: Sends an event in the host's network namespace, as an unprivileged user.
TRESPASSER = """
import os
from nvdimmfs.errors import KernelError
from nvdimmfs.sandbox.uevents import UeventSender
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
with UeventSender() as sender:
    try:
        sender.send([("ACTION", "add"), ("DEVPATH", "/devices/x"), ("SUBSYSTEM", "nd"), ("SEQNUM", "1")])
    except KernelError as refusal:
        print(refusal)
"""


def test_sending_in_the_hosts_network_namespace_is_refused():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TRESPASSER], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "EPERM: cannot send uevents: Operation not permitted; only root of a private network namespace may send them\n"
    )
