"""DIMMs that are plugged into a guest: what QEMU is asked for."""

import pytest

from nvdimmfs.lab.errors import ImpossibleMachineError
from nvdimmfs.lab.hardware import hardware_of
from nvdimmfs.lab.hotplug import PLUG_FILE, plug
from nvdimmfs.lab.reboots import RebootingGuest
from nvdimmfs.machine_file.errors import MachineFileError
from nvdimmfs.machine_file.files import load_machine

MIB = 1 << 20
LABELLED = """
[[bus.dimm]]
handle = 5
size = "33M"
label = { size = "1M" }
[[bus.range]]
start = 0x1b0000000
size = "32M"
range_index = 10
dimms = ["0x5"]
"""
UNARMED = """
[[bus.dimm]]
handle = 6
label = { size = 0 }
flags = ["not_armed"]
family = -1
commands = ["cmd_call"]
[[bus.range]]
start = 0x1c0000000
size = "64M"
range_index = 12
dimms = ["0x6"]
"""


class RecordingMonitor:
    """A monitor that notes what it is asked for."""

    def __init__(self):
        self.lines = []

    def command(self, line):
        self.lines.append(line)


class IdleGuest:
    """A guest that answers each question with nothing."""

    def __init__(self):
        self.monitor = RecordingMonitor()
        self.asked = []

    def ask(self, calls, settle=0, together=0):
        self.asked += calls
        return ({} for _ in calls)


def test_a_dimm_is_plugged_in_with_its_label_area():
    monitor = RecordingMonitor()
    machine = plug(monitor, load_machine("qemu-nfit"), LABELLED)
    assert monitor.lines == [
        f"object_add memory-backend-ram,id=dimm5,size={33 * MIB}",
        f"device_add nvdimm,id=plugged5,memdev=dimm5,slot=4,addr=0x1b0000000,label-size={MIB}",
    ]
    plug(monitor, machine, UNARMED)
    assert monitor.lines[2:] == [
        f"object_add memory-backend-ram,id=dimm6,size={64 * MIB}",
        "device_add nvdimm,id=plugged6,memdev=dimm6,slot=5,addr=0x1c0000000,unarmed=on",
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (LABELLED.replace("0x1b0000000", "0x1b0001000"), ImpossibleMachineError),
        (LABELLED.replace("0x1b0000000", "0x190000000"), MachineFileError),
        ("bogus", MachineFileError),
    ],
    ids=["odd start", "taken memory", "no description"],
)
def test_a_device_that_cannot_be_plugged_in_is_not_asked_for(text, error):
    monitor = RecordingMonitor()
    with pytest.raises(error):
        plug(monitor, load_machine("qemu-nfit"), text)
    assert monitor.lines == []


def test_a_story_plugs_in_one_dimm_after_the_other():
    """Each is one more than those before, and the guest has as much rest after it as after a write."""
    guest = IdleGuest()
    calls = [
        {"op": "ls", "path": "bus"},
        *({"op": "write", "path": PLUG_FILE, "data": text} for text in (LABELLED, UNARMED)),
        {"op": "ls", "path": "class"},
    ]
    rebooting = RebootingGuest(guest, hardware_of(load_machine("qemu-nfit")))
    answers = [*rebooting.ask(calls, settle=0.25)]
    assert answers == [{}, {"wrote": len(LABELLED)}, {"wrote": len(UNARMED)}, {}]
    rest = {"op": "sleep", "seconds": 0.25}
    assert guest.asked == [calls[0], rest, rest, calls[3]]
    assert [dimm.handle for dimm in rebooting.hardware.machine.buses[0].dimms[-2:]] == [5, 6]
