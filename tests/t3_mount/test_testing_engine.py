"""An `Engine` and a mount of the same machine give the same answers."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from mounting import MACHINE

from nvdimmfs.testing import Engine

#: Unlike a path of pathlib, system calls make no second attempt.
MISTAKES = (
    ("sys/bus/nd/devices/region0/size", "1"),
    ("sys/bus/nd/drivers/nd_pmem/bind", "namespace0.0"),
    ("sys/bus/nd/drivers/nd_pmem/unbind", "x"),
    ("sys/bus/nd/devices/pfn0.0/mode", "fast"),
    ("sys/bus/nd/devices/region7", ""),
    ("sys/bus/nd/devices", "x"),
    ("sys/bus/nd/devices/region0/size/x", "x"),
    ("proc/iomem", "x"),
)


def write(path: Path, text: str) -> object:
    """Open, write once, close: how many bytes, or the errno."""
    try:
        file = os.open(path, os.O_WRONLY)
    except OSError as refusal:
        return refusal.errno
    try:
        return os.write(file, text.encode())
    except OSError as refusal:
        return refusal.errno
    finally:
        os.close(file)


def written(engine: Engine, path: str, text: str) -> object:
    try:
        return engine.write(path, text)
    except OSError as refusal:
        return refusal.errno


def mounted_tree(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            status = path.lstat()
            content: object = None
            if stat.S_ISLNK(status.st_mode):
                content = str(path.readlink())
            elif stat.S_ISREG(status.st_mode) and path.parent.name != "dev":
                try:
                    content = path.read_bytes()
                except OSError as refusal:
                    content = refusal.errno
            found[str(path.relative_to(root))] = (status.st_mode, status.st_size, status.st_nlink, content)
    return found


def engines_tree(engine: Engine, folder: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name in engine.ls(folder or "/"):
        path = f"{folder}/{name}".lstrip("/")
        status = engine.lstat(path)
        content: object = None
        if stat.S_ISLNK(status.st_mode):
            content = engine.readlink(path)
        elif stat.S_ISREG(status.st_mode) and folder != "dev":
            try:
                content = engine.read_bytes(path)
            except OSError as refusal:
                content = refusal.errno
        found[path] = (status.st_mode, status.st_size, status.st_nlink, content)
        if stat.S_ISDIR(status.st_mode):
            found |= engines_tree(engine, path)
    return found


@pytest.mark.parametrize("machine", ["e820", "qemu-nfit-labelled"])
def test_a_mount_and_an_engine_answer_alike(new_mount, machine):
    root = new_mount(MACHINE, "--machine", machine, "--clock", "manual").directory
    with Engine(machine, clock="manual", trace=False) as engine:
        assert engines_tree(engine) == mounted_tree(root)
        for path, text in MISTAKES:
            assert written(engine, path, text) == write(root / path, text), path
        disks = engine.ls("dev")
        for disk in disks:
            namespace = engine.readlink(f"sys/class/block/{disk}/device").rpartition("/")[2]
            for verb in ("unbind", "bind", "bind"):
                path = f"sys/bus/nd/drivers/nd_pmem/{verb}"
                assert written(engine, path, namespace) == write(root / path, namespace)
        assert engines_tree(engine) == mounted_tree(root)


def test_the_same_time_passes_on_a_mount_and_in_an_engine(new_mount):
    root = new_mount(MACHINE, "--machine", "nfit_test", "--clock", "steps").directory
    with Engine("nfit_test", clock="steps") as engine:
        for path in ("sys/bus/nd/devices/region0/size", "sys/bus/nd/devices/ndbus0/nfit/scrub", "proc/iomem"):
            assert engine.read(path) == (root / path).read_text()
        for path, text in MISTAKES:
            assert written(engine, path, text) == write(root / path, text), path
        clock = "sys/kernel/debug/nvdimmfs/clock"
        assert engine.read(clock) == (root / clock).read_text()
