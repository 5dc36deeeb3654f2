"""The lab's questions, asked about a folder that looks like a small /sys."""

import io
import json
import sys

import pytest

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.lab_options import questions
from nvdimmfs.cli.main import main
from nvdimmfs.lab.asking import ask

KNOWN = (
    "read, write, ls, readlink, stat, dump, pread, pwrite, ioctl, hold, kill, mount, umount, uevents, watch, poll, "
    "run, sleep, reboot"
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sys" / "devices").mkdir(parents=True)
    (tmp_path / "sys" / "devices" / "size").write_text("512\n")
    (tmp_path / "sys" / "link").symlink_to("devices")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "iomem").write_text("nothing\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "pmem0").write_bytes(bytes(range(16)))
    return tmp_path


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ({"op": "read", "path": "devices/size"}, {"data": "512\n"}),
        ({"op": "read", "path": "../proc/iomem"}, {"data": "nothing\n"}),
        ({"op": "read", "path": "devices/size/"}, {"errno": "ENOTDIR"}),
        ({"op": "ls", "path": ""}, {"names": ["devices", "link"]}),
        ({"op": "ls", "path": "link/"}, {"names": ["size"]}),
        ({"op": "readlink", "path": "link"}, {"link": "devices"}),
        ({"op": "readlink", "path": "link/"}, {"errno": "EINVAL"}),
        ({"op": "write", "path": "devices/absent/size", "data": "1"}, {"errno": "ENOENT"}),
        ({"op": "pread", "dev": "/dev/pmem0", "offset": 4, "length": 3}, {"hex": "040506"}),
    ],
    ids=str,
)
def test_paths_are_asked_as_they_stand(folder, call, answer):
    assert ask(call, folder / "sys", folder / "dev") == answer


@pytest.mark.parametrize(("path", "kind"), [("link", "l"), ("link/", "d")])
def test_the_mode_of_a_link_and_of_what_it_leads_to(folder, path, kind):
    assert ask({"op": "stat", "path": path}, folder / "sys")["mode"][0] == kind


@pytest.mark.parametrize(("path", "rows"), [("link", ["link"]), ("link/", ["link/", "link//size"])])
def test_a_dump_of_a_link_and_of_what_it_leads_to(folder, path, rows):
    assert [row["path"] for row in ask({"op": "dump", "path": path}, folder / "sys")["rows"]] == rows


FIONREAD = 0x541B


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ({"request": FIONREAD, "hex": "ffffffff"}, {"result": 0, "hex": "10000000"}),
        ({"request": FIONREAD, "hex": "ffffffff", "open": "r"}, {"result": 0, "hex": "10000000"}),
        ({"request": FIONREAD, "hex": "10000000"}, {"result": 0}),
        ({"request": FIONREAD, "hex": "ffffff"}, {"errno": "EFAULT"}),
        ({"request": FIONREAD, "hex": ""}, {"errno": "EFAULT"}),
        ({"request": FIONREAD, "hex": "ffffffff", "value": 0}, {"errno": "EFAULT"}),
        ({"request": 0x1260, "hex": "00" * 8}, {"errno": "ENOTTY"}),
    ],
    ids=str,
)
def test_an_ioctl_reaches_its_memory_and_nothing_behind_it(folder, call, answer):
    """FIONREAD returns how many bytes of the file are left, an int."""
    assert ask({"op": "ioctl", "dev": "pmem0", **call}, folder / "sys", folder / "dev") == answer


def test_an_unknown_question_is_refused(folder):
    with pytest.raises(ValueError, match="there is no question 'ask'"):
        ask({"op": "ask"}, folder / "sys")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'\xff"op"', "not UTF-8: invalid start byte"),
        (b"read", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'["read"]', 'a question is an object with "op", such as "read"'),
        (
            b'{"op": "reed"}',
            f"there is no question 'reed'; there are {KNOWN}",
        ),
        (b'{"op": "write", "path": "x"}', 'write: needs "data"'),
        (b'{"op": "read", "path": "x", "depth": 1}', 'read: takes no "depth"'),
        (b'{"op": "read", "path": 1}', 'read: "path" must be a text without NUL'),
        (rb'{"op": "read", "path": "\u0000"}', 'read: "path" must be a text without NUL'),
        (rb'{"op": "read", "path": "\ud800"}', 'read: "path" must be a text without NUL'),
        (
            rb'{"op": "write", "path": "x", "data": "\u20ac"}',
            'write: "data" must be a text of characters up to U+00FF, each a byte',
        ),
        (b'{"op": "dump", "path": "x", "depth": "1"}', 'dump: "depth" must be a whole number, 0 or more'),
        (b'{"op": "dump", "path": "x", "skip": "/power"}', 'dump: "skip" must be a list of texts'),
        (
            b'{"op": "pread", "dev": "x", "offset": true, "length": 1}',
            'pread: "offset" must be a whole number of 64 bits',
        ),
        (
            b'{"op": "pread", "dev": "x", "offset": 0, "length": -1}',
            'pread: "length" must be a whole number, 0 or more',
        ),
        (
            b'{"op": "pwrite", "dev": "x", "offset": 0, "hex": "0"}',
            'pwrite: "hex" must be hexadecimal digits in lower case, two a byte',
        ),
        (
            b'{"op": "ioctl", "dev": "x", "request": 4294967296, "hex": ""}',
            'ioctl: "request" must be a whole number of 32 bits, 0 or more',
        ),
        (b'{"op": "ioctl", "dev": "x", "request": 1, "hex": "", "open": "w"}', 'ioctl: "open" must be "r" or "rw"'),
        (b'{"op": "run", "argv": []}', 'run: "argv" must be a list of texts, the first a program'),
        (b'{"op": "sleep", "seconds": NaN}', 'sleep: "seconds" must be a number from 0 to 1000000000'),
    ],
    ids=lambda text: repr(text[:50]),
)
@pytest.mark.parametrize("is_stdin", [False, True])
def test_a_line_that_is_no_question_is_named(tmp_path, monkeypatch, line, problem, is_stdin):
    data = b'{"op": "ls", "path": ""}\n' + line + b"\n"
    (tmp_path / "steps").write_bytes(data)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    name = "-" if is_stdin else str(tmp_path / "steps")
    with pytest.raises(CommandError) as refused:
        questions(name)
    assert str(refused.value) == f"{name}, line 2: {problem}"
    assert refused.value.status == MISUSED


def test_a_line_that_is_nested_too_deeply_is_named(tmp_path):
    (tmp_path / "steps").write_text("[" * 100_000)
    with pytest.raises(CommandError, match=r"steps, line 1: not JSON: "):
        questions(str(tmp_path / "steps"))


def test_questions_are_without_the_answers_that_a_line_has(tmp_path):
    path = "devices/\u2028"  # which ends a line of text, but none of this file
    line = {"op": "dump", "path": path, "depth": 1, "skip": ["/power"], "result": {"rows": []}, "unstable": True}
    (tmp_path / "steps").write_text(f"\n{json.dumps(line, ensure_ascii=False)}\r\n", encoding="utf-8")
    assert questions(str(tmp_path / "steps")) == [{"op": "dump", "path": path, "depth": 1, "skip": ["/power"]}]


def test_the_output_of_a_program_may_be_no_text(folder):
    call = {"op": "run", "argv": ["sh", "-c", r"printf 'a\377'; printf '\376b' >&2; exit 3"]}
    assert ask(call, folder / "sys") == {"rc": 3, "stdout": r"a\xff", "stderr": r"\xfeb"}


@pytest.mark.parametrize("option", ["--settle", "--timeout"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon"])
def test_times_are_checked_before_a_guest_boots(option, value, capsys):
    assert main(["lab", "ask", f"{option}={value}", "--shell", "true"]) == MISUSED
    expected = f"nvdimmfs: argument {option}: {value}: must be a number of seconds from 0 to 1000000"
    assert capsys.readouterr().err.startswith(expected)


@pytest.mark.parametrize(
    ("command", "option", "least"),
    [
        ("ask", "--cpus", 1),
        ("record", "--runs", 1),
        ("replay", "--show", 0),
        ("fuzz", "--moves", 1),
        ("fuzz", "--seed", 0),
        ("fuzz", "--walks", 1),
        ("fuzz", "--attempts", 0),
        ("fuzz", "--jobs", 1),
    ],
)
def test_numbers_are_checked_before_a_guest_boots(command, option, least, capsys):
    for value in (str(least - 1), "many", "1.5", ""):
        assert main(["lab", command, f"{option}={value}"]) == MISUSED
        expected = f"nvdimmfs: argument {option}: {value}: must be a whole number from {least} (see"
        assert capsys.readouterr().err.startswith(expected)


def test_a_power_cut_needs_media(capsys):
    assert main(["lab", "ask", "--power-cut", "--shell", "true"]) == MISUSED
    expected = "nvdimmfs: ask: --power-cut needs --media: other guests keep nothing that could be lost"
    assert capsys.readouterr().err.startswith(expected)
