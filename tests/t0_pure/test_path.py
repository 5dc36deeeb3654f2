"""Paths are followed as the kernel follows them."""

import errno

import pytest

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import BinaryFile, Directory, Symlink, Tree
from nvdimmfs.kernfs.path import MAX_LINKS, resolve
from nvdimmfs.media.memory import MemoryMedia


@pytest.fixture
def root():
    """/a/b/, /links/to_b -> ../a/b, and a chain of links that each lead to the one before."""
    root = Tree().root
    there = root.add(Directory("a")).add(Directory("b"))
    links = root.add(Directory("links"))
    before = links.add(Symlink("to_b", there))
    for number in range(MAX_LINKS):
        before = links.add(Symlink(f"chain{number}", before))
    return root


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("", "/"),
        ("/", "/"),
        ("a/b", "/a/b"),
        ("/a//b/", "/a/b"),
        ("a/./b/..", "/a"),
        ("../../a", "/a"),
        ("links/to_b", "/a/b"),
        ("links/to_b/..", "/a"),
        ("links/to_b/../../links", "/links"),
        (f"links/chain{MAX_LINKS - 2}", "/a/b"),
    ],
)
def test_a_path_leads_to_its_node(root, path, there):
    assert resolve(root, path).path == there


def test_the_last_link_is_followed_on_request_and_before_a_slash(root):
    assert resolve(root, "links/to_b", follow_last=False).path == "/links/to_b"
    assert resolve(root, "links/to_b/", follow_last=False).path == "/a/b"


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("c", errno.ENOENT),
        ("a/c/d", errno.ENOENT),
        (f"links/chain{MAX_LINKS - 1}", errno.ELOOP),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(root, path, number):
    with pytest.raises(KernelError) as refusal:
        resolve(root, path)
    assert refusal.value.errno == number


@pytest.mark.parametrize("path", ["file/", "file/x", "file/.."])
def test_no_path_leads_through_a_file(root, path):
    root.add(BinaryFile("file", 0o600, MemoryMedia(1)))
    with pytest.raises(KernelError) as refusal:
        resolve(root, path)
    assert refusal.value.errno == errno.ENOTDIR
