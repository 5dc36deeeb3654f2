"""libkmod's index files: what is written is read back, and stands where libkmod looks for it."""

import struct

from hypothesis import given
from hypothesis import strategies as st
from kmod_index_reader import read_index

from nvdimmfs.formats.kmod_index import Entry, write_index

KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)
SIMILAR_KEYS = st.text("ab_", min_size=1, max_size=8)


@given(st.dictionaries(st.one_of(KEYS, SIMILAR_KEYS), st.tuples(KEYS, st.integers(0, 0xFFFFFFFF)), max_size=40))
def test_entries_are_read_back_by_key(found):
    entries = [Entry(key, value, priority) for key, (value, priority) in found.items()]
    assert list(read_index(write_index(entries))) == sorted(entries, key=lambda entry: entry.key.encode())


@given(st.permutations([Entry("nd:t4*", "nd_pmem", 5), Entry("nd:t", "a", 1), Entry("nd", "b", 2), Entry("x", "c", 3)]))
def test_the_order_of_entry_does_not_matter(entries):
    assert write_index(entries) == write_index(sorted(entries, key=lambda entry: entry.key))


def test_values_of_one_key_stand_by_priority_and_the_last_of_equals_first():
    entries = [Entry("dax:t0*", "kmem", 2), Entry("dax:t0*", "device_dax", 1), Entry("dax:t0*", "late", 2)]
    assert [entry.value for entry in read_index(write_index(entries))] == ["device_dax", "late", "kmem"]


def test_an_index_without_entries_is_a_header_and_a_root_without_parts():
    assert write_index([]) == struct.pack(">III", 0xB007F457, 0x00020001, 12)
    assert list(read_index(write_index([]))) == []


def test_a_small_index_byte_by_byte():
    """The root branches at the first character; the rest of the key is the child's prefix."""
    child = b"d_btt\0" + struct.pack(">II", 1, 7) + b"path:\0"
    root = b"nn" + struct.pack(">I", 12 | 0x80000000 | 0x40000000)
    header = struct.pack(">III", 0xB007F457, 0x00020001, 12 + len(child) | 0x20000000)
    assert write_index([Entry("nd_btt", "path:", 7)]) == header + child + root
