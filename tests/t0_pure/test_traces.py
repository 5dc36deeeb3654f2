"""The forms of a trace: text that nothing in it can break, JSON Lines that the schema describes, and selections."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import attrs
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.core.trace import flags_text
from nvdimmfs.traces import effects
from nvdimmfs.traces.event import Op, TraceEvent, TraceState
from nvdimmfs.traces.json_lines import (
    Dropped,
    TraceFormatError,
    decoded,
    dropped_line,
    line_of,
    state_line,
)
from nvdimmfs.traces.selection import REFUSED, SELECTORS, selects
from nvdimmfs.traces.text import call_text, dropped_text, state_text, text_of

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
SCHEMA = jsonschema.Draft7Validator(json.loads((REFERENCE / "trace.schema.json").read_text()))
PAGE = (REFERENCE / "trace.md").read_text()

WRITE = TraceEvent(
    number=7,
    time=0.6,
    host_time=1_700_000_000.25,
    op=Op.WRITE,
    path="/sys/bus/nd/drivers/nd_pmem/bind",
    pid=4711,
    command="bash",
    offset=0,
    size=7,
    data=b"pfn0.0\n",
    data_size=7,
    result=7,
    effects=(
        effects.Probed("nd_pmem", "pfn0.0"),
        effects.InfoBlockWritten("pfn0.0", "namespace0.0", 4096, 4096, depth=1),
        effects.UeventSent("bind", "/devices/pfn0.0", "nd", 81),
    ),
)

#: Names and reasons as hostile as user space can make them: any character, and what stands for bytes that are no UTF-8.
texts = st.text(max_size=20) | st.text(
    st.characters(categories=["Cc", "Cf", "Zl", "Zp"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    max_size=20,
)
#: Numbers that every reader of JSON represents exactly.
numbers = st.integers(0, 2**53 - 1)
OF_TYPE = {"str": texts, "int": numbers, "float": st.floats(0, 1e9)}


def chapter(title: str) -> str:
    """A chapter of the page."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def words_of_rows(text: str) -> set[str]:
    """The words in the first column of a table."""
    return {name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}


def effects_of(kind: type[effects.Effect]) -> st.SearchStrategy[effects.Effect]:
    fields = {field.name: OF_TYPE[getattr(field.type, "__name__", field.type)] for field in attrs.fields(kind)}
    return st.builds(kind, **fields | {"depth": st.integers(0, 5)})


events = st.builds(
    TraceEvent,
    number=st.integers(1, 2**40),
    time=st.floats(0, 1e6),
    host_time=st.floats(0, 1e11),
    op=st.sampled_from([op.value for op in Op]),
    path=texts,
    pid=st.none() | st.integers(1, 2**22),
    command=texts,
    flags=texts,
    request=texts,
    offset=st.none() | numbers,
    size=st.none() | numbers,
    data=st.binary(max_size=100),
    data_size=numbers,
    output=st.binary(max_size=100),
    output_size=numbers,
    result=st.none() | numbers,
    errno=st.none() | st.integers(1, 600),
    reason=texts,
    effects=st.lists(st.one_of([effects_of(kind) for kind in effects.KINDS.values()]), max_size=3).map(tuple),
    omitted=st.integers(0, 5),
)


class TestText:
    def test_a_call_reads_like_strace_and_its_effects_are_indented(self):
        head, *below = text_of(WRITE).splitlines()
        assert re.fullmatch(
            r'\d\d:\d\d:\d\d\.250000 \[    0\.600000\] bash\[4711\] write\("/sys/bus/nd/drivers/nd_pmem/bind", '
            r'"pfn0\.0\\n", 7\) = 7',
            head,
        )
        assert below == [
            "    nd_pmem probes pfn0.0: bound",
            "        the info block of pfn0.0 is written to namespace0.0, 4096 bytes at 4096",
            "    uevent 81: bind /devices/pfn0.0 (nd)",
        ]

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"result": None, "errno": errno.EBUSY, "reason": "it is bound"}, '"x", 1) = -1 EBUSY (it is bound)'),
            ({"result": None, "errno": errno.EBUSY}, '"x", 1) = -1 EBUSY'),
            ({"result": None, "errno": 524}, '"x", 1) = -1 524'),
            ({"data": b'\x1b[2J\r\n\0\xff"\\'}, r'"\x1b[2J\r\n\x00\xff\"\\", 1) = 1'),
            ({"data": b"x" * 100, "data_size": 5000}, f'"{"x" * 64}"..., 1) = 1'),
            ({"data": b"x" * 64, "data_size": 64}, f'"{"x" * 64}", 1) = 1'),
            ({"offset": 512}, '"x", 1, at 512) = 1'),
            ({"pid": None, "command": ""}, '"x", 1) = 1'),
            ({"command": ""}, '?[1] write("/f", "x", 1) = 1'),
            ({"command": "a\x1b]0;b\n"}, r'a\x1b]0;b\n[1] write("/f", "x", 1) = 1'),
            ({"path": '/a"\\\n\u202e'}, r'write("/a\"\\\n\u202e", "x", 1) = 1'),
        ],
    )
    def test_arguments_and_answers(self, changes, text):
        event = TraceEvent(op="write", path="/f", pid=1, command="c", size=1, data=b"x", data_size=1, result=1)
        shown = call_text(attrs.evolve(event, **{"data_size": len(changes.get("data", b"x"))} | changes))
        assert shown.endswith(text)

    def test_an_ioctl_shows_both_directions(self):
        event = TraceEvent(op="ioctl", path="/dev/nmem0", request="GET_SIZE (0x4)", data=b"\0", data_size=1)
        assert call_text(event) == 'ioctl("/dev/nmem0", GET_SIZE (0x4), in "\\x00", out "") = ?'

    def test_poll_shows_the_events_by_name(self):
        assert call_text(TraceEvent(op="poll", path="/f", result=0x0B)) == 'poll("/f") = POLLIN|POLLPRI|POLLERR'
        assert call_text(TraceEvent(op="poll", path="/f", result=0)) == 'poll("/f") = 0'

    def test_events_without_a_caller(self):
        assert call_text(TraceEvent(op="kernel")) == "--- the kernel is at work ---"
        assert call_text(TraceEvent(op="boot")) == "--- the machine boots ---"

    def test_omitted_effects_and_dropped_events_are_counted(self):
        assert text_of(attrs.evolve(WRITE, omitted=3)).endswith("\n    ... and 3 more\n")
        assert state_text(TraceState(False, 9, 0, 0)) == "--- the trace is off, with room for 9 lines ---\n"
        assert state_text(TraceState(True, 9, 20, 2)).endswith(
            "is on, with room for 9 lines; 2 events were dropped ---\n"
        )
        assert dropped_text(1) == "--- 1 event was dropped ---\n"
        assert dropped_text(2) == "--- 2 events were dropped ---\n"

    @settings(max_examples=50, deadline=None)
    @given(events)
    def test_nothing_breaks_a_line_or_controls_a_terminal(self, event):
        text = text_of(event)
        assert all(line.isprintable() for line in text.split("\n"))
        assert text.count("\n") == event.lines + bool(event.omitted)
        text.encode()


class TestJson:
    @settings(max_examples=50, deadline=None)
    @given(events)
    def test_a_line_is_valid_and_says_everything(self, event):
        line = line_of(event)
        assert line.isascii()
        assert line.count("\n") == 1
        assert line[:-1].isprintable()
        SCHEMA.validate(json.loads(line))
        assert decoded(line) == event

    def test_the_other_lines(self):
        state = TraceState(on=True, size=10, recorded=5, dropped=0)
        for line, meaning in ((state_line(state), state), (dropped_line(17), Dropped(17))):
            SCHEMA.validate(json.loads(line))
            assert decoded(line) == meaning

    @pytest.mark.parametrize(
        "line", ["", "{", "[]", "1", "null", '{"op":1,"x":2}', '{"op":"read","data":"\u0100"}', '{"effects":[{}]}']
    )
    def test_anything_else_is_refused(self, line):
        with pytest.raises(TraceFormatError, match="not a line of a trace"):
            decoded(line)

    def test_another_version_is_refused(self):
        with pytest.raises(TraceFormatError, match="version 2"):
            decoded('{"trace":{"version":2,"new":1}}')

    def test_every_key_and_kind_is_documented(self):
        keys = {field.name for field in attrs.fields(TraceEvent)}
        definitions = json.loads((REFERENCE / "trace.schema.json").read_text())["definitions"]
        assert definitions["event"]["properties"].keys() == keys
        assert definitions.keys() - {"event", "dropped", "header"} == effects.KINDS.keys()
        assert words_of_rows(chapter("Events")) - {"key"} == keys
        rows = re.findall(r"^\| (`.*?) \| .*? \| (.*) \|$", chapter("Effects"), re.MULTILINE)
        assert words_of_rows(chapter("Effects")) - {"kind"} == effects.KINDS.keys()
        for kinds, fields in rows[1:]:
            for name in re.findall(r"`(\w+)`", kinds):
                wanted = {field.name for field in attrs.fields(effects.KINDS[name])} - {"depth"}
                assert wanted <= set(re.findall(r"`(\w+)`", fields)), name

    def test_every_call_is_documented(self):
        table = chapter("What is in it").partition("\n\nWhat the host")[0]
        named = re.findall(r"^\| .*? \| (`.*?`) \|", table, re.MULTILINE)
        assert {word for cell in named for word in re.findall(r"`(\w+)`", cell)} - {"op"} == {op.value for op in Op}


class TestSelection:
    @pytest.mark.parametrize(
        ("words", "selected"),
        [
            ((), {"open", "write", "refused write", "ioctl", "kernel"}),
            (("writes",), {"write", "refused write"}),
            (("writes", "ioctls"), {"write", "refused write", "ioctl"}),
            ((REFUSED,), {"refused write"}),
            (("writes", REFUSED), {"refused write"}),
            (("ioctls", REFUSED), set()),
            (("kernel",), {"kernel"}),
        ],
    )
    def test_words(self, words, selected):
        trace = {op: TraceEvent(op=op) for op in ("open", "write", "ioctl", "kernel")}
        trace["refused write"] = TraceEvent(op="write", errno=errno.EBUSY)
        assert {name for name, event in trace.items() if selects(words, event)} == selected

    def test_every_call_has_a_word(self):
        assert set().union(*SELECTORS.values()) == {op.value for op in Op}


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (0, "O_RDONLY"),
        (1, "O_WRONLY"),
        (3, "3"),
        (0o1002, "O_RDWR|O_TRUNC"),
        (0o42000 + 1, "O_WRONLY|O_APPEND|O_DIRECT"),
    ],
)
def test_flags_by_name(flags, text):
    assert flags_text(flags) == text
