"""The messages between a sandbox and its machine."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.formats.control import (
    ControlError,
    Copied,
    DeviceEvent,
    Done,
    Fault,
    Ioctl,
    Listed,
    Listen,
    ListNodes,
    Message,
    Nodes,
    RefusalEvent,
    StaleDiskEvent,
    Waited,
    Watch,
    WriteMemory,
    decode,
    encode,
)

NUMBERS = st.integers(0, 2**64)
MESSAGES = st.one_of(
    st.builds(Ioctl, st.text(), *(NUMBERS,) * 4, st.booleans(), st.booleans(), ahead=st.binary()),
    st.builds(WriteMemory, NUMBERS, st.binary(), st.booleans(), NUMBERS),
    st.builds(Copied, st.binary(), st.binary()),
    st.just(Fault()),
    st.just(Listen()),
    st.builds(
        RefusalEvent,
        *(st.text(), st.text(), st.binary(), NUMBERS, st.lists(st.text()).map(tuple), NUMBERS, NUMBERS),
    ),
    st.builds(Listed, st.lists(st.text()).map(tuple), st.lists(st.tuples(st.text(), st.text())).map(tuple)),
    st.builds(
        Nodes,
        st.lists(st.tuples(st.text(), NUMBERS, NUMBERS, st.text(), NUMBERS, st.booleans())).map(tuple),
    ),
    st.builds(Watch, st.lists(st.text()).map(tuple)),
    st.builds(DeviceEvent, NUMBERS, st.lists(st.tuples(st.text(), st.text())).map(tuple)),
    st.builds(StaleDiskEvent, NUMBERS, st.text()),
)


@given(MESSAGES)
def test_a_message_survives_the_way(message):
    assert decode(encode(message)) == message


def test_a_message_is_one_json_object_with_its_kind():
    assert json.loads(encode(Done(7))) == {"Done": {"sequence": 7}}
    refusal = RefusalEvent("write", "uuid", b"\xff\0", 22, (), 7, 0)
    assert json.loads(encode(refusal))["RefusalEvent"]["data"] == "/wA="


def test_bytes_of_memory_follow_the_object():
    assert encode(Copied(b"\xff\n", b"\0")) == b'{"Copied":{"data":2,"ahead":1}}\n\xff\n\0'
    assert encode(Copied(b"")) == b'{"Copied":{"data":0,"ahead":0}}'


@pytest.mark.parametrize("memory", [b"", b"a", b"abcd", b"\nabc"])
def test_bytes_of_memory_that_are_not_as_many_as_announced_are_refused(memory):
    with pytest.raises(ControlError):
        decode(b'{"Copied":{"data":1,"ahead":2}}\n' + memory)


@given(st.one_of(st.binary(), st.sampled_from(sorted(Message.kinds)).map(lambda kind: f'{{"{kind}":{{}}}}'.encode())))
def test_anything_else_is_refused(data):
    with contextlib.suppress(ControlError):
        assert decode(data) in (Fault(), Listen(), ListNodes(), Waited())


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "null",
        '{"Message":{}}',
        '{"Load":{"name":3}}',
        '{"Load":{"name":"nd_e820","more":1}}',
        '{"Done":{"sequence":true}}',
        '{"Done":{"sequence":1.5}}',
        '{"Copied":{"data":"*"}}',
        '{"Copied":{"data":null}}',
        '{"Copied":{"data":-1,"ahead":1}}',
        '{"Copied":{"data":true,"ahead":0}}\na',
        '{"Load":{"name":"nd_e820"},"Fault":{}}',
        '{"DeviceEvent":{"sequence":1,"properties":[["a"]]}}',
        '{"DeviceEvent":{"sequence":1,"properties":["ab"]}}',
        '{"Nodes":{"nodes":[["char",1,2,"nmem0",0]]}}',
        '{"Nodes":{"nodes":[["char",1,2,"nmem0",0,0]]}}',
        '{"Watch":{"directories":"bus"}}',
        '{"Watch":{"directories":{"bus":1}}}',
        "[" * 100_000,
    ],
)
def test_mistakes_are_refused(text):
    with pytest.raises(ControlError):
        decode(text.encode())
