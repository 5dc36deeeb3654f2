"""Snapshots of objects of every kind."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import itertools
import os
import random
import threading
from collections import deque
from typing import ClassVar

import attrs
import pytest

from nvdimmfs.media.memory import CHUNK_SIZE, MemoryMedia
from nvdimmfs.media.populated import PopulatedMedia
from nvdimmfs.snapshot import Snapshot, without_collection


class Plain:
    """With a __dict__."""

    UNSAVED: ClassVar[frozenset[str]] = frozenset({"listener"})

    def __init__(self, value):
        self.value = value

    def method(self):
        """Refers to the instance."""


class Slotted:
    __slots__ = ("unset", "value")

    def __init__(self, value):
        self.value = value


@attrs.frozen
class Frozen:
    inner: list


class Constant:
    NEVER_CHANGES: ClassVar[bool] = True

    def __init__(self, inner):
        self.inner = inner


def counter():
    """A function that keeps its state in a closure."""
    count = 0

    def up():
        nonlocal count
        count += 1
        return count

    return up


def test_containers_are_restored_in_place_and_in_order():
    items, members, entries, queue, raw = [1, 2], {1}, {"a": 1, "b": 2}, deque([1]), bytearray(b"ab")
    snapshot = Snapshot([items, members, entries, queue, raw, (items, frozenset({3}))])
    for _ in range(2):
        items.append(3)
        members.add(2)
        del entries["a"]
        entries["c"] = entries["a"] = 3
        queue.clear()
        raw[:] = b"longer"
        snapshot.restore()
        assert (items, members, queue, raw) == ([1, 2], {1}, deque([1]), b"ab")
        assert list(entries.items()) == [("a", 1), ("b", 2)]


class Table(dict):
    """Counts how often it was emptied."""

    emptied = 0

    def clear(self):
        self.emptied += 1
        super().clear()


def test_a_dict_that_has_not_changed_is_not_written():
    """Two machines share tables, and another thread may use the other one."""
    table = Table(a=[], b=[])
    snapshot = Snapshot({"table": table})
    snapshot.restore()
    assert table.emptied == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.update(b=[]),
        lambda table: table.update(a=table.pop("a")),
        lambda table: table.pop("a"),
        lambda table: table.update(c=1),
    ],
    ids=["an equal value", "the order", "one less", "one more"],
)
def test_whatever_has_changed_in_a_dict_is_restored(change):
    table = {"a": [], "b": []}
    entries = [(key, id(value)) for key, value in table.items()]
    snapshot = Snapshot(table)
    change(table)
    snapshot.restore()
    assert [(key, id(value)) for key, value in table.items()] == entries


@pytest.mark.parametrize("kind", [Plain, Slotted])
def test_attributes_are_restored_and_new_ones_removed(kind):
    thing, inner = kind([1]), []
    thing.value.append(inner)
    snapshot = Snapshot(thing)
    value = thing.value
    inner.append(1)
    thing.value, thing.unset = 2, 3
    snapshot.restore()
    assert thing.value is value
    assert value == [1, []]
    assert not hasattr(thing, "unset")


def test_a_deleted_attribute_is_there_again():
    things = Plain(1), Slotted(1)
    snapshot = Snapshot(things)
    for thing in things:
        del thing.value
    snapshot.restore()
    assert [thing.value for thing in things] == [1, 1]


def test_what_a_frozen_object_a_function_a_method_and_a_partial_refer_to_is_restored():
    frozen, owner, up, partial = Frozen([1]), Plain(1), counter(), functools.partial(print, [1])
    method = owner.method
    snapshot = Snapshot({"all": (frozen, method, up, partial)})
    frozen.inner.append(2)
    owner.value = 2
    assert up() == 1
    partial.args[0].append(2)
    snapshot.restore()
    assert (frozen.inner, owner.value, up(), partial.args) == ([1], 1, 1, ([1],))


def test_an_unsaved_attribute_is_neither_restored_nor_followed():
    thing = Plain(1)
    thing.listener = seen = [1]
    snapshot = Snapshot(thing)
    assert seen not in snapshot
    seen.append(2)
    thing.listener = other = []
    snapshot.restore()
    assert seen == [1, 2]
    assert thing.listener is other


def test_a_snapshot_of_everything_has_that_too():
    thing = Plain(1)
    thing.listener = seen = [1]
    snapshot = Snapshot(thing, whole=True)
    seen.append(2)
    thing.listener = []
    snapshot.restore()
    assert thing.listener is seen
    assert seen == [1]


def test_a_constant_is_not_followed():
    constant = Constant(inner := [])
    snapshot = Snapshot([constant])
    assert inner not in snapshot
    assert constant not in snapshot


class Queue(deque):
    """Its items are out of sight of the attributes."""


@pytest.mark.parametrize(
    "stateful",
    [
        itertools.count(),
        (x for x in ()),
        iter([]),
        memoryview(b""),
        slice(1),
        random.Random(1),
        random.Random(1).random,
        io.BytesIO(b"ab"),
        ValueError("text"),
        Queue([1]),
    ],
    ids=lambda stateful: type(stateful).__name__,
)
def test_a_state_out_of_sight_is_an_error(stateful):
    with pytest.raises(TypeError, match="cannot be saved"):
        Snapshot([stateful])


def test_bytes_are_restored_and_shared_until_they_change():
    media = MemoryMedia(1 << 50)
    populated = PopulatedMedia(media, ((0, 1 << 50),))
    media.write(10, b"first")
    media.write(3 * CHUNK_SIZE, b"x" * CHUNK_SIZE)
    one = Snapshot(populated)
    populated.write(12, b"changed")
    populated.write(1 << 40, b"new")
    two = Snapshot(populated)
    populated.zero(0, 1 << 50)
    assert media.resident == 0
    populated.write(3 * CHUNK_SIZE, b"again")
    for snapshot, expected, resident in ((two, b"fichanged", 3), (one, b"first\0\0\0\0", 2), (two, b"fichanged", 3)):
        snapshot.restore()
        assert media.read(10, 9) == expected
        assert media.read(3 * CHUNK_SIZE, 2) == b"xx"
        assert media.resident == resident * CHUNK_SIZE
        media.write(0, b"z" * 100)
        media.zero(3 * CHUNK_SIZE, 1)
        media.zero(0, 5 * CHUNK_SIZE)


@pytest.fixture
def collecting():
    """Garbage is collected, before and after the test."""
    gc.enable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collecting")
class TestWithoutCollection:
    def test_contexts_that_overlap_restore_the_setting_when_the_last_ends(self):
        """Whichever began first: two threads may boot machines at once."""
        for order in ((0, 1), (1, 0)):
            contexts = [contextlib.ExitStack(), contextlib.ExitStack()]
            for each in contexts:
                each.enter_context(without_collection())
            for number, is_enabled in zip(order, (False, True), strict=True):
                contexts[number].close()
                assert gc.isenabled() == is_enabled

    def test_a_collector_that_was_off_stays_off(self):
        gc.disable()
        with without_collection():
            pass
        assert not gc.isenabled()

    @pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # since Python 3.12
    def test_a_process_that_another_thread_has_left_in_a_context_collects_again(self):
        entered, leave = threading.Event(), threading.Event()

        def wait_within():
            with without_collection():
                entered.set()
                leave.wait()

        thread = threading.Thread(target=wait_within)
        thread.start()
        entered.wait()
        try:
            child = os.fork()
            if child == 0:
                os._exit(0 if gc.isenabled() else 1)
            assert os.waitpid(child, 0)[1] == 0
            assert not gc.isenabled()
        finally:
            leave.set()
            thread.join()
        assert gc.isenabled()
