"""System calls of careless and hostile callers in a sandbox: the kernel's answers, and no crash."""

import json
import os
import platform
import sys
from pathlib import Path

import machines
import mounting
import pytest
import sandboxes
from sandboxes import run

from nvdimmfs.sandbox.host_characters import HostCharacters

pytestmark = pytest.mark.usefixtures("sandbox")

RECORDINGS = Path(__file__).parent.parent / "recordings"
#: What 6.1 answered, and what 6.12 did.
KERNELS = [RECORDINGS / "calls", RECORDINGS / "linux-6.12" / "calls"]
IOCTLS = RECORDINGS / "ioctl"
ASK = mounting.ROOT / "tests" / "guest" / "ask_calls.py"
ASK_DISKS = ASK.with_name("ask_disks.py")
ASK_ATTRIBUTES = ASK.with_name("ask_attributes.py")
ASK_32_BITS = ASK.with_name("ask_32_bits.py")
ASK_IOCTLS = ASK.with_name("ask_ioctls.py")
MAP = ASK.with_name("ask_mappings.py")
STORM = ASK.with_name("storm.py")

NFIT = ("--machine", "qemu-nfit")

LOAD_COMPRESSED = """
import ctypes, errno, lzma, os, pathlib
(module,) = pathlib.Path("/lib/modules", os.uname().release).rglob("kmem.ko")
file = os.memfd_create("kmem.ko.xz")
os.write(file, lzma.compress(module.read_bytes()))
libc = ctypes.CDLL(None, use_errno=True)
failed = libc.syscall(313, file, b"", 4)
print(errno.errorcode[ctypes.get_errno()] if failed else failed)
"""


def python(*arguments, options=NFIT, **more):
    """Run a Python program in a sandbox; it must succeed, and neither it nor the sandbox may print to stderr."""
    done = run(sys.executable, *arguments, options=options, **more)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def host():
    """The state of the host that a wrongly forwarded call would change."""
    modules = Path("/proc/modules")
    return modules.read_text() if modules.exists() else "", sorted(Path("/sys/module").iterdir())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="uses the system call numbers of x86-64")
@pytest.mark.parametrize("topic", ["modules", "ioctls"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_calls_get_the_kernels_answers(kernel, topic):
    before = host()
    assert not differences(kernel / topic, ASK, topic)
    assert host() == before


@pytest.mark.skipif(platform.machine() != "x86_64", reason="uses the system call numbers of x86-64")
@pytest.mark.parametrize(("kernel", "answer"), [("6.1", "ENOTSUP"), ("6.12", "0")])
def test_a_compressed_module_is_loaded_by_a_kernel_that_decompresses(kernel, answer):
    assert python("-c", LOAD_COMPRESSED, options=("--kernel", kernel)) == f"{answer}\n"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere no MAP_SYNC, and a file after mmap(2)")
@pytest.mark.parametrize("kernel", KERNELS)
def test_mappings_of_dax_devices_get_the_kernels_answers(kernel):
    assert not differences(kernel / "mappings", MAP)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="makes the calls of an i386 program")
@pytest.mark.skipif(HostCharacters.find() is None, reason="the host has no libnvdimm")
@sandboxes.needs_block_devices
@pytest.mark.parametrize("kernel", KERNELS)
def test_32_bit_programs_get_the_kernels_answers(kernel):
    assert not differences(kernel / "programs-of-32-bits", ASK_32_BITS)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="some of the calls are those of an i386 program")
@sandboxes.needs_block_devices
def test_disks_answer_as_the_kernels_do():
    assert not differences(KERNELS[0] / "disks", ASK_DISKS, "disks")


@pytest.mark.skipif(HostCharacters.find() is None, reason="the host has no libnvdimm")
@sandboxes.needs_block_devices
@pytest.mark.parametrize("kernel", KERNELS)
def test_character_devices_answer_as_the_kernels_do(kernel):
    assert not differences(kernel / "characters", ASK_DISKS, "characters")


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_attributes_answer_as_the_kernels_do(kernel):
    """Both kernels gave the same answers."""
    if os.geteuid():
        pytest.skip("a sandbox of an ordinary user has no other users")
    assert not differences(KERNELS[0] / "attributes", ASK_ATTRIBUTES, kernel=kernel)


def differences(story, *program, **machine):
    """The calls of a program that have another answer than in a recording, of the kernel and here."""
    first, *kernel = map(json.loads, story.with_suffix(".jsonl").read_text().splitlines())
    printed = python(*program, options=machines.options(first["machine"] | machine))
    here = [json.loads(line) for line in printed.splitlines()]
    assert [question for question, _ in here] == [question for question, _ in kernel]
    return [pair for pair in zip(kernel, here, strict=True) if pair[0] != pair[1]]


@sandboxes.needs_block_devices
@pytest.mark.parametrize("story", ["disks", "types"])
def test_ioctls_on_nodes_are_answered_as_by_the_engine(story):
    """The recordings are among those that t1_engine replays."""
    first, *lines = (IOCTLS / f"{story}.jsonl").read_text().splitlines()
    printed = python(ASK_IOCTLS, options=machines.options(json.loads(first)["machine"]), input="\n".join(lines))
    pairs = zip(map(json.loads, lines), map(json.loads, printed.splitlines()), strict=True)
    assert [pair for pair in pairs if pair[0] != pair[1]] == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="uses the system call numbers of x86-64")
@pytest.mark.parametrize("kind", ["crowd", "killed", "interrupted", "closing", "protecting", "modules", "mapping"])
def test_a_storm_of_calls_is_survived(kind):
    before = host()
    assert python(STORM, kind) == "done\n"
    assert host() == before
