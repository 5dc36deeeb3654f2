"""Calls that copy between files inside the kernel (docs/architecture.md, "Where a mount is not sysfs")."""

import errno
import os
import shutil
import subprocess

import pytest

#: Growing and shrinking: from Linux 6.5 on, FUSE cuts what it copies to the length of an earlier text until fstat(2).
TEXTS = ("a", "a longer text", "b", "0123456789" * 30, "", "the last one")


def by_sendfile(source, target):
    os.sendfile(target.fileno(), source.fileno(), 0, 1 << 16)


def by_splice(source, target):
    reader, writer = os.pipe()
    try:
        while count := os.splice(source.fileno(), writer, 1 << 12):
            os.splice(reader, target.fileno(), count)
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("copy", [by_sendfile, by_splice])
def test_a_copy_of_an_attribute_is_its_current_text(mount, tmp_path, copy):
    value, copied = mount.directory / "sys/plain/value", tmp_path / "copied"
    for text in TEXTS:
        value.write_text(f"{text}\n")
        for _ in range(2):
            with value.open("rb") as source, copied.open("wb") as target:
                os.fstat(source.fileno())
                copy(source, target)
            assert copied.read_text() == f"{text}\n"
            assert value.read_text() == f"{text}\n", "and read(2) is not misled by what was copied"


@pytest.mark.parametrize("program", [["cp"], ["cp", "--reflink=auto", "--sparse=always"], ["dd", "status=none"], None])
def test_programs_that_copy_get_the_current_text(mount, tmp_path, program):
    value, copied = mount.directory / "sys/plain/value", tmp_path / "copied"
    for text in TEXTS:
        value.write_text(f"{text}\n")
        if program is None:
            shutil.copyfile(value, copied)
        else:
            operands = [f"if={value}", f"of={copied}"] if program[0] == "dd" else [value, copied]
            subprocess.run([*program, *operands], check=True)
        assert copied.read_text() == f"{text}\n"


@pytest.mark.parametrize("copy", [by_sendfile, by_splice])
def test_copying_into_an_attribute_is_a_store(mount, tmp_path, copy):
    value, text = mount.directory / "sys/plain/value", tmp_path / "text"
    text.write_text("copied\n")
    with text.open("rb") as source, value.open("wb") as target:
        copy(source, target)
    assert value.read_text() == "copied\n"


@pytest.mark.parametrize("outward", [True, False])
def test_copy_file_range_is_refused_as_in_sysfs(mount, tmp_path, outward):
    value, other = mount.directory / "sys/plain/value", tmp_path / "other"
    other.write_text("other\n")
    source, target = (value, other) if outward else (other, value)
    with (
        source.open("rb") as read,
        target.open("r+b") as written,
        pytest.raises(OSError, match="cross-device") as refusal,
    ):
        os.copy_file_range(read.fileno(), written.fileno(), 100)
    assert refusal.value.errno == errno.EXDEV
