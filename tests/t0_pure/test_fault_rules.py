"""Fault rules: their texts, what they refuse, and the places that they match."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rules import parse_rule

from nvdimmfs.errors import KernelError, PowerIsCut
from nvdimmfs.faults.faults import Faults, commands_of
from nvdimmfs.faults.parse import Add, Clear, Remove, parse_orders
from nvdimmfs.faults.rule import Garbage, RuleError
from nvdimmfs.kernfs import (
    Attribute,
    Directory,
    FileKind,
    Files,
    FileTable,
    NumberedNames,
    NumberedNodes,
    Symlink,
    Tree,
)
from nvdimmfs.kernfs.pattern import matches_path
from nvdimmfs.media.memory import MemoryMedia

#: Rules, each in the form in which it is shown.
RULES = [
    "open sys/class/block/pmem0/size errno=EACCES",
    "read sys/bus/nd/devices/*/size errno=EIO times=2 after=1",
    "read sys/bus/nd/devices/region?/size uid=1000 comm=ndctl short=3",
    'read proc/iomem comm="Web Content" garbage=7',
    'write "sys/devices/with space/x" delay=500ms',
    "write sys/bus/nd/drivers/[a-n]*/bind errno=ENOMEM times=1 name=first-bind",
    "ioctl dev/nmem* errno=EINTR",
    "ioctl dev/ndctl0 delay=90s",
    "poll sys/bus/nd/devices/nmem*/nfit/flags comm=ndctl notified times=1",
    "poll sys/bus/nd/devices/ndbus0/nfit/scrub lost after=2",
    "poll */region0 delay=3s",
    "register namespace0.0 errno=ENOMEM",
    "register * delay=2min",
    "altmap pfn* errno=ENOMEM times=1",
    "media-read region0 errno=EIO after=3",
    "media-read nmem0 garbage=0",
    "media-read pmem-100000000-11fffffff sectors=8+3",
    "media-write * power-cut after=5",
    "media-write labels-ACPI.NFIT-1 short=0 times=1",
    "command nmem0 command=get_data,5,cmd_call:3 status=0x2",
    "command ndbus0 result=-16",
    "command test_dimm0 result=3",
]


@pytest.mark.parametrize("text", RULES)
def test_a_rule_is_shown_as_it_is_written(text):
    assert str(parse_rule(text)) == text


@pytest.mark.parametrize("text", RULES)
def test_the_list_of_rules_can_be_written_again(text):
    faults = Faults()
    fault = faults.add(parse_rule(text))
    (order,) = parse_orders(f"add {fault}")
    assert order == Add(fault.rule)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("read /sys/x errno=5", "read sys/x errno=EIO"),
        ("read sys/x errno=-5", "read sys/x errno=EIO"),
        ("read sys/x errno=EWOULDBLOCK", "read sys/x errno=EAGAIN"),
        ("read sys/x times=0x10 errno=EIO after=0", "read sys/x errno=EIO times=16"),
        ("read sys/x delay=1.5s", "read sys/x delay=1500ms"),
        ("read sys/x delay=0.0000001s", "read sys/x delay=0min"),
        ("media-read region0 sectors=8", "media-read region0 sectors=8+1"),
        ("command nmem0 command=0x4,smart status=1", "command nmem0 command=4,smart status=0x1"),
    ],
)
def test_other_forms_mean_the_same(text, shown):
    assert str(parse_rule(text)) == shown


def test_orders_stand_on_lines_of_their_own():
    text = "\n# a comment\nremove 3  # and one more\n\nclear\nremove first\nadd read sys/x errno=EIO\n"
    add = Add(parse_rule("read sys/x errno=EIO"))
    assert parse_orders(text) == [Remove("3"), Clear(), Remove("first"), add]


MISTAKES = {
    "read": "a rule begins with an operation and a path",
    "reed sys/x errno=EIO": 'operation: "reed" is not one of open, read,',
    "read sys/x": "a rule has one of errno, short, .* and it has none",
    "read sys/x errno=EIO short=1": "a rule has one of .*, not errno and short",
    "read sys/x errno=EIO errno=EIO": "errno: is given twice",
    "read sys/x errno": '"errno" is not KEY=VALUE or one of power-cut, notified, lost',
    "media-write * power-cut=1": '"power-cut=1" is not KEY=VALUE or one of power-cut, notified, lost',
    "read sys/x ernno=EIO": '"ernno" is not a key; the keys are errno,',
    "read sys/x errno=EFOO": 'errno: "EFOO" is not an errno; write for example EIO',
    "read sys/x errno=0": "errno: 0 is not an errno",
    "read sys/x errno=9999": 'errno: "9999" is not an errno',
    "read sys/x times=0 errno=EIO": "times: must be at least 1",
    "read sys/x after=-1 errno=EIO": 'after: "-1" is not a number such as 1',
    "read sys/x after=9999999999 errno=EIO": "after: 9999999999 is too large; the maximum is 2147483647",
    "read sys/x after=99999999999999999999999 errno=EIO": "after: 99999999999999999999999 is too large",
    "read sys/x delay=5": 'delay: "5" is not a time such as 500ms; the units are min, s, ms, us',
    "read sys/x delay=61min": "delay: 61min is more than 60min",
    "read sys/x comm=a-name-of-16-byt errno=EIO": "comm: .* is not the name of a process, of 1 to 15 bytes",
    "read sys/x name=1 errno=EIO": 'name: "1" is not a name',
    "read sys/x 'errno=EIO": "has no closing quote",
    "read x errno=EIO": 'path: "x" begins with none of sys, dev, proc',
    "read sys//x errno=EIO": 'path: "sys//x" is not a path below the mount',
    "read sys/../x errno=EIO": "is not a path below the mount",
    "read '' errno=EIO": "is not a path below the mount",
    "write sys/kernel/debug/nvdimmfs/* errno=EIO": "path: the files in sys/kernel/debug/nvdimmfs do not fail",
    "ioctl sys/x errno=EIO": 'path: "sys/x" is not a device, such as dev/nmem0',
    "register dev/pmem0 errno=EIO": 'path: "dev/pmem0" is not a name; register needs that of the device that owns',
    "read sys/x status=1": "status: read does not fail in this way; write one of errno, short, garbage, delay",
    "open sys/x short=1": "short: open does not fail in this way; write one of errno, delay",
    "altmap * errno=EIO": "errno: an altmap that has no room is ENOMEM",
    "register * errno=EIO uid=0": "uid: register is an act of the kernel, which no process requests",
    "read sys/x errno=EIO command=smart": "command: only a rule for the operation command has it",
    "command nmem0 errno=EIO command=smrt": 'command: "smrt" is not a number, cmd_call:NUMBER or one of ars_cap,',
    "media-write * power-cut times=1": "times: power-cut lasts",
    "media-read * sectors=8+0": 'sectors: "8\\+0" is not FIRST\\+COUNT',
    "media-read * sectors=1 after=1": "after: sectors are bad from the beginning",
    "command nmem0 result=x": 'result: "x" is not a number with a sign',
    "command nmem0 status=0x100000000": "status: 0x100000000 is too large",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_place(text):
    with pytest.raises(RuleError, match=MISTAKES[text]) as mistake:
        parse_rule(text)
    assert str(mistake.value).isprintable()


@pytest.mark.parametrize("text", ["ad read sys/x errno=EIO", "remove", "clear all", "add"])
def test_an_unknown_order_is_refused(text):
    with pytest.raises(RuleError):
        parse_orders(text)


def test_a_mistake_among_several_lines_names_the_line():
    with pytest.raises(RuleError, match='line 2: operation: "reed" is not one of'):
        parse_orders("add read sys/x errno=EIO\nadd reed sys/x errno=EIO\n")


WORDS = st.sampled_from([*(word for text in RULES for word in text.split()), "add", "remove", "clear", "#", "\n", '"'])


@given(st.one_of(st.text(), st.lists(WORDS, max_size=12).map(" ".join)))
def test_any_text_is_read_or_refused(text):
    try:
        orders = parse_orders(text)
    except RuleError as mistake:
        assert str(mistake).isprintable()  # noqa: PT017
        return
    for order in orders:
        if isinstance(order, Add):
            assert parse_orders(f"add {order.rule}") == [order]


# Counts


def decided(faults, path="sys/x", caller=None):
    return faults.decide(faults.reads, lambda pattern: pattern == path, path, caller)


def test_a_rule_applies_after_so_often_and_so_often():
    faults = Faults()
    fault = faults.add(parse_rule("read sys/x errno=EIO after=2 times=3"))
    assert [decided(faults) is fault for _ in range(7)] == [False, False, True, True, True, False, False]
    assert (fault.seen, fault.hits, fault.is_spent) == (5, 3, True)
    assert list(faults) == [fault]
    assert not faults.reads


def test_the_first_rule_that_applies_decides_and_others_do_not_count():
    faults = Faults()
    first, second = (faults.add(parse_rule(f"read sys/x errno={name} times=1")) for name in ("EIO", "EPERM"))
    assert [decided(faults) for _ in range(3)] == [first, second, None]
    assert (first.seen, second.seen) == (1, 1)


def test_delays_add_up_beside_another_action():
    faults = Faults()
    for text in ("delay=1s", "errno=EIO", "delay=500ms times=1"):
        faults.add(parse_rule(f"read sys/x {text}"))
    read = next(fault.rule.operation for fault in faults)
    assert faults.delay(read, lambda _: True, "sys/x") == 1_500_000_000
    assert faults.delay(read, lambda _: True, "sys/x") == 1_000_000_000
    assert decided(faults) is not None


def test_a_delay_of_the_kernel_prolongs_its_act():
    faults, prolonged = Faults(), []
    faults.prolong = prolonged.append
    faults.add(parse_rule("register * delay=2s"))
    faults.refuse(faults.registrations, "pfn0.0")
    assert prolonged == [2_000_000_000]


class Somebody:
    def __init__(self, uid, command):
        self.uid = uid
        self.command = command


@pytest.mark.parametrize(
    ("condition", "caller", "applies"),
    [
        ("uid=0", Somebody(0, "sh"), True),
        ("uid=0", Somebody(1, "sh"), False),
        ("comm=sh", Somebody(0, "sh"), True),
        ("comm=sh", Somebody(0, "bash"), False),
        ("uid=1 comm=sh", Somebody(1, "sh"), True),
        ("uid=1 comm=sh", Somebody(2, "sh"), False),
        ("uid=0", None, False),
        ("", None, True),
    ],
)
def test_a_rule_can_be_about_one_caller(condition, caller, applies):
    faults = Faults()
    faults.add(parse_rule(f"read sys/x errno=EIO {condition}"))
    assert (decided(faults, caller=caller) is not None) == applies


@pytest.mark.parametrize(
    ("written", "command", "function", "applies"),
    [
        ("get_data", 5, None, True),
        ("5", 5, None, True),
        ("get_data", 4, None, False),
        ("cmd_call", 10, 3, True),
        ("cmd_call:3", 10, 3, True),
        ("cmd_call:03", 10, 3, True),
        ("cmd_call:4", 10, 3, False),
        ("3", 10, 3, False),
    ],
)
def test_commands_have_words_and_numbers(written, command, function, applies):
    rule = parse_rule(f"command * errno=EIO command={written}")
    words = {4: "get_size", 5: "get_data", 10: "cmd_call"}
    assert bool(commands_of(command, words[command], function) & set(rule.commands)) == applies


def test_uncounted_calls_meet_the_rules_all_the_same():
    faults = Faults()
    fault = faults.add(parse_rule("read sys/x errno=EIO times=1"))
    with faults.uncounted():
        assert [decided(faults) for _ in range(2)] == [fault, fault]
    assert fault.hits == 0
    with faults.suspended():
        assert decided(faults) is None
    assert decided(faults) is fault


def test_rules_are_found_by_number_and_by_name():
    faults = Faults()
    first, second = (
        faults.add(parse_rule("read sys/x errno=EIO name=one")),
        faults.add(parse_rule("read sys/y short=1")),
    )
    assert (faults.find("one"), faults.find("1"), faults.find("2")) == (first, first, second)
    for which in ("", "3", "two"):
        with pytest.raises(KernelError) as refusal:
            faults.find(which)
        assert refusal.value.errno == errno.ENOENT
    with pytest.raises(KernelError) as refusal:
        faults.add(first.rule)
    assert refusal.value.errno == errno.EEXIST
    faults.remove(first)
    faults.remove(first)
    assert list(faults) == [second]
    faults.clear()
    assert not list(faults)


def test_there_are_not_too_many_rules(monkeypatch):
    monkeypatch.setattr("nvdimmfs.faults.faults.MOST_RULES", 10)
    faults = Faults()
    rule = parse_rule("read sys/x errno=EIO")
    for _ in range(10):
        faults.add(rule)
    with pytest.raises(KernelError) as refusal:
        faults.add(rule)
    assert refusal.value.errno == errno.ENOSPC


def test_each_hit_is_reported():
    faults, hits = Faults(), []
    faults.on_hit = hits.append
    fault = faults.add(parse_rule("read sys/x errno=EIO after=1"))
    for _ in range(3):
        decided(faults)
    assert hits == [fault, fault]


def test_garbage_is_the_same_each_time_and_differs_from_hit_to_hit():
    garbage = Garbage(7)
    assert garbage.replaced(8, 1) == garbage.replaced(8, 1) == bytes.fromhex("1bd1c24fde685e8f")
    assert garbage.replaced(8, 1) != garbage.replaced(8, 2) != Garbage(8).replaced(8, 2)


# Media


@pytest.fixture
def medium():
    media = MemoryMedia(1 << 20)
    media.write(0, b"abcdefgh")
    faults = Faults()
    media.connect("pmem-0-fffff", faults)
    return media, faults


def test_media_fail_as_declared(medium):
    media, faults = medium
    faults.aliases["region0"] = "pmem-0-fffff"
    for text in ("media-read region0 errno=EIO times=1", "media-write pmem-* errno=ENOSPC times=1"):
        faults.add(parse_rule(text))
    with pytest.raises(KernelError, match="fault rule 1"):
        media.read(0, 8)
    with pytest.raises(KernelError, match="fault rule 2"):
        media.write(0, b"x")
    media.write(0, b"X")
    assert media.read(0, 8) == b"Xbcdefgh"


def test_a_torn_write_leaves_its_beginning(medium):
    media, faults = medium
    faults.add(parse_rule("media-write * short=3 times=2"))
    media.write(0, b"123456")
    assert media.read(0, 8) == b"123defgh"
    media.zero(0, 8)
    assert media.read(0, 8) == b"\0\0\0defgh"


def test_media_can_return_and_take_garbage(medium):
    media, faults = medium
    reads = faults.add(parse_rule("media-read * garbage=7"))
    first, second = media.read(0, 8), media.read(0, 8)
    assert first == Garbage(7).replaced(8, 1) != second
    faults.remove(reads)
    faults.add(parse_rule("media-write * garbage=7"))
    media.write(0, bytes(8))
    assert media.read(0, 8) == Garbage(7).replaced(8, 1)
    media.zero(0, 8)
    assert media.read(0, 8) == Garbage(7).replaced(8, 1)


def test_when_the_power_is_cut_no_medium_takes_a_write(medium):
    media, faults = medium
    other = MemoryMedia(4096)
    other.connect("labels-x-1", faults)
    fault = faults.add(parse_rule("media-write pmem-* power-cut after=1"))
    other.write(0, b"1")
    media.write(0, b"1")
    for each in (media, other):
        with pytest.raises(PowerIsCut, match="the power of the machine is cut"):
            each.write(0, b"2")
    assert (media.read(0, 1), other.read(0, 1), fault.hits) == (b"1", b"1", 2)
    for removed in (faults.clear, lambda: faults.remove(fault)):
        with pytest.raises(KernelError) as refusal:
            removed()
        assert refusal.value.errno == errno.EBUSY


# Places


class Text:
    def show(self, _subject):
        return b"text\n"

    def store(self, _subject, _data):
        """Accepted."""


@pytest.fixture
def tree():
    """sys/bus/nd/devices/region0 leads to sys/devices/ndbus0/region0, which has `size` and a link `up`."""
    tree = Tree()
    sys = tree.root.add(Directory("sys"))
    bus = sys.add(Directory("devices")).add(Directory("ndbus0"))
    devices = sys.add(Directory("bus")).add(Directory("nd")).add(Directory("devices"))
    for number in range(300):
        region = bus.add(Directory(f"region{number}"))
        region.add(Attribute("size", 0o644, Text(), None))
        region.add(Symlink("up", bus))
        devices.link(region.name, region)
    memory = sys.add(Directory("memory"))
    names = NumberedNames("memory", (range(1 << 19),))
    memory.add_family(NumberedNodes(names, block, are_directories=True))
    return tree


def block(number):
    directory = Directory(f"memory{number}")
    directory.populate_lazily(Files(FileTable({"state": FileKind(0o644, Text())}), None))
    return directory


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("sys/devices/ndbus0/region7/size", True),
        ("sys/devices/*/region7/size", True),
        ("sys/devices/*/*/*", True),
        ("sys/devices/*/size", False),
        ("sys/bus/nd/devices/region7/size", True),
        ("sys/bus/nd/devices/region?/s*", True),
        ("sys/bus/nd/devices/region8/size", False),
        ("sys/bus/nd/devices/namespace*/size", False),
        ("sys/bus/*/devices/region[0-7]/size", True),
        ("sys/bus/nd/devices/region299/up/region7/size", True),
        ("sys/bus/nd/devices/region299/u?/region7/size", True),
        ("sys/bus/nd/devices/region7/up/size", False),
        ("sys/bus/nd/nowhere/region7/size", False),
        ("*/*/*/*/*/*", True),
        ("*/*/*/*/*/*/*/*", True),
        ("*/*/*/*", False),
        ("sys/bus/nd/devices/*/*/*/size", True),
        ("size", False),
    ],
)
def test_a_pattern_finds_what_a_shell_would(tree, pattern, matches):
    node = tree.root.find("sys/devices/ndbus0/region7/size")
    assert matches_path(node, pattern) == matches


def test_a_pattern_instantiates_no_family(tree):
    memory = tree.root.find("sys/memory")
    state = memory.find("memory7/state")
    assert matches_path(state, "sys/memory/*/state")
    assert matches_path(state, "sys/memory/memory?/state")
    assert not matches_path(state, "sys/memory/memory8/state")
    assert not matches_path(state, "*/memory/memory8?/state")
    assert len(list(memory.instantiated)) < 10


def test_a_removed_file_is_nowhere(tree):
    node = tree.root.find("sys/devices/ndbus0/region7/size")
    tree.root.find("sys/devices/ndbus0").remove("region7")
    assert not matches_path(node, "sys/devices/*/*/size")
