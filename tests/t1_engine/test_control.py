"""The control channel, as a sandbox uses it, without a mount."""

import errno
import struct

import attrs
import pytest
from control_session import ControlSession
from machines import boot
from rules import parse_rule

from nvdimmfs.errors import KernelError
from nvdimmfs.formats import control
from nvdimmfs.formats.block_requests import BLKPG, BLKPG_ADD, BLKPG_DELETE, BLKRRPART, BlockRequest
from nvdimmfs.kernfs import Attribute

LEGACY = {"memmap": "512M!4G,256M!6G"}
DIMMS = {"machine": "qemu-nfit"}

#: ND_IOCTL_GET_CONFIG_SIZE and ND_IOCTL_GET_CONFIG_DATA (include/uapi/linux/ndctl.h).
GET_CONFIG_SIZE = 0xC00C4E04
GET_CONFIG_DATA = 0xC00C4E05
#: ND_IOCTL_ARS_CAP.
ARS_CAP = 0xC0204E01


def ioctl(number, request):
    return control.Ioctl("char", *number, request, argument=0, writable=True, privileged=True)


@pytest.fixture
def legacy():
    return ControlSession(boot(LEGACY))


@pytest.fixture
def dimms():
    return ControlSession(boot(DIMMS))


def test_an_ioctl_is_a_conversation(dimms):
    memory = bytearray(12)
    answer = dimms.request(ioctl(dimms.number("char", "nmem0"), GET_CONFIG_SIZE))
    while not isinstance(answer, control.Result):
        if isinstance(answer, control.ReadMemory):
            answer = dimms.request(control.Copied(bytes(memory[answer.offset : answer.offset + answer.length])))
        else:
            memory[answer.offset : answer.offset + len(answer.data)] = answer.data
            answer = dimms.request(control.Copied(b""))
    status, size, _ = struct.unpack("=III", memory)
    assert (answer.value, status, size) == (0, 0, 128 << 10)


def test_a_long_argument_comes_in_pieces(dimms):
    """Of 128 KiB of labels."""
    length = 128 << 10
    memory = bytearray(struct.pack("=III", 0, length, 0) + bytes(length))
    pieces = []
    answer = dimms.request(ioctl(dimms.number("char", "nmem0"), GET_CONFIG_DATA))
    while isinstance(answer, control.ReadMemory | control.WriteMemory):
        if isinstance(answer, control.ReadMemory):
            pieces.append(answer.length)
            answer = dimms.request(control.Copied(bytes(memory[answer.offset : answer.offset + answer.length])))
        else:
            pieces.append(len(answer.data))
            memory[answer.offset : answer.offset + len(answer.data)] = answer.data
            answer = dimms.request(control.Copied(b""))
    assert isinstance(answer, control.Result)
    assert max(pieces) <= 1 << 16
    assert sum(pieces) > 2 * length


def test_bytes_that_came_ahead_are_not_asked_for_again(dimms):
    """The kernel reads an argument three times: its length of data, what it finds sizes in, and all of it."""
    memory = struct.pack("=III", 0, 64, 0) + bytes(64)
    asked = dimms.request(ioctl(dimms.number("char", "nmem0"), GET_CONFIG_DATA))
    assert asked == control.ReadMemory(0, 4)
    answer = dimms.request(control.Copied(memory[:4], memory[4:]))
    assert isinstance(answer, control.WriteMemory)
    assert answer.data[:12] == memory[:12]
    assert dimms.request(control.Copied(b"")) == control.Result(0)


def test_bytes_that_did_not_all_come_ahead_are_asked_for(dimms):
    memory = struct.pack("=III", 0, 64, 0) + bytes(64)
    dimms.request(ioctl(dimms.number("char", "nmem0"), GET_CONFIG_DATA))
    assert dimms.request(control.Copied(memory[:4], memory[4:-1])) == control.ReadMemory(12, 64)


def test_bytes_that_came_with_the_call_are_not_asked_for(dimms):
    """One message each way, apart from the errors."""
    memory = struct.pack("=III", 0, 64, 0) + bytes(64)
    call = ioctl(dimms.number("char", "nmem0"), GET_CONFIG_DATA)
    answer = dimms.request(attrs.evolve(call, ahead=memory))
    assert isinstance(answer, control.WriteMemory)
    assert (answer.offset, len(answer.data), answer.is_last, answer.value) == (0, 76, True, 0)
    assert dimms.request(attrs.evolve(call, ahead=memory)) == answer
    assert dimms.request(attrs.evolve(call, ahead=memory[:-1])) == control.ReadMemory(12, 64)


def test_a_last_write_that_fails_is_efault(dimms):
    refusals = []
    dimms.machine.tree.refusals.listen(refusals.append)
    call = ioctl(dimms.number("char", "nmem0"), GET_CONFIG_SIZE)
    answer = dimms.request(attrs.evolve(call, ahead=bytes(12)))
    assert isinstance(answer, control.WriteMemory)
    assert answer.is_last
    assert dimms.request(control.Fault()).errno == errno.EFAULT
    assert [(refusal.path, refusal.errno) for refusal in refusals] == [("/dev/nmem0", errno.EFAULT)]


def test_a_refusal_after_an_ioctl_is_none_of_the_ioctl(dimms):
    """The session is used again for another request, whose refusal was reported as one of the device before."""
    refusals = []
    dimms.machine.tree.refusals.listen(refusals.append)
    call = ioctl(dimms.number("char", "nmem0"), GET_CONFIG_SIZE)
    assert isinstance(dimms.request(attrs.evolve(call, ahead=bytes(12))), control.WriteMemory)
    assert isinstance(dimms.request(control.Load("no_such")), control.Refused)
    assert refusals == []
    assert dimms.request(control.Copied(b"")).errno == errno.EINVAL


def test_a_write_in_pieces_is_last_with_the_last_piece(dimms):
    length = 128 << 10
    memory = struct.pack("=III", 0, length, 0) + bytes(length)
    answer = dimms.request(ioctl(dimms.number("char", "nmem0"), GET_CONFIG_DATA))
    last = []
    while isinstance(answer, control.ReadMemory | control.WriteMemory):
        if isinstance(answer, control.ReadMemory):
            answer = dimms.request(control.Copied(memory[answer.offset : answer.offset + answer.length]))
        else:
            last.append(answer.is_last)
            answer = dimms.request(control.Copied(b""))
    assert last == [False, False, True]
    assert isinstance(answer, control.Result)


def test_bytes_read_ahead_are_forgotten_while_a_call_waits(dimms):
    """The caller's memory may change while a fault rule delays the call."""
    dimms.machine.system.faults.add(parse_rule("ioctl dev/nmem0 delay=1s"))
    call = ioctl(dimms.number("char", "nmem0"), GET_CONFIG_SIZE)
    assert dimms.request(attrs.evolve(call, ahead=bytes(12))) == control.Wait(10**9)
    assert dimms.request(control.Waited()) == control.ReadMemory(0, 4)


def test_memory_that_is_not_there_is_efault(dimms):
    number = dimms.number("char", "nmem0")
    assert isinstance(dimms.request(ioctl(number, GET_CONFIG_SIZE)), control.ReadMemory)
    refused = dimms.request(control.Fault())
    assert isinstance(refused, control.Refused)
    assert refused.errno == errno.EFAULT


def finish(sandbox, answer):
    """Give an ioctl all the memory that it asks for, zeros; returns its end."""
    while isinstance(answer, control.ReadMemory | control.WriteMemory):
        length = answer.length if isinstance(answer, control.ReadMemory) else 0
        answer = sandbox.request(control.Copied(bytes(length)))
    return answer


@pytest.mark.parametrize("name", ["nmem0", "ndctl0"])
def test_an_ioctl_whose_device_goes_while_memory_is_copied_is_enxio(name):
    """A caller whose memory takes long to arrive keeps no device from being removed."""
    sandbox = ControlSession(boot({"machine": "nfit_test"}))
    request = GET_CONFIG_SIZE if name == "nmem0" else ARS_CAP
    asked = sandbox.request(ioctl(sandbox.number("char", name), request))
    assert isinstance(asked, control.ReadMemory)
    other = ControlSession(sandbox.machine)
    for device in sorted(sandbox.sys.find("bus/nd/devices"), key=lambda link: link.name):
        if device.name.startswith(("namespace", "region", "nmem")) and device.target.find("driver"):
            other.write(f"bus/nd/devices/{device.name}/driver/unbind", device.name)
    assert other.request(control.Unload("nfit_test")) == control.Result(0)
    end = finish(sandbox, asked)
    assert (type(end), getattr(end, "errno", None)) == (control.Refused, errno.ENXIO)


def test_a_partition_of_a_disk_that_goes_while_memory_is_copied_is_enxio(legacy):
    """As the kernel's bdev_add_partition, which also finds a dead disk behind an open file."""
    number = legacy.number("block", "pmem0")
    asked = legacy.request(control.Ioctl("block", *number, BLKPG, 0, writable=True, privileged=True))
    assert isinstance(asked, control.ReadMemory)
    legacy.write("bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    range_asked = legacy.request(control.Copied(struct.pack("=iii4xQ", BLKPG_ADD, 0, 152, 24)))
    assert (range_asked.offset, range_asked.length) == (24, 152)
    end = legacy.request(control.Copied(struct.pack("=qqi132x", 1 << 20, 1 << 20, 1)))
    assert (type(end), getattr(end, "errno", None)) == (control.Refused, errno.ENXIO)


def test_an_ioctl_that_is_given_up_leaves_others_alone(dimms):
    number = dimms.number("char", "nmem0")
    other = ControlSession(dimms.machine)
    stuck = dimms.request(ioctl(number, GET_CONFIG_SIZE))
    assert isinstance(stuck, control.ReadMemory)
    assert finish(other, other.request(ioctl(number, GET_CONFIG_SIZE))) == control.Result(0)
    dimms.session.close()
    assert finish(other, other.request(ioctl(number, GET_CONFIG_SIZE))) == control.Result(0)


@pytest.mark.parametrize("machine", [LEGACY, DIMMS])
def test_a_device_without_ioctls_answers_enotty(machine):
    sandbox = ControlSession(boot(machine))
    refused = sandbox.request(ioctl(sandbox.number("char", "ndctl0"), GET_CONFIG_SIZE))
    assert refused.errno == errno.ENOTTY


def test_an_unknown_number_is_no_device(legacy):
    assert legacy.request(ioctl((1, 3), GET_CONFIG_SIZE)).errno == errno.ENODEV


@pytest.mark.parametrize(
    "message",
    [control.Fault(), control.Copied(b"x"), control.Done(1), control.Result(0), control.ReadMemory(0, 1)],
    ids=lambda message: type(message).__name__,
)
def test_an_answer_without_a_question_is_refused(legacy, message):
    assert legacy.request(message).errno == errno.EINVAL


def test_more_than_was_asked_for_is_refused_and_ends_the_call(dimms):
    asked = dimms.request(ioctl(dimms.number("char", "nmem0"), GET_CONFIG_SIZE))
    assert dimms.request(control.Copied(bytes(asked.length + 1))).errno == errno.EINVAL
    assert dimms.request(control.Copied(bytes(asked.length))).errno == errno.EINVAL


def test_garbage_is_refused(legacy):
    with pytest.raises(KernelError) as refusal:
        legacy.session.write(b"garbage")
    assert refusal.value.errno == errno.EINVAL


@pytest.mark.parametrize("machine", [LEGACY, DIMMS, {"machine": "nfit_test"}])
def test_nodes_are_listed_as_sysfs_shows_them(machine):
    sandbox = ControlSession(boot(machine))
    _, minor = sandbox.number("block", "pmem0")
    sandbox.request(control.Renumber("block", *sandbox.number("block", "pmem0"), 7, 1000 + minor))
    expected = []
    for kind in ("char", "block"):
        for link in sorted(sandbox.sys.find(f"dev/{kind}"), key=lambda link: link.name):
            disk = [0, False]
            if kind == "block":
                disk = [int(shown(link.target, "queue/logical_block_size")), shown(link.target, "ro") == "1\n"]
            expected.append((kind, *map(int, link.name.split(":")), link.target.name, *disk))
    assert sandbox.request(control.ListNodes()) == control.Nodes(tuple(expected))


def test_a_partition_is_listed_with_the_blocks_of_its_disk(legacy):
    number = legacy.number("block", "pmem0")
    call = control.Ioctl("block", *number, BLKPG, 0, writable=True, privileged=True)
    legacy.request(call)
    legacy.request(control.Copied(struct.pack("=iii4xQ", BLKPG_ADD, 0, 152, 24)))
    assert legacy.request(control.Copied(struct.pack("=qqi132x", 1 << 20, 1 << 20, 1))) == control.Result(0)
    next(disk for disk in legacy.machine.system.numbered.values() if disk.name == "pmem0").read_only = True
    size = int(shown(legacy.sys.find("block/pmem0").target, "queue/logical_block_size"))
    nodes = [node[3:] for node in legacy.request(control.ListNodes()).nodes if node[0] == "block"]
    assert nodes == [("pmem0", size, True), ("pmem1", size, False), ("pmem0p1", size, True)]


def shown(directory, path):
    """The text of an attribute below a directory."""
    attribute = directory.find(path)
    assert isinstance(attribute, Attribute)
    return attribute.show().decode()


def test_a_device_goes_by_the_number_of_its_node(legacy):
    old = legacy.number("block", "pmem0")
    assert legacy.request(control.Renumber("block", *old, 7, 5)) == control.Result(0)
    assert legacy.sys.find("block").find("pmem0").target.find("dev").show() == b"7:5\n"
    assert "7:5" in legacy.sys.find("dev/block")
    assert f"{old[0]}:{old[1]}" not in legacy.sys.find("dev/block")
    assert b"MAJOR=7\nMINOR=5\n" in legacy.sys.find("block").find("pmem0").target.find("uevent").show()
    other = legacy.number("block", "pmem1")
    assert legacy.request(control.Renumber("block", *other, 7, 5)).errno == errno.EBUSY
    assert legacy.number("block", "pmem1") == other


def test_devices_go_by_the_numbers_of_their_nodes_as_far_as_they_can(legacy):
    first, second = legacy.number("block", "pmem0"), legacy.number("block", "pmem1")
    changes = (("block", *first, 7, 5), ("block", 7, 77, 7, 78), ("block", *second, 7, 5), ("block", 7, 5, 7, 6))
    assert legacy.request(control.RenumberAll(changes)) == control.Result(0)
    assert (legacy.number("block", "pmem0"), legacy.number("block", "pmem1")) == ((7, 6), second)


def test_a_renumbered_device_gives_its_own_number_back(legacy):
    old = legacy.number("block", "pmem0")
    legacy.request(control.Renumber("block", *old, 7, 5))
    legacy.write("bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    legacy.write("bus/nd/drivers/nd_pmem/bind", "namespace0.0")
    assert legacy.number("block", "pmem0") == old


def test_modules_come_and_go(legacy):
    assert legacy.request(control.Load("nd_e820")).errno == errno.EEXIST
    assert legacy.request(control.Unload("no_such")).errno == errno.ENOENT
    assert legacy.request(control.Unload(" device_dax\n")).errno == errno.ENOENT
    assert legacy.request(control.Unload("device_dax")) == control.Result(0)
    assert legacy.request(control.Unload("device_dax")).errno == errno.ENOENT
    assert legacy.request(control.Load("device_dax")) == control.Result(0)


def test_a_watcher_hears_of_devices_and_others_wait_for_it(legacy):
    assert legacy.request(control.Watch(())) is None
    assert not legacy.session.has_unacknowledged
    legacy.write("bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    assert legacy.session.has_unacknowledged
    events = [event.properties for event in legacy.events()]
    removed = [dict(properties) for properties in events if ("DEVNAME", "pmem0") in properties]
    assert [(event["ACTION"], event["SUBSYSTEM"]) for event in removed] == [("remove", "block")]
    assert legacy.request(control.Done(len(events))) is None
    assert not legacy.session.has_unacknowledged


def test_a_watcher_hears_of_entries(legacy):
    legacy.request(control.Watch(("", "devices/virtual")))
    for namespace in ("namespace0.0", "namespace1.0"):
        legacy.write("bus/nd/drivers/nd_pmem/unbind", namespace)
    gone = [event for event in legacy.events() if isinstance(event, control.EntryEvent)]
    assert [(event.path, event.present) for event in gone] == [("devices/virtual/bdi", False)]
    legacy.write("bus/nd/drivers/nd_pmem/bind", "namespace0.0")
    come = [event for event in legacy.events() if isinstance(event, control.EntryEvent)]
    assert [(event.path, event.present) for event in come] == [("devices/virtual/bdi", True)]


def test_a_watcher_is_told_of_disks_with_new_bad_sectors(legacy):
    """Its partitions are devices of their own.  A list that stays as it is, or gets shorter by a write, is no news."""
    legacy.request(control.Watch(()))
    legacy.write("class/block/pmem0/badblocks", "16 1")
    (event,) = legacy.events()
    assert event == control.StaleDiskEvent(1, "pmem0")
    assert legacy.session.has_unacknowledged
    legacy.write("class/block/pmem0/badblocks", "16 1")
    assert legacy.events() == []


def test_a_watcher_is_told_of_each_bad_sector_of_a_long_list(legacy):
    """`badblocks` has room for a page of text, which is not the whole list, and a list that is full has a part."""
    for sector in range(1_000_000, 1_000_000 + 511 * 16, 16):
        legacy.write("class/block/pmem0/badblocks", f"{sector} 1")
    legacy.request(control.Watch(()))
    with pytest.raises(KernelError, match="ENOSPC"):
        legacy.write("class/block/pmem0/badblocks", "2000000 1000")
    assert legacy.events() == [control.StaleDiskEvent(1, "pmem0")]
    with pytest.raises(KernelError, match="ENOSPC"):
        legacy.write("class/block/pmem0/badblocks", "3000000 1")
    assert legacy.events() == []


@pytest.mark.parametrize(("folder", "number"), [("no/such", errno.ENOENT), ("bus/nd/uevent", errno.ENOTDIR)])
def test_only_folders_are_watched(legacy, folder, number):
    assert legacy.request(control.Watch((folder,))).errno == number


def test_nobody_waits_for_a_watcher_that_has_gone(legacy):
    legacy.request(control.Watch(()))
    legacy.session.close()
    legacy.write("bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    assert legacy.events() == []


def test_a_disk_with_a_block_device_before_it_takes_sectors_as_they_come():
    """The page cache in front has written what it had to, and its read-only flag has been asked."""
    sandbox = ControlSession(boot({"machine": "nfit_test"}))
    (disk,) = (device for device in sandbox.machine.system.numbered.values() if device.name == "pmem0")
    file = sandbox.machine.system.dev.find("pmem0").data
    disk.badblocks.set(1, 2)
    disk.read_only = True
    with pytest.raises(KernelError):
        file.write(512, bytes(512))
    sandbox.request(control.Renumber("block", *sandbox.number("block", "pmem0"), 7, 5))
    file.write(512, bytes(512))
    assert disk.badblocks.show() == "2 1\n"


def lines(sandbox):
    """The events of one read."""
    return [control.decode(line) for line in sandbox.session.read().splitlines()]


def test_a_listener_receives_uevents_and_refusals_and_holds_nothing_up(legacy):
    assert legacy.request(control.Listen()) is None
    assert not legacy.session.has_message
    legacy.write("bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    unbind, *_ = [event for event in lines(legacy) if ("ACTION", "unbind") in event.properties]
    assert dict(unbind.properties)["DEVPATH"].endswith("/namespace0.0")
    assert not legacy.session.has_unacknowledged
    refusal = KernelError(errno.EBUSY, "it is in use")
    legacy.machine.tree.refusals.report(refusal, "write", "/sys/x", thread=7, data=bytes(1000))
    assert legacy.session.has_message
    (event,) = lines(legacy)
    assert (event.operation, event.path, event.data, event.errno) == ("write", "/sys/x", bytes(256), errno.EBUSY)
    assert (event.reasons, event.thread) == (("it is in use",), 7)
    legacy.session.close()
    legacy.machine.tree.refusals.report(refusal, "write", "/sys/x")
    assert lines(legacy) == []


def test_a_listener_receives_refused_ioctls(dimms):
    listener = ControlSession(dimms.machine)
    listener.request(control.Listen())
    refused = dimms.request(ioctl(dimms.number("char", "ndctl0"), 0xFFFF))
    (event,) = lines(listener)
    assert (event.operation, event.path, event.errno) == ("ioctl", "/dev/ndctl0", refused.errno)


def test_a_listener_that_never_reads_loses_the_oldest_events(legacy, monkeypatch):
    most = 2000  # more than one read returns
    monkeypatch.setattr("nvdimmfs.machine.listener.MOST_EVENTS", most)
    legacy.request(control.Listen())
    for number in range(most + 3):
        legacy.machine.tree.refusals.report(KernelError(errno.EINVAL), "write", str(number))
    events = []
    while read := lines(legacy):
        events += read
    assert events[0] == control.Lost(3)
    assert [event.path for event in events[1:]] == [str(number) for number in range(3, most + 3)]


def test_a_device_is_found_by_name(dimms):
    assert dimms.request(control.Find("nmem0")) == control.Found("char", *dimms.number("char", "nmem0"))
    assert dimms.request(control.Find("nmem7")) == control.Refused(errno.ENOENT, "there is no such device")


def test_directories_are_listed_by_one_request(dimms):
    reply = dimms.request(control.List(("", "bus", "bus/nd/devices", "missing", "kernel/debug/nvdimmfs/control")))
    assert reply.directories == ("", "bus", "bus/nd/devices")
    kinds = dict(reply.entries)
    assert (kinds["bus/nd"], kinds["bus/nd/devices/ndbus0"]) == ("directory", "link")
    expected = {name for name in kinds if name.startswith("bus/") and name.count("/") == 1}
    assert expected == {f"bus/{node.name}" for node in dimms.sys.find("bus")}


def test_large_directories_are_not_listed(legacy, monkeypatch):
    blocks = "devices/system/memory"
    entries = len(list(legacy.sys.find(blocks)))
    monkeypatch.setattr("nvdimmfs.machine.control.MOST_LISTED", entries)
    assert legacy.request(control.List((blocks, "bus"))).directories == (blocks,)
    monkeypatch.setattr("nvdimmfs.machine.control.MOST_LISTED", entries - 1)
    reply = legacy.request(control.List((blocks, "bus")))
    assert reply.directories == ("bus",)
    assert all(path.startswith("bus/") for path, _ in reply.entries)


@pytest.mark.parametrize(
    ("uses", "answers"),
    [
        ({}, (0, 0, 0)),
        ({"open_nodes": ("pmem0p1",)}, (errno.EBUSY, errno.EBUSY, 0)),
        ({"open_nodes": ("pmem0p1",), "claimed_nodes": ("pmem0p1",)}, (errno.EBUSY, errno.EBUSY, errno.EBUSY)),
        ({"open_nodes": ("pmem0",), "claimed_nodes": ("pmem0",)}, (0, errno.EBUSY, errno.EBUSY)),
        ({"open_nodes": ("pmem1",), "claimed_nodes": ("pmem1",)}, (0, 0, 0)),
    ],
)
def test_the_uses_that_a_request_names_prevent_what_those_that_the_machine_knows_do(legacy, uses, answers):
    """To delete a partition, to read the table again, and to set the size of a block: e820/holds and e820/mounts."""
    call = control.Ioctl("block", *legacy.number("block", "pmem0"), BLKPG, 0, writable=True, privileged=True, **uses)

    def change(operation, **others):
        legacy.request(attrs.evolve(call, **others))
        legacy.request(control.Copied(struct.pack("=iii4xQ", operation, 0, 152, 24)))
        return legacy.request(control.Copied(struct.pack("=qqi132x", 1 << 20, 1 << 20, 1)))

    change(BLKPG_ADD)
    deleted = change(BLKPG_DELETE)
    change(BLKPG_ADD, open_nodes=(), claimed_nodes=())
    read_again = legacy.request(attrs.evolve(call, request=BLKRRPART))
    legacy.request(attrs.evolve(call, request=BlockRequest.BLKBSZSET, argument=1 << 20))
    sized = legacy.request(control.Copied(struct.pack("=i", 4096)))
    assert tuple(getattr(answer, "errno", 0) for answer in (deleted, read_again, sized)) == answers
