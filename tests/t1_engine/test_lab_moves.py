"""Single kinds of moves of random walks, made many times."""

import random

import pytest

from nvdimmfs.formats.block_requests import BLKPG, BLKRRPART, BlockRequest
from nvdimmfs.formats.ndctl import CALL, PACKAGE_SIZE, DimmCommand, LabelWrite, Package
from nvdimmfs.lab import ioctl_tables, moves_disk, moves_holders, moves_hotplug, moves_ioctl, moves_nd, moves_watch
from nvdimmfs.lab.emulated import emulated
from nvdimmfs.lab.ioctl_tables import IoctlSubject, ioctl_subjects, ioctls_of
from nvdimmfs.lab.walker import Walker
from nvdimmfs.machine_file.files import load_machine


def asked(name, make, times):
    """The questions of a kind of move that is made so often on a new machine, and the answers."""
    with emulated(load_machine(name)) as tree:
        walker = Walker(tree, random.Random(1))
        for _ in range(times):
            make(walker)
    with emulated(load_machine(name)) as tree:
        return [*zip(walker.move, tree.ask(walker.move), strict=True)]


def ioctls_in(answered):
    """The ioctls among questions, and how often each was carried out."""
    found = {}
    for call, answer in answered:
        if call["op"] == "ioctl":
            for subject in ioctls_of(call["dev"], call["request"], bytes.fromhex(call["hex"])):
                found[subject] = found.get(subject, 0) + ("result" in answer)
    return found


def require_all_made(answered, *titles):
    """Every ioctl of these kinds of devices was made, and many were carried out."""
    made = ioctls_in(answered)
    for title in titles:
        subjects = {subject for subject in ioctl_subjects() if subject.title.startswith(title)}
        assert subjects <= made.keys()
        done = {subject for subject in subjects if made[subject]}
        assert len(done) > len(subjects) // 3


def test_every_request_of_disks_is_made():
    require_all_made(asked("e820", moves_ioctl.disk, 600), "ioctl(2) on disks")


def test_every_command_of_dimms_and_buses_is_made():
    """Labels are written as well while nobody uses them."""
    answered = asked("nfit_test", moves_ioctl.control, 400)
    require_all_made(answered, "ioctl(2) on DIMMs", "ioctl(2) on buses")
    written = {answer.get("errno", "") for call, answer in answered if call.get("request", 0) & 0xFF == 6}
    assert {"", "EBUSY"} <= written


def test_no_walk_waits_for_a_bus_without_a_scrub():
    """A guest with virtio-pmem devices, which waits as long as a real one, would be idle for most of a walk."""
    assert [call["op"] for call, _ in asked("virtio-pmem", moves_ioctl.control, 20)] == ["ioctl"] * 20
    calls = [call for call, _ in asked("nfit_test", moves_ioctl.control, 60)]
    of_buses = [number for number, call in enumerate(calls) if call.get("dev") == "ndctl0"]
    assert of_buses
    assert {(calls[number - 1]["op"], calls[number + 1]["op"]) for number in of_buses} == {("sleep", "sleep")}


def test_an_ioctl_that_is_new_in_a_table_is_made(monkeypatch):
    new = IoctlSubject("ioctl(2) on disks and partitions", "BLKNEW")
    monkeypatch.setitem(ioctl_tables._DISKS.requests, 0x40101299, new)
    answered = asked("e820", moves_ioctl.disk, 600)
    assert new in ioctls_in(answered)
    assert {len(call["hex"]) for call, _ in answered if call.get("request") == 0x40101299} & {32}


def test_nodes_are_held_and_what_that_prevents_is_tried():
    def make(walker):
        walker.choose((moves_disk.partition, moves_holders.hold, moves_holders.hold, moves_holders.kill))(walker)

    answered = asked("e820", make, 400)
    held = {(call["way"], answer.get("errno", "")) for call, answer in answered if call["op"] == "hold"}
    assert {("open", ""), ("exclusive", ""), ("exclusive", "EBUSY")} <= held
    assert {"", "EBUSY"} <= {answer.get("errno", "") for call, answer in answered if call.get("request") == BLKRRPART}
    assert {"", "EBUSY"} <= {answer.get("errno", "") for call, answer in answered if call.get("request") == BLKPG}
    assert all("result" in answer for call, answer in answered if call["op"] == "kill")


def test_no_process_keeps_a_dax_device():
    """The kernel does not survive all that walks do then."""
    with emulated(load_machine("e820")) as tree:
        walker = Walker(tree, random.Random(1))
        for _ in range(200):
            walker.choose((moves_nd.bring_up, moves_holders.hold))(walker)
            assert not [name for name in walker.held if name.startswith("dax")]
    ways = {call["way"] for call in walker.move if call["op"] == "hold" and call["dev"].startswith("dax")}
    assert ways == {"open", "mapped"}


def test_file_systems_are_mounted_and_leave_zeros():
    answered = asked("e820", moves_holders.file_system, 60)
    mounted = [call["dev"] for call, answer in answered if call["op"] == "mount" and "result" in answer]
    assert len(mounted) == sum(call["op"] == "umount" and "result" in answer for call, answer in answered) > 10
    (busy,) = {answer["errno"] for call, answer in answered if call["op"] == "ioctl" and "errno" in answer} - {"ENXIO"}
    assert busy == "EBUSY"
    with emulated(load_machine("e820")) as tree:
        write = {"op": "pwrite", "dev": "pmem0", "offset": 1024, "hex": "ab"}
        calls = [
            write,
            {"op": "mount", "dev": "pmem0"},
            {"op": "umount", "dev": "pmem0"},
            {**write, "op": "pread", "length": 1},
        ]
        assert [*tree.ask(calls)][-1] == {"hex": "00"}


def test_no_file_system_is_mounted_on_a_btt():
    """Its map would show in which order the file system wrote blocks."""

    def make(walker):
        walker.choose((moves_nd.bring_up, moves_nd.destroy, moves_holders.file_system))(walker)

    answered = asked("e820", make, 300)
    bound = {call["data"] for call, _ in answered if call.get("path", "").endswith("nd_pmem/bind")}
    assert {name for name in bound if name.startswith("btt")}
    mounted = {call["dev"] for call, answer in answered if call["op"] == "mount" and "result" in answer}
    assert mounted
    assert not {name for name in mounted if name.endswith("s")}


BTT_ON_NAMESPACE = (
    ("drivers/nd_pmem/unbind", "namespace0.0"),
    ("devices/btt0.0/uuid", "00000001-1111-2222-3333-000000000001"),
    ("devices/btt0.0/sector_size", "512"),
    ("devices/btt0.0/namespace", "namespace0.0"),
    ("drivers/nd_pmem/bind", "btt0.0"),
)


@pytest.mark.parametrize(("name", "is_deadly"), [("virtio-pmem", True), ("e820", False)])
def test_no_walk_writes_to_a_btt_on_virtio_pmem(name, is_deadly):
    """The kernel does not survive it; it survives reads, and on other memory writes, too."""
    zero = {"op": "ioctl", "request": BlockRequest.BLKZEROOUT.value, "hex": bytes(16).hex()}
    writes = [{"op": "pwrite", "offset": 0, "hex": "ab"}, zero, {"op": "mount"}, {"op": "umount"}]
    others = [{"op": "pread", "offset": 0, "length": 1}, {**zero, "request": BLKRRPART, "hex": ""}]
    with emulated(load_machine(name)) as tree:
        walker = Walker(tree, random.Random(1))
        for call in (*writes, *others):
            walker.ask({**call, "dev": "pmem0"})
        assert len(walker.move) == len(writes) + len(others)
        for path, data in BTT_ON_NAMESPACE:
            walker.write(f"bus/nd/{path}", data)
        walker.move.clear()
        for call in (*writes, *others):
            walker.ask({**call, "dev": "pmem0s"})
        asked_of_btt = [call["op"] for call in walker.move]
    assert asked_of_btt == [call["op"] for call in (others if is_deadly else [*writes, *others])]


def test_no_walk_reads_or_writes_nothing_in_a_label_area_of_qemu():
    """QEMU ends at that; the test platform does not."""

    def lengths(name):
        """How many bytes of labels were read or written, by the command, and by a CALL."""
        found = set()
        for call, _ in asked(name, moves_ioctl.control, 500):
            memory, command = bytes.fromhex(call.get("hex", "")), call.get("request", 0) & 0xFF
            if call.get("dev", "").startswith("nmem") and command == CALL and len(memory) >= PACKAGE_SIZE:
                package = Package.from_bytes(memory)
                if package.function in (DimmCommand.GET_DATA, DimmCommand.SET_DATA):
                    payload = memory[PACKAGE_SIZE:][: package.size_in][: LabelWrite.size()]
                    found.add(("CALL", LabelWrite.from_bytes(payload.ljust(LabelWrite.size(), b"\0")).length))
            elif command in (DimmCommand.GET_DATA, DimmCommand.SET_DATA) and len(memory) >= LabelWrite.size():
                found.add(("command", LabelWrite.from_bytes(memory).length))
        return found

    nothing = {("command", 0), ("CALL", 0)}
    assert nothing <= lengths("nfit_test")
    on_qemu = lengths("qemu-nfit-labelled")
    assert {way for way, _ in on_qemu} >= {"command"}
    assert not nothing & on_qemu


def test_dimms_are_plugged_into_free_slots_behind_all_memory():
    """Up to eight, each of which the kernel registers, and none where the firmware has no NFIT that grows."""

    def plugged(name):
        return [answer for call, answer in asked(name, moves_hotplug.plug, 9) if call["op"] == "write"]

    assert all("wrote" in answer for answer in plugged("qemu-nfit"))
    assert len(plugged("qemu-nfit")) == 6
    assert plugged("e820") == plugged("nfit_test") == plugged("virtio-pmem") == []


def test_files_are_watched_that_can_be_read():
    answered = asked("nfit_test", moves_watch.watch, 200)
    assert {call["op"] for call, _ in answered} == {"watch"}
    assert all(answer == {"result": 0} for _, answer in answered)
    names = {call["path"].rpartition("/")[2] for call, _ in answered}
    assert {"badblocks", "namespace_seed", "uevent"} < names
    assert not names & {"scrub", "security", "bind"}
