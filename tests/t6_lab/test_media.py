"""Persistent memory that a guest's kernel wrote boots here, and what is written here boots there.

Both kinds of labels have each kind of namespace, made here and made there: BTT, pfn, dax, and a partition with a file
system.  One guest loses its power while it writes to a BTT, another shuts down with all that it wrote in its caches.
"""

import json
import shutil
import subprocess
import sys

import pytest
from partition_tables import entry, mbr
from poke import Hands

from nvdimmfs.lab.comparing import compared
from nvdimmfs.lab.recording import Step
from nvdimmfs.lab.trees import InProcess
from nvdimmfs.units import MIB

MACHINE = """
ram = "1G"

[[bus]]
provider = "ACPI.NFIT"

[[bus.dimm]]
handle = 0x1
size = "194M"
label = { size = "128K", initialised = "1.1" }

[[bus.dimm]]
handle = 0x2
size = "194M"
label = { size = "128K", initialised = "1.2" }

[[bus.range]]
start = 0x100000000
size = "192M"
dimms = ["0x1"]

[[bus.range]]
start = 0x110000000
size = "192M"
dimms = ["0x2"]
"""

DEVICES, DRIVERS = "bus/nd/devices", "bus/nd/drivers"
SIZE = 32 * MIB
FIRST_SECTOR = 2048
FILE_SYSTEM = 8 * MIB
TEXT = "written by the other kernel\n"

#: Blocks of the BTT that the guest writes to when QEMU is killed.
BLOCKS, BLOCK = 64, 4096
WRITER = f"""
import itertools, os
disk = os.open("/dev/pmem0s", os.O_WRONLY | os.O_DSYNC)
for turn in itertools.count(1):
    os.pwrite(disk, turn.to_bytes(4, "little") * {BLOCK // 4}, turn % {BLOCKS} * {BLOCK})
"""


#: What a guest writes to last, and how much of it is looked at.
LAST = {"pmem0s": BLOCK, "pmem1": SIZE}


def write(path, data):
    return {"op": "write", "path": path, "data": data}


def namespace(name, number):
    """Give a namespace a uuid and a size."""
    uuid = f"{number:08x}-1111-2222-3333-{number:012x}"
    return [write(f"{DEVICES}/{name}/uuid", uuid), write(f"{DEVICES}/{name}/size", str(SIZE))]


def claimed(name, number, seed, driver="nd_pmem", **settings):
    """A namespace that a btt, pfn or dax device claims."""
    settings |= {"uuid": f"{number:08x}-1111-2222-3333-00000000000c", "namespace": name}
    return [
        *namespace(name, number),
        *(write(f"{DEVICES}/{seed}/{key}", value) for key, value in settings.items()),
        write(f"{DRIVERS}/{driver}/bind", seed),
    ]


def raw(name, number, disk):
    """A namespace with a partition."""
    table = mbr(entry(0x83, FIRST_SECTOR, FILE_SYSTEM // 512))
    bind, unbind = (write(f"{DRIVERS}/nd_pmem/{verb}", name) for verb in ("bind", "unbind"))
    return [
        *namespace(name, number),
        bind,
        {"op": "pwrite", "dev": disk, "offset": 0, "hex": table.hex()},
        unbind,
        bind,
    ]


def pwrite(disk, byte):
    return {"op": "pwrite", "dev": disk, "offset": 1 << 20, "hex": f"{byte:02x}" * BLOCK}


#: What is made here, the btt on labels of version 1.1, and what the guest makes, the other way round.
MADE_HERE = [
    *claimed("namespace0.0", 1, "btt0.0", sector_size="4096"),
    *raw("namespace0.1", 2, "pmem0.1"),
    *claimed("namespace1.0", 3, "pfn1.0", mode="pmem", align="2097152"),
    *claimed("namespace1.1", 4, "dax1.0", driver="dax_pmem", mode="pmem", align="2097152"),
    pwrite("pmem0s", 1),
    pwrite("pmem0.1", 2),
    pwrite("pmem1", 3),
]
MADE_THERE = [
    *claimed("namespace0.2", 5, "pfn0.0", mode="ram", align="4096"),
    *claimed("namespace0.3", 6, "dax0.0", driver="dax_pmem", mode="pmem", align="2097152"),
    *claimed("namespace1.2", 7, "btt1.0", sector_size="512"),
    *raw("namespace1.3", 8, "pmem1.3"),
    pwrite("pmem0.2", 5),
    pwrite("pmem1.2s", 7),
    pwrite("pmem1.3", 8),
]
DISKS_HERE = ("pmem0s", "pmem0.1", "pmem1")
DISKS = (*DISKS_HERE, "pmem0.2", "pmem1.2s", "pmem1.3")


def questions(disks):
    """Everything about the regions, and the bytes of disks."""
    skip = ["/power", "/block", "/firmware", "/nfit", "/dax_region", "/uevent"]
    return [
        *({"op": "dump", "path": f"{DEVICES}/region{number}/", "depth": 2, "skip": skip} for number in (0, 1)),
        *({"op": "read", "path": f"class/block/{disk}/size"} for disk in disks),
        *({"op": "pread", "dev": disk, "offset": 1 << 20, "length": BLOCK} for disk in disks),
        *({"op": "pread", "dev": "pmem0s", "offset": BLOCK * number, "length": BLOCK} for number in range(BLOCKS)),
    ]


def shell(line):
    return {"op": "run", "argv": ["sh", "-c", line]}


@pytest.fixture
def guest(lab, tmp_path):
    """Asks a guest that boots on a folder of media."""
    (tmp_path / "machine.toml").write_text(MACHINE)

    def ask(media, calls, *options):
        words = ["lab", "ask", "--machine", str(tmp_path / "machine.toml"), "--media", str(media), *options, "-"]
        text = "".join(json.dumps(call) + "\n" for call in calls)
        command = [sys.executable, "-m", "nvdimmfs", *words]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line)["result"] for line in done.stdout.splitlines()]

    return ask


def ask_here(media, calls):
    """Boot an emulated machine on a folder of media, and ask it."""
    hands = Hands.described(MACHINE, media)
    try:
        return list(InProcess(hands.machine).ask(calls))
    finally:
        hands.machine.close()


def differences(calls, there, here):
    """Where two machines answer differently."""
    return [
        both
        for call, expected, answer in zip(calls, there, here, strict=True)
        for both in compared(Step(call, expected), answer)
        if not both.agrees
    ]


def refused(calls, answers):
    return [pair for pair in zip(calls, answers, strict=True) if "errno" in pair[1] or pair[1].get("rc")]


def copy_of(media, place):
    subprocess.run(["cp", "-r", "--sparse=always", media, place], check=True)
    return place


def file_system(folder):
    """The bytes of a file system with a file."""
    image = folder / "image"
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", image, f"{FILE_SYSTEM >> 10}k"], check=True)
    (folder / "here").write_text(TEXT)
    subprocess.run(["debugfs", "-w", "-R", f"write {folder / 'here'} here", image], check=True, capture_output=True)
    return image.read_bytes()


def file_in(content, name, folder):
    """The text of a file in a file system of so many bytes."""
    image = folder / "read"
    image.write_bytes(content)
    done = subprocess.run(["debugfs", "-R", f"cat {name}", image], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.mark.skipif(shutil.which("debugfs") is None, reason="not installed: e2fsprogs")
def test_media_go_to_a_guest_and_come_back(guest, tmp_path):
    media = tmp_path / "media"
    image = {"op": "pwrite", "dev": "pmem0.1p1", "offset": 0, "hex": file_system(tmp_path).hex()}
    made = [*MADE_HERE, image]
    assert refused(made, ask_here(media, made)) == []

    asked = questions(DISKS_HERE)
    expected = ask_here(copy_of(media, tmp_path / "copy"), asked)
    mounts = [
        shell("modprobe ext4; mount -t ext4 /dev/pmem0.1p1 /mnt && cat /mnt/here"),
        shell(f"printf '{TEXT}' > /mnt/there; umount /mnt"),
        shell("mke2fs /dev/pmem1.3p1 && mount -t ext4 /dev/pmem1.3p1 /mnt"),
        shell(f"printf '{TEXT}' > /mnt/there; umount /mnt"),
    ]
    done = [*MADE_THERE, *mounts, shell(f"python3 -c '{WRITER}' > /dev/null 2>&1 &"), {"op": "sleep", "seconds": 1}]
    answers = guest(media, [*asked, *done], "--power-cut")
    assert differences(asked, answers[: len(asked)], expected) == []
    assert refused(done, answers[len(asked) :]) == []
    assert answers[len(asked) + len(MADE_THERE)]["stdout"] == TEXT

    asked = questions(DISKS)
    here = ask_here(copy_of(media, tmp_path / "killed"), asked)
    blocks = [bytes.fromhex(answer["hex"]) for answer in here[-BLOCKS:]]
    assert all(block == block[:4] * (BLOCK // 4) for block in blocks)
    assert any(map(any, blocks))
    bytes_of = {"op": "pread", "offset": 0, "length": FILE_SYSTEM}
    for answer in ask_here(media, [{**bytes_of, "dev": disk} for disk in ("pmem0.1p1", "pmem1.3p1")]):
        assert file_in(bytes.fromhex(answer["hex"]), "there", tmp_path) == TEXT
    assert differences(asked, guest(media, asked), here) == []


@pytest.mark.skipif(shutil.which("debugfs") is None, reason="not installed: e2fsprogs")
def test_a_guest_that_shuts_down_loses_nothing(guest, tmp_path):
    media = tmp_path / "media"
    made = [*claimed("namespace0.0", 1, "btt0.0", sector_size="4096"), *namespace("namespace1.0", 2)]
    assert refused(made, ask_here(media, made)) == []

    done = [
        shell("modprobe ext4 && mke2fs /dev/pmem1 && mount -t ext4 /dev/pmem1 /mnt"),
        shell(f"printf '{TEXT}' > /mnt/there"),
        shell(f"printf '{TEXT}' > /dev/pmem0s"),
    ]
    assert refused(done, guest(media, done)) == []

    cached, whole = ({"op": "pread", "dev": disk, "offset": 0, "length": length} for disk, length in LAST.items())
    text, content = (bytes.fromhex(answer["hex"]) for answer in ask_here(media, [cached, whole]))
    assert text.startswith(TEXT.encode())
    assert file_in(content, "there", tmp_path) == TEXT
