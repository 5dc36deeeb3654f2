"""Sends FUSE requests directly to `Operations`, without a kernel in between.

The errnos that the tests expect are those that a real 6.1 kernel returned to root, unless a test notes otherwise.
"""

from __future__ import annotations

import os
import select
from types import SimpleNamespace

import pyfuse3
import pytest
import toy
import trio

from nvdimmfs.fuse.operations import Operations

ROOT = pyfuse3.ROOT_INODE
CONTEXT = pyfuse3.RequestContext()
READY = select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM
NOTIFIED = READY | select.POLLERR | select.POLLPRI


class RecordingInvalidator:
    """Records the cache entries that it is asked to invalidate."""

    def __init__(self):
        self.calls = []

    def invalidate_name(self, directory, name):
        self.calls.append(("name", directory, name))

    def invalidate_attributes(self, inode):
        self.calls.append(("attributes", inode))

    def invalidate_pages(self, inode):
        self.calls.append(("pages", inode))


class Asker:
    """Sends `Operations` the requests that the kernel would send; keeps the inodes of a path looked up as it does."""

    def __init__(self, tree=None, invalidator=None, **options):
        self.tree = tree or toy.toy_tree()
        self.invalidator = invalidator or RecordingInvalidator()
        self.operations = Operations(self.tree, invalidator=self.invalidator, strict=True, **options)

    def __call__(self, handler, *arguments):
        return trio.run(getattr(self.operations, handler), *arguments)

    def errno(self, handler, *arguments):
        """The errno with which a request fails."""
        with pytest.raises(pyfuse3.FUSEError) as refusal:
            self(handler, *arguments)
        return refusal.value.errno

    def inode(self, path):
        """Look a path up, component by component."""
        inode = ROOT
        for name in filter(None, path.split("/")):
            inode = self("lookup", inode, name.encode(), CONTEXT).st_ino
        return inode

    def stat(self, path):
        return self("getattr", self.inode(path), CONTEXT)

    def open(self, path, flags=os.O_RDONLY):
        return self("open", self.inode(path), flags, CONTEXT).fh

    def read(self, path, offset=0, size=65536):
        handle = self.open(path)
        try:
            return self("read", handle, offset, size)
        finally:
            self("release", handle)

    def write(self, path, data, offset=0):
        handle = self.open(path, os.O_WRONLY)
        try:
            return self("write", handle, offset, data)
        finally:
            self("release", handle)


def fields(**updates):
    """The flags of a setattr request."""
    names = ("atime", "mtime", "ctime", "mode", "uid", "gid", "size")
    return SimpleNamespace(**{f"update_{name}": name in updates for name in names})


def attributes(**values):
    entry = pyfuse3.EntryAttributes()
    for name, value in values.items():
        setattr(entry, f"st_{name}_ns" if name.endswith("time") else f"st_{name}", value)
    return entry


def set_attributes(ask, path, caller=CONTEXT, **values):
    return ask("setattr", ask.inode(path), attributes(**values), fields(**values), None, caller)
