"""Asks the FUSE requests directly, without a kernel in between.

Where the tests expect an errno by itself, a real 6.1 kernel gave it to root.
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


class RecordingKernel:
    """Remembers what it was told to forget."""

    def __init__(self):
        self.forgotten = []

    def forget_name(self, directory, name):
        self.forgotten.append(("name", directory, name))

    def forget_attributes(self, inode):
        self.forgotten.append(("attributes", inode))

    def forget_pages(self, inode):
        self.forgotten.append(("pages", inode))


class Asker:
    """Asks `Operations` what the kernel would ask, and keeps a path's inodes looked up as the kernel does."""

    def __init__(self, tree=None, kernel=None, **options):
        self.tree = tree or toy.toy_tree()
        self.kernel = kernel or RecordingKernel()
        self.operations = Operations(self.tree, kernel=self.kernel, strict=True, **options)

    def __call__(self, handler, *arguments):
        return trio.run(getattr(self.operations, handler), *arguments)

    def errno(self, handler, *arguments):
        """The errno of a request that is refused."""
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


def set_attributes(ask, path, **values):
    return ask("setattr", ask.inode(path), attributes(**values), fields(**values), None, CONTEXT)
