"""FUSE requests, sent directly: operations that sysfs refuses, and extended attributes."""

from __future__ import annotations

import errno
import os
import stat
from types import SimpleNamespace

import pyfuse3
import pytest
from asking import CONTEXT, ROOT

from nvdimmfs.fuse import daemon_identity


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (("create", ROOT, b"new", 0o644, os.O_WRONLY, CONTEXT), errno.EACCES),
        (("mknod", ROOT, b"new", stat.S_IFREG | 0o644, 0, CONTEXT), errno.EACCES),
        (("mknod", ROOT, b"new", stat.S_IFCHR | 0o644, os.makedev(1, 3), CONTEXT), errno.EPERM),
        (("mknod", ROOT, b"new", stat.S_IFIFO | 0o644, 0, CONTEXT), errno.EPERM),
        (("mkdir", ROOT, b"new", 0o755, CONTEXT), errno.EPERM),
        (("symlink", ROOT, b"new", b"target", CONTEXT), errno.EPERM),
        (("link", ROOT, ROOT, b"new", CONTEXT), errno.EPERM),
        (("unlink", ROOT, b"sys", CONTEXT), errno.EPERM),
        (("rmdir", ROOT, b"sys", CONTEXT), errno.EPERM),
        (("rename", ROOT, b"sys", ROOT, b"new", 0, CONTEXT), errno.EPERM),
        (("rename", ROOT, b"sys", ROOT, b"dev", pyfuse3.RENAME_EXCHANGE, CONTEXT), errno.EINVAL),
        (("rename", ROOT, b"sys", ROOT, b"new", pyfuse3.RENAME_NOREPLACE, CONTEXT), errno.EINVAL),
    ],
)
def test_creating_renaming_and_removing_files_is_refused(ask, request_, refusal):
    assert ask.errno(*request_) == refusal


@pytest.mark.parametrize("name", [b"trusted.x", b"security.x"])
def test_kernfs_keeps_trusted_and_security_xattrs(ask, name):
    inode = ask.inode("sys/plain/value")
    assert ask.errno("getxattr", inode, name, CONTEXT) == errno.ENODATA
    ask("setxattr", inode, name, b"v", CONTEXT)
    assert ask("getxattr", inode, name, CONTEXT) == b"v"
    assert ask("listxattr", inode, CONTEXT) == [name]
    ask("removexattr", inode, name, CONTEXT)
    assert ask.errno("removexattr", inode, name, CONTEXT) == errno.ENODATA
    assert ask("listxattr", inode, CONTEXT) == []


def test_only_root_sees_trusted_xattrs(ask):
    inode = ask.inode("sys/plain/value")
    ask("setxattr", inode, b"trusted.x", b"v", CONTEXT)
    assert ask("listxattr", inode, SimpleNamespace(uid=1000, pid=0)) == []


@pytest.mark.parametrize(
    ("name", "of_get", "of_set"),
    [
        (b"user.x", errno.ENODATA, errno.ENOTSUP),
        (b"system.posix_acl_access", errno.ENOTSUP, errno.ENOTSUP),
        (b"foo", errno.ENOTSUP, errno.ENOTSUP),
    ],
)
def test_other_xattrs_are_refused(ask, name, of_get, of_set):
    inode = ask.inode("sys/plain/value")
    assert ask.errno("getxattr", inode, name, CONTEXT) == of_get
    assert ask.errno("setxattr", inode, name, b"v", CONTEXT) == of_set
    assert ask.errno("removexattr", inode, name, CONTEXT) == of_set


@pytest.mark.parametrize("name", [b"user.", b"trusted.", b"security."])
def test_an_xattr_needs_a_name(ask, name):
    inode = ask.inode("sys/plain/value")
    assert ask.errno("getxattr", inode, name, CONTEXT) == errno.EINVAL
    assert ask.errno("setxattr", inode, name, b"v", CONTEXT) == errno.EINVAL
    assert ask.errno("removexattr", inode, name, CONTEXT) == errno.EINVAL


def test_only_the_root_directory_names_the_daemon(ask):
    name = daemon_identity.DAEMON_XATTR.encode()
    assert ask("getxattr", ROOT, name, CONTEXT).split()[0] == str(os.getpid()).encode()
    assert ask("listxattr", ROOT, CONTEXT) == []
    assert ask.errno("getxattr", ask.inode("sys"), name, CONTEXT) == errno.ENODATA
