"""The data about kernels is in order, and the documentation that is made of it is current."""

import importlib
import pkgutil
import subprocess
import sys
import uuid
from itertools import pairwise
from pathlib import Path

import pytest

import nvdimmfs
from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute
from nvdimmfs.formats.pfn import PfnInfoBlock
from nvdimmfs.kernels.device_rules import DeviceRules
from nvdimmfs.kernels.differences import Difference, Rules, version
from nvdimmfs.kernels.disk_rules import DiskRules
from nvdimmfs.kernels.info_block_rules import InfoBlockRules
from nvdimmfs.kernels.kernel import EMULATED_KERNELS, KERNEL_6_1, KERNELS, Kernel
from nvdimmfs.kernels.layout_rules import LayoutRules

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "kernels-doc"
DIFFERENCES = [
    each for rules in (Kernel, LayoutRules, InfoBlockRules, DeviceRules, DiskRules) for each in rules.differences()
]


def test_kernels_are_told_apart_by_their_release():
    assert [version(name) for name in ("rfc", "4.3", "4.15", "6.1")] == [(4, 2), (4, 3), (4, 15), (6, 1)]
    assert [version(name) for name in KERNELS] == sorted(map(version, KERNELS))
    assert KERNEL_6_1.name in EMULATED_KERNELS
    assert set(EMULATED_KERNELS) <= KERNELS.keys()


def test_a_value_holds_until_the_next_kernel_that_is_named():
    class Numbers(Rules):
        number = Difference("a number", "nowhere", {"4.3": 1, "4.15": 2, "5.7": 3})

    assert [Numbers(version(name)).number for name in ("4.3", "4.9", "4.15", "5.2", "5.7", "6.12")] == [
        1,
        1,
        2,
        2,
        3,
        3,
    ]
    assert Numbers.number.shown(version("rfc")) == "-"
    with pytest.raises(AssertionError, match="number has no value before"):
        _ = Numbers(version("rfc")).number


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.name)
def test_a_difference_is_one(difference):
    assert difference.description
    assert difference.source
    assert difference.values.keys() <= KERNELS.keys()
    steps = list(difference.values.items())
    assert len(steps) > 1, "the same in all kernels"
    for (older, before), (newer, after) in pairwise(steps):
        assert version(older) < version(newer)
        assert before != after, f"nothing changes in {newer}"


def test_every_value_can_be_shown():
    for difference in DIFFERENCES:
        for name in difference.values:
            assert difference.shown(version(name))


def test_an_attribute_exists_from_its_kernel_on():
    later = KernelAttribute("later", 0o400, lambda _: "", None, since="4.6", private_since="4.15")
    bits = [later.permissions_in(KERNELS[name], later.permissions) for name in ("4.5", "4.6", "4.9", "4.15", "6.1")]
    assert bits == [0, 0o444, 0o444, 0o400, 0o400]
    assert later.permissions_in(KERNEL_6_1, 0) == 0, "what a group hides stays hidden"


def test_an_attribute_exists_up_to_the_kernel_that_dropped_it():
    dropped = KernelAttribute("dropped", 0o444, lambda _: "", None, since="4.6", until="4.15")
    assert [name for name in KERNELS if dropped.exists_in(KERNELS[name])] == ["4.6", "4.9"]


def test_the_tables_are_current():
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def attributes_with_a_history():
    """Modules whose groups, or their attributes, are not in every kernel."""
    for package in ("core", "block", "dax", "nd", "drivers", "platforms"):
        path = [str(Path(nvdimmfs.__file__).parent / package)]
        for module in pkgutil.iter_modules(path, f"nvdimmfs.{package}."):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, AttributeGroup):
                    named = [each.name for each in value.attributes if each.since or each.until or each.private_since]
                    yield from named or ([value.name] if value.since else [])


def test_the_tables_have_every_attribute_that_is_not_in_all_kernels():
    text = (ROOT / "docs" / "reference" / "kernels.md").read_text()
    for name in attributes_with_a_history():
        assert any(form in text for form in (f"`{name}`", f"/{name}`", f"`{name}/")), name


@pytest.mark.parametrize(("minor", "known"), [(0, 4), (1, 4), (2, 4), (4, 4), (4, 0), (4, 1), (4, 2), (3, 1)])
def test_a_reader_sees_of_a_block_what_both_it_and_the_writer_know(minor, known):
    block = PfnInfoBlock(
        uuid=uuid.UUID(int=1),
        version_minor=minor,
        dataoff=8192,
        npfns=1,
        mode=1,
        start_pad=4096,
        end_trunc=8192,
        align=2 << 20,
        page_size=65536,
        page_struct_size=128,
    )
    seen, common = block.upgraded(known), min(minor, known)
    assert (seen.start_pad, seen.end_trunc) == ((4096, 8192) if common >= 1 else (0, 0))
    assert seen.align == (2 << 20 if common >= 2 else 0)
    assert (seen.page_size, seen.page_struct_size) == ((65536, 128) if common >= 4 else (4096, 64))


@pytest.mark.parametrize(("minor", "last"), [(0, 76), (1, 84), (2, 88), (3, 88), (4, 94)])
def test_a_trimmed_block_is_zero_behind_what_its_version_knows(minor, last):
    block = PfnInfoBlock(
        uuid=uuid.UUID(int=1),
        version_minor=minor,
        dataoff=8192,
        npfns=1,
        mode=1,
        start_pad=0x01010101,
        end_trunc=0x01010101,
        align=0x01010101,
        page_size=0x01010101,
        page_struct_size=0x0101,
    )
    raw = block.trimmed().to_bytes()
    assert raw[last - 1] != 0 or minor == 0
    assert raw[last:4088] == bytes(4088 - last)
