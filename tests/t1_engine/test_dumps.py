"""Dumps of a sysfs as text, and what differs between two of them."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.dumps.difference import differences
from nvdimmfs.dumps.dump import dump_of_folder, rows_of_place
from nvdimmfs.dumps.text import HEADER, DumpError, Row, rows_of, text_of
from nvdimmfs.testing import Engine

ND = "sys/bus/nd"
RECORDED = Path(__file__).resolve().parents[1] / "recordings" / "dumps" / "e820.dump"

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
ROWS = st.one_of(
    st.builds(Row, st.just("-rw-r--r--"), PATHS, st.binary()),
    st.builds(Row, st.just("-r--------"), PATHS, errno=st.sampled_from(("EACCES", "ENXIO", "E512"))),
    st.builds(Row, st.just("lrwxrwxrwx"), PATHS, target=PATHS),
    st.builds(Row, st.sampled_from(("drwxr-xr-x", "--w-------")), PATHS),
)


def rows(*lines: str) -> list[Row]:
    return list(rows_of("\n".join((HEADER, *lines, "")), "test"))


class TestText:
    @given(st.lists(ROWS, unique_by=lambda row: row.path))
    def test_a_dump_is_read_as_it_was_written(self, given_rows):
        text = text_of(given_rows)
        assert text.isascii()
        assert list(rows_of(text, "test")) == sorted(given_rows, key=lambda row: row.path.split("/"))

    def test_a_path_keeps_bytes_that_are_not_utf_8(self):
        row = Row("drwxr-xr-x", os.fsdecode(b"a \xff\\"))
        assert row.text == r"drwxr-xr-x a\x20\xff\x5c"
        assert list(rows_of(text_of([row]), "test")) == [row]

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "does not begin"),
            ("something else\n", "does not begin"),
            (f"{HEADER}0\n", "does not begin"),
            (HEADER, "no end"),
            (f"{HEADER}\ndrwxr-xr-x bus", "no end"),
            (f"{HEADER}\ndrwxr-xr-x bus\nbus/nd\n", "line 3"),
            (f"{HEADER}\n-r--r--r-- size 5\n", "line 2"),
            (f'{HEADER}\n-r--r--r-- size "5\n', "line 2"),
            (f'{HEADER}\n-r--r--r-- size "\\q"\n', "line 2"),
            (f'{HEADER}\n-r--r--r-- size "\u20ac"\n', "line 2"),
        ],
    )
    def test_a_text_that_is_no_dump(self, text, problem):
        with pytest.raises(DumpError, match=problem) as error:
            list(rows_of(text, "x.dump"))
        assert str(error.value).startswith("x.dump: ")
        assert "\n" not in str(error.value)

    @settings(max_examples=40)
    @given(st.lists(ROWS, max_size=5, unique_by=lambda row: row.path), st.data())
    def test_a_damaged_dump_is_read_or_refused(self, given_rows, data):
        text = text_of(given_rows)
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(text)))
            end = place + data.draw(st.integers(0, 3))
            text = text[:place] + data.draw(st.text(max_size=3)) + text[end:]
        with contextlib.suppress(DumpError):
            assert all(row.text.isascii() for row in rows_of(text, "test"))


class TestDifferences:
    DEVICE = ("drwxr-xr-x devices/a", '-rw-r--r-- devices/a/uevent ""')
    OTHER = ("drwxr-xr-x devices/a/b", '-rw-r--r-- devices/a/b/uevent ""', '-r--r--r-- devices/a/b/size "1"')

    @pytest.mark.parametrize(
        ("before", "after", "lines"),
        [
            ((), (), []),
            ((), OTHER, ["device b appeared"]),
            (OTHER, (), ["device b is gone"]),
            (OTHER, ("lrwxrwxrwx bus/nd/devices/b -> x",), ["device b is gone"]),
            (
                ("-r--r--r-- devices/a/size ENXIO",),
                ('-r--r--r-- devices/a/size "1\\n"',),
                [r'attribute size of device a: ENXIO -> "1\n"'],
            ),
            (
                ('-r--r--r-- devices/a/g/x "1"',),
                ('-rw-r--r-- devices/a/g/x "1"',),
                ["mode of attribute g/x of device a: r--r--r-- -> rw-r--r--"],
            ),
            ((), ('-r--r--r-- devices/a/x "1"',), ['attribute x of device a appeared: "1"']),
            (("drwxr-xr-x devices/a/g", "--w------- devices/a/g/x"), (), ["directory g of device a is gone"]),
            (
                ("lrwxrwxrwx devices/a/firmware_node -> ../x",),
                ("lrwxrwxrwx devices/a/firmware_node -> ../y",),
                ["link firmware_node of device a: ../x -> ../y"],
            ),
            (
                ("lrwxrwxrwx devices/a/driver -> ../bus/nd/drivers/d", "lrwxrwxrwx bus/nd/drivers/d/a -> ../a"),
                (),
                ["driver of device a: d -> none"],
            ),
            (
                ("drwxr-xr-x bus/nd/drivers/d", "--w------- bus/nd/drivers/d/bind"),
                (),
                ["driver d of bus nd is gone"],
            ),
            (("--w------- devices/a/x",), ("lrwxrwxrwx devices/a/x -> y",), ["attribute x of device a became a link"]),
            (("lrwxrwxrwx devices/a/x -> y",), ("--w------- devices/a/x",), ["link x of device a became an attribute"]),
            (("--w------- bus/nd/x",), (), ["attribute bus/nd/x is gone"]),
        ],
    )
    def test_the_words(self, before, after, lines):
        assert differences(rows(*self.DEVICE, *before), rows(*self.DEVICE, *after)) == lines

    def test_devices_with_the_same_name_are_named_by_path(self):
        inner = ("drwxr-xr-x devices/a/a", '-rw-r--r-- devices/a/a/uevent ""')
        assert differences(rows(*self.DEVICE), rows(*self.DEVICE, *inner)) == ["device devices/a/a appeared"]

    @given(st.lists(ROWS, unique_by=lambda row: row.path), st.lists(ROWS, unique_by=lambda row: row.path))
    def test_two_dumps_differ_if_their_texts_do(self, one, two):
        assert bool(differences(one, two)) == (text_of(one) != text_of(two))


class TestEngine:
    def test_the_differences_that_a_write_makes(self):
        with Engine(memmap="512M!4G") as engine:
            before = engine.dump()
            assert engine.diff(before) == []
            engine.write(f"{ND}/drivers/nd_pmem/unbind", "namespace0.0")
            assert engine.diff(before)[:2] == [
                "device pmem0 is gone",
                "driver of device namespace0.0: nd_pmem -> none",
            ]
            engine.modules.unload("dax_pmem")
            assert "driver dax_pmem of bus nd is gone" in engine.diff(before)
            with pytest.raises(ValueError, match="before: not a dump"):
                engine.diff("")

    def test_the_dump_of_a_real_kernel_is_the_same(self):
        recorded = RECORDED.read_text(encoding="ascii")
        with Engine(memmap="512M!4G,256M!6G", ram="8G") as engine:
            assert engine.diff(recorded) == []
            assert engine.dump() == recorded

    def test_time_does_not_pass_for_a_dump(self):
        with Engine("nfit_test", clock="steps") as engine:
            now = engine.clock.now
            assert engine.dump() == engine.dump()
            assert engine.clock.now == now


class TestFolders:
    def test_a_copy_of_a_sysfs(self, tmp_path):
        for folder in ("bus/nd/devices", "devices/pci/nd/power", "devices/other", "class/nd"):
            (tmp_path / "sys" / folder).mkdir(parents=True)
        device = tmp_path / "sys/devices/pci/nd"
        (device / "uevent").write_bytes(b"\xff")
        (device / "size").write_text("1\n")
        (device / "power/control").write_text("auto\n")
        os.mkfifo(device / "pipe")
        (tmp_path / "sys/bus/nd/devices/nd").symlink_to("../../../devices/pci/nd")
        (tmp_path / "sys/bus/nd/devices/outside").symlink_to("../../../../../../etc")
        for folder in (tmp_path, tmp_path / "sys"):
            assert [row.path for row in rows_of(dump_of_folder(folder), "test")] == [
                "bus/nd",
                "bus/nd/devices",
                "bus/nd/devices/nd",
                "bus/nd/devices/outside",
                "class/nd",
                "devices/pci/nd",
                "devices/pci/nd/pipe",
                "devices/pci/nd/size",
                "devices/pci/nd/uevent",
            ]
        file = tmp_path / "x.dump"
        file.write_text(dump_of_folder(tmp_path))
        assert differences(rows_of_place(tmp_path), rows_of_place(file)) == []

    @pytest.mark.parametrize("link", ["bus/nd", "devices/pci"])
    def test_no_link_leads_out_of_a_copy(self, tmp_path, link):
        outside, copy = tmp_path / "outside", tmp_path / "copy"
        for folder in ("bus/nd/devices", "devices/pci/nd"):
            for root in (outside, copy):
                (root / folder).mkdir(parents=True)
        (outside / "devices/pci/nd/secret").write_text("secret")
        (copy / "bus/nd/devices/nd").symlink_to("../../../devices/pci/nd")
        shutil.rmtree(copy / link)
        (copy / link).symlink_to(outside / link)
        assert "secret" not in dump_of_folder(copy)

    def test_a_folder_that_is_no_sysfs(self, tmp_path):
        with pytest.raises(DumpError, match="neither a mount"):
            dump_of_folder(tmp_path)
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError):
            dump_of_folder(tmp_path / "file")
        with pytest.raises(FileNotFoundError):
            rows_of_place(tmp_path / "nothing")

    def test_a_file_of_other_bytes(self, tmp_path):
        (tmp_path / "file").write_bytes(b"\xff")
        with pytest.raises(DumpError, match="ASCII"):
            rows_of_place(tmp_path / "file")


def test_a_device_without_an_end_is_no_dump():
    with pytest.raises(DumpError, match="/dev/zero: not a dump: it does not begin with"):
        rows_of_place(Path("/dev/zero"))
