"""FUSE requests while there are fault rules: errors, callers, and delays that hold up nobody else."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest
import trio
from asking import CONTEXT
from rules import parse_rule
from trio.testing import MockClock

HOUR = 3600


def declare(ask, text):
    return ask.tree.faults.add(parse_rule(text))


def test_requests_fail_as_declared(ask):
    fault = declare(ask, "open sys/plain/value errno=EACCES times=1")
    assert ask.errno("open", ask.inode("sys/plain/value"), os.O_RDONLY, CONTEXT) == errno.EACCES
    handle = ask.open("sys/plain/value", os.O_RDWR)
    declare(ask, "read sys/plain/value errno=EIO times=1")
    declare(ask, "write sys/plain/value errno=ENOSPC times=1")
    assert ask.errno("read", handle, 0, 4096) == errno.EIO
    assert ask.errno("write", handle, 0, b"x") == errno.ENOSPC
    ask("write", handle, 0, b"y")
    assert ask("read", handle, 0, 4096) == b"y\n"
    assert fault.hits == 1


def test_the_rest_of_a_text_is_no_other_read(ask):
    """cat(1) reads until the end of the file; a rule counts one read of the attribute."""
    fault = declare(ask, "read sys/plain/value errno=EIO after=1")
    assert ask.read("sys/plain/value")
    handle = ask.open("sys/plain/constant")
    text = ask("read", handle, 0, 4096)
    assert ask("read", handle, len(text), 4096) == b""
    assert fault.seen == 1


def caller(uid, pid):
    return SimpleNamespace(uid=uid, gid=0, pid=pid, umask=0)


@pytest.mark.parametrize(("uid", "refused"), [(1000, True), (0, False)])
def test_the_caller_of_a_read_is_who_opened_the_file(ask, uid, refused):
    declare(ask, "read sys/plain/value errno=EIO uid=1000")
    handle = ask("open", ask.inode("sys/plain/value"), os.O_RDONLY, caller(uid, 0)).fh
    if refused:
        assert ask.errno("read", handle, 0, 4096) == errno.EIO
    else:
        assert ask("read", handle, 0, 4096)


def test_a_process_has_the_name_that_proc_shows(ask):
    with open("/proc/self/comm") as comm:  # noqa: PTH123
        name = comm.read().removesuffix("\n")
    fault = declare(ask, f'open sys/plain/value errno=EIO comm="{name}"')
    number = ask.inode("sys/plain/value")
    assert ask.errno("open", number, os.O_RDONLY, caller(0, os.getpid())) == errno.EIO
    for unknown in (0, (1 << 22) + 1):
        ask("open", number, os.O_RDONLY, caller(0, unknown))
    assert fault.hits == 1


@pytest.mark.parametrize(
    ("operation", "path"), [("open", "sys/plain/value"), ("read", "sys/plain/value"), ("write", "dev/zero")]
)
def test_a_delayed_request_holds_up_no_other(ask, operation, path):
    """Also not one for the same file: the kernel that is emulated never waits."""
    events = []
    handles = {each: ask.open(each, os.O_RDWR) for each in (path, "sys/plain/value")}
    number = ask.inode(path)
    fault = declare(ask, f"{operation} {path} delay=60min times=1")
    requests = {
        "open": lambda: ask.operations.open(number, os.O_RDONLY, CONTEXT),
        "read": lambda: ask.operations.read(handles[path], 0, 4096),
        "write": lambda: ask.operations.write(handles[path], 0, bytes(512)),
    }

    async def delayed():
        await requests[operation]()
        events.append(("delayed", trio.current_time() - start >= HOUR))

    async def requested():
        nonlocal start
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delayed)
            await trio.testing.wait_all_tasks_blocked()
            assert fault.hits == 1
            for name in requests:
                await requests[name]()
            await ask.operations.write(handles["sys/plain/value"], 0, b"now")
            events.append(("others", trio.current_time() - start < HOUR))

    start = 0.0
    trio.run(requested, clock=MockClock(autojump_threshold=0))
    assert events == [("others", True), ("delayed", True)]


def test_the_end_of_the_mount_ends_all_delays(ask):
    declare(ask, "read sys/plain/value delay=60min")
    handle = ask.open("sys/plain/value")
    answers = []

    async def read():
        answers.append(await ask.operations.read(handle, 0, 4096))

    async def ended():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert answers == []
            await ask.operations.stop()

    trio.run(ended)
    assert answers == [b"hello\n"]
